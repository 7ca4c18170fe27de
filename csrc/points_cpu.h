// SPDX-License-Identifier: Apache-2.0
// Noise at the points of one sample (extension 15).
//
// Points of a cloud share most of the noise that their filters read: it is made once, for the box around all of them,
// or for each point where that is less. The box is [t][x][y], so that the sums along x, of which each point has the
// most, are taken for W neighbours along y at a time.
#pragma once
#include "points.h"
#include "simd.h"

namespace {

constexpr int64_t BOX_FLOATS = 1 << 19;  // at least a point's own box, at the largest radius

struct Box {
    int first[3], count[3];  // t, y, x
    bool empty = true;
    void include(const PointAxis axes[3]) {
        for (int axis = 0; axis < 3; ++axis) {
            const int from = axes[axis].first, to = from + axes[axis].count;
            const int low = empty || from < first[axis] ? from : first[axis];
            const int high = empty || to > first[axis] + count[axis] ? to : first[axis] + count[axis];
            first[axis] = low;
            count[axis] = high - low;
        }
        empty = false;
    }
    int64_t pitch() const { return (count[1] + W - 1) / W * W; }
    int64_t floats() const { return (int64_t)count[0] * count[2] * pitch(); }
};

// noise: [t][x][pitch], lanes beyond count[1] zero.
inline void fill(const Box& box, uint64_t seed, uint64_t sample, float* noise) {
    const int64_t pitch = box.pitch();
    memset(noise, 0, sizeof(float) * (size_t)(box.floats() + W));
    const int begin = box.first[2], end = begin + box.count[2];
    for (int t = 0; t < box.count[0]; ++t)
        for (int y = 0; y < box.count[1]; ++y)
            for (int block = begin >> 3; block <= (end - 1) >> 3; ++block) {
                smn_u32 c[4] = {smn_counter0(block, box.first[1] + y),
                                smn_counter1(box.first[0] + t, SMN_PURPOSE_NOISE), (smn_u32)sample,
                                (smn_u32)(sample >> 32)};
                smn_philox(c, seed);
                for (int e = 0; e < 8; ++e) {
                    const int x = 8 * block + e;
                    if (x >= begin && x < end) noise[(t * (int64_t)box.count[2] + x - begin) * pitch + y] = smn_white_of(c[e >> 1], e);
                }
            }
}

// One filter at one point; row: [pitch] floats, column: [count t].
inline float filtered(const Box& box, const float* noise, const PointAxis axes[3], float* row, float* column) {
    const int64_t pitch = box.pitch();
    const PointAxis &t = axes[0], &y = axes[1], &x = axes[2];
    for (int i = 0; i < t.count; ++i) {
        const float* begin = noise + ((int64_t)(t.first - box.first[0] + i) * box.count[2] + x.first - box.first[2]) * pitch +
                             y.first - box.first[1];
        for (int lane = 0; lane < y.count; lane += W) {
            const float* at = begin + lane;
            vf sum;
            if (x.paired) {
                sum = splat(x.taps[0]) * load(at + x.radius * pitch);
                for (int k = 1; k <= x.radius; ++k)
                    sum += splat(x.taps[k]) * (load(at + (x.radius - k) * pitch) + load(at + (x.radius + k) * pitch));
            } else {
                sum = splat(x.taps[0]) * load(at);
                for (int k = 1; k < x.count; ++k) sum += splat(x.taps[k]) * load(at + k * pitch);
            }
            store(row + lane, sum);
        }
        column[i] = smn_point_sum(y, [=](int j) { return row[j]; });
    }
    return smn_point_sum(t, [=](int i) { return column[i]; });
}

inline size_t noise_at_bytes(const smn_points* p) {
    return sizeof(float) * ((size_t)BOX_FLOATS + W + 2 * ((size_t)p->side + W)) + 64;
}

inline void noise_at(const smn_points* points, uint64_t seed, uint64_t sample, const int64_t* sigma_table,
                     const int32_t* places, int64_t number, float* out, void* workspace) {
    const smn_points& p = *points;
    float *noise = (float*)workspace, *row = noise + BOX_FLOATS + W, *column = row + p.side + W;
    const int banks = p.color == SMN_WHITE ? 0 : p.first ? 2 : 1;
    int entry[2];
    smn_sigma_draw(seed, sample, p.first, (const smn_i64*)sigma_table, entry);
    auto axes_of = [&](int64_t i, int bank, PointAxis axes[3]) {
        for (int axis = 0; axis < 3; ++axis)
            axes[axis] = smn_point_axis(p, bank, entry[bank], axis, places[3 * i + axis]);
    };
    auto box_of = [&](int64_t i, Box& box) {
        PointAxis axes[3];
        for (int bank = 0; bank < banks; ++bank) {
            axes_of(i, bank, axes);
            box.include(axes);
        }
    };
    Box all;
    int64_t apart = 0;
    for (int64_t i = 0; i < number && banks; ++i) {
        Box own;
        box_of(i, own);
        box_of(i, all);
        apart += own.floats();
    }
    const bool together = banks && number && all.floats() <= BOX_FLOATS && all.floats() <= apart;
    if (together) fill(all, seed, sample, noise);
    for (int64_t i = 0; i < number; ++i) {
        float low[2] = {0, 0};
        Box own = all;
        if (!together && banks) {
            own = Box();
            box_of(i, own);
            fill(own, seed, sample, noise);
        }
        for (int bank = 0; bank < banks; ++bank) {
            PointAxis axes[3];
            axes_of(i, bank, axes);
            low[bank] = filtered(own, noise, axes, row, column);
        }
        const int32_t* q = places + 3 * i;
        const float white = smn_white(seed, sample, smn_nearest(q[0]), smn_nearest(q[1]), smn_nearest(q[2]));
        out[i] = smn_point_color(p.color, white, low[0], low[1]);
    }
}

}  // namespace
