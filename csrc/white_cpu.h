// SPDX-License-Identifier: Apache-2.0
// Masks of white noise: sections 2 and 6 with no filter between them. The integers that the noise is made of rank as its
// values do, and their mean and deviation are known, so that the search for the cut needs no pass of its own for them.
#pragma once
#include "noise_cpu.h"
#include "threshold_cpu.h"

namespace {

inline int32_t whole(float score) { return (int32_t)score; }
constexpr Spread UNIFORM = {-0.5f, 18918.6f, whole};  // 2^16 / sqrt(12)

// tile: [X + 16 + W][W]; keys: [(rows + W) * X + 2 * W]; scratch: threshold_bytes.
inline void white_masks(const smn_plan& p, uint64_t seed, uint64_t sample, const smn_outputs& out, int32_t* tile,
                        int32_t* keys, char* scratch) {
    const Axis grid = {p.grid[0], p.grid[1], p.grid[2]};
    const smn_ranking& r = p.ranking;
    const int64_t rows = (int64_t)grid.t * grid.y, tokens = rows * grid.x, first = p.origin[2];
    const int blocks = (int)(((first + grid.x - 1) >> 3) - (first >> 3) + 1);
    const Keys philox_keys(seed);
    Rows of_lanes(grid, {0, 0, 0});
    for (int64_t row = 0; row < rows; row += W) {
        NoiseTile<AsKey>(RowWords(of_lanes, p.origin), sample, philox_keys).write(tile, first >> 3, blocks);
        store_transposed(tile + (first & 7) * W, keys + row * grid.x, grid.x, grid.x);
        of_lanes.advance();
    }
    int32_t* ranked = (int32_t*)scratch;  // the keys of one ranking, and behind them what ranks last
    uint8_t* mask = out.mask ? out.mask : (uint8_t*)(ranked + padded(r.tokens) + W);
    for (int g = 0; g < r.groups; ++g) {
        int32_t* of_group = keys;
        if (r.groups > 1) {
            memcpy(ranked, keys + (int64_t)g * r.tokens, sizeof(int32_t) * (size_t)r.tokens);
            of_group = ranked;
        }
        for (int64_t i = r.tokens; i < padded(r.tokens); ++i) of_group[i] = INT32_MIN;
        cut_keys(r, of_group, UNIFORM, mask + (int64_t)g * r.tokens);
    }
    if (out.ids_keep || out.ids_mask || out.ids_restore) write_ids(mask, tokens, (int64_t)r.groups * r.visible, out);
}

}  // namespace
