// SPDX-License-Identifier: Apache-2.0
// Section 2 for a slab of cells: W rows of noise at a time, a row a lane.
#pragma once
#include "philox_cpu.h"

namespace {

struct Axis { int t, y, x; };

// The rows of a slab that are worked on, a row a lane: from row 0 on, then W rows further each time.
struct Rows {
    vi t, y;
    const int first_y, per_time;
    Rows(const Axis& grid, const Axis& reach) : first_y(-reach.y), per_time(grid.y + 2 * reach.y) {
        int at_t = -reach.t, at_y = first_y;
        for (int lane = 0; lane < W; ++lane) {
            t[lane] = at_t;
            y[lane] = at_y;
            if (++at_y == first_y + per_time) { at_y = first_y; ++at_t; }
        }
    }
    void advance() {
        y += W;
        for (int left = W; left > 0; left -= per_time) {
            vi beyond = y >= splat(first_y + per_time);
            y -= beyond & splat(per_time);
            t -= beyond;
        }
    }
};

// Counter words 0 (without the block) and 1 of W rows: of even ones, then of odd ones.
struct RowWords {
    vq y[2], t[2];
    RowWords(const Rows& rows, const int32_t origin[3]) {
        y[0] = (vq)(((vu)rows.y + (uint32_t)origin[1]) << 16);
        t[0] = (vq)(((vu)rows.t + (uint32_t)origin[0]) & 0x0FFFFFFFu);
        y[1] = y[0] >> 32;
        t[1] = t[0] >> 32;
    }
};
static_assert(SMN_PURPOSE_NOISE == 0, "RowWords leaves the purpose out");

// What a value of noise is written as; `upper` has it in its upper half, and zeros below.
struct AsFloat {  // section 2's value: a float holds all 32 bits, since the lower ones are zeros
    typedef float type;
    static vf of(vi upper) { return to_float(upper) * splat(0x1p-32f); }
};
struct AsKey {  // 2^16 times that: integers rank as the values do
    typedef int32_t type;
    static vi of(vi upper) { return upper >> 16; }
};

// Noise of W rows over blocks of eight along x: tile[8 * block + x][row].
template <class Value> struct NoiseTile {
    typedef typename Value::type type;
    const RowWords& row;
    const Keys& keys;
    // Of the first two rounds, what the blocks of a row have in common.
    vq third, first, second[2], fourth[2];
    NoiseTile(const RowWords& row, uint64_t sample, const Keys& keys) : row(row), keys(keys) {
        const uint64_t p1 = (uint64_t)(uint32_t)sample * SMN_PHILOX_M1;
        third = splat(sample >> 32) ^ keys.second(0);
        first = splat(p1) ^ keys.first(1);
        for (int odd = 0; odd < 2; ++odd) {
            fourth[odd] = multiply_low(splat(p1 >> 32) ^ row.t[odd] ^ keys.first(0), SMN_PHILOX_M0);
            second[odd] = (fourth[odd] >> 32) ^ keys.second(1);
        }
    }
    // `count` blocks from `block` on.
    template <int count> void blocks(type* tile, int64_t block) const {
        vq c[2 * count][4];
        SMN_UNROLL for (int i = 0; i < 2 * count; ++i) {
            const vq number = splat((uint64_t)(block + i / 2) & 0xFFFF);
            vq p0 = multiply_low(row.y[i % 2] | number, SMN_PHILOX_M0);
            c[i][1] = multiply_low((p0 >> 32) ^ third, SMN_PHILOX_M1);
            c[i][0] = (c[i][1] >> 32) ^ first;
            c[i][2] = p0 ^ second[i % 2];
            c[i][3] = fourth[i % 2];
        }
        philox_lanes<2 * count, 2>(c, keys);
        SMN_UNROLL for (int word = 0; word < 4 * count; ++word) {
            vi bits = low_halves(c[word / 4 * 2][word % 4], c[word / 4 * 2 + 1][word % 4]);
            store(tile + 2 * word * W, Value::of(bits << 16));
            store(tile + (2 * word + 1) * W, Value::of(bits & splat((int32_t)0xFFFF0000)));
        }
    }
    // As many at once as chains keep the multiplier busy.
    void write(type* tile, int64_t block, int count) const {
        for (; count > 4 || count == 3; count -= 3, block += 3, tile += 3 * 8 * W) this->template blocks<3>(tile, block);
        for (; count > 1; count -= 2, block += 2, tile += 2 * 8 * W) this->template blocks<2>(tile, block);
        if (count) this->template blocks<1>(tile, block);
    }
};

}  // namespace
