// SPDX-License-Identifier: Apache-2.0
// One axis of a filter at a point between lattice places (extension 15), for the CPU and GPUs.
#pragma once
#include "contract.h"
#include "plan.h"

enum { SMN_PHASES = 16 };

struct PointAxis {
    const float* taps;
    int radius, first, count;  // lattice places first .. first + count - 1 are read
    bool paired;               // phase 0: as section 4
};

// place: sixteenths. An axis that is not filtered is read at the nearest lattice place, halves going up.
SMN_FN int smn_nearest(int place) { return (place + SMN_PHASES / 2) >> 4; }

SMN_FN PointAxis smn_point_axis(const smn_points& p, int bank, int entry, int axis, int place) {
    const int row = (bank * SMN_BANK + entry) * 3 + axis, radius = p.radius[row];
    const int phase = radius ? place & (SMN_PHASES - 1) : 0;
    PointAxis a;
    a.taps = p.taps + ((smn_i64)row * SMN_PHASES + phase) * p.side;
    a.radius = radius;
    a.paired = phase == 0;
    a.first = (radius ? place >> 4 : smn_nearest(place)) - radius;
    a.count = 2 * radius + (a.paired ? 1 : 2);
    return a;
}

// The sum over an axis, value(i) being that at place first + i.
template <class Value>
SMN_FN float smn_point_sum(const PointAxis& a, Value value) {
    if (a.paired) {
        float sum = a.taps[0] * value(a.radius);
        for (int k = 1; k <= a.radius; ++k) sum = sum + a.taps[k] * (value(a.radius - k) + value(a.radius + k));
        return sum;
    }
    float sum = a.taps[0] * value(0);
    for (int i = 1; i < a.count; ++i) sum = sum + a.taps[i] * value(i);
    return sum;
}

// Section 5. white: at the nearest lattice place.
SMN_FN float smn_point_color(int color, float white, float g1, float g2) {
    if (color == SMN_WHITE) return white;
    if (color == SMN_RED) return g1;
    if (color == SMN_BLUE) return white - g1;
    return color == SMN_GREEN ? g1 - g2 : white - (g1 - g2);
}
