// SPDX-License-Identifier: Apache-2.0
// What a row of several lengths (extension 14) shows, for the CPU and GPUs.
#pragma once
#include "contract.h"
#include "plan.h"

enum { SMN_STARTS = 64 };

// Lengths and counts that no host has looked at stay within a row and its outputs all the same.
SMN_FN int smn_ragged_length(const smn_ragged& r, int64_t length) {
    const int64_t room = (int64_t)r.keep + r.hide, most = room < r.tokens ? room : r.tokens;
    return (int)(length < 0 ? 0 : length > most ? most : length);
}
SMN_FN smn_slot smn_ragged_slot(const smn_ragged& r, int64_t length, int64_t visible) {
    const int n = smn_ragged_length(r, length);
    const int least = n > r.hide ? n - r.hide : 0, most = n < r.keep ? n : r.keep;
    const int v = (int)(visible < least ? least : visible > most ? most : visible);
    const float* start = r.starts + 2 * (n ? (int)((int64_t)SMN_STARTS * v / n) : 0);
    smn_slot slot;
    slot.visible = v;
    slot.quantile = start[0];
    slot.slope = start[1] * (float)n;
    return slot;
}
