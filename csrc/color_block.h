// SPDX-License-Identifier: Apache-2.0
// Sections 1 to 5 by a block of threads: noise, both filters and the colour of one sample, in shared memory.
//
// Idea: stream over t. A few slices of white noise are made at a time, filtered along x (both sigmas from one
// read, since they share the sums of neighbours), then along y, and put on a stack; the filter along t then reads
// the stack. Noise is made once, for the wider filter's halo. A grid whose stack does not fit is cut into tiles.
// Who owns what: a thread owns RUN neighbouring outputs along the filtered axis, and slides two windows of as
// many inputs outwards, so that each tap costs two reads for RUN outputs. Lanes lie across the axis.
//
// Arithmetic at (8, 14, 14), default sigmas, field, mean over the draws (no fused multiply-adds, by contract):
// bench/floor.py counts it.
#pragma once
#include "threshold_block.h"

enum { SMN_RUN = 7, SMN_RUN_T = 4 };

// Where the parts of shared memory lie, in floats, and this sample's filters.
struct ColorBlock {
    const smn_plan* plan;
    smn_u64 seed, sample;
    int origin[3];
    const float* taps[2];  // [3 axes][taps_stride] of this sample's sigmas
    int radius[2][3];
    float* noise;     // [slices][rows][pitch]
    float* rows[2];   // [slices][rows][tile x | 1], filtered along x
    float* stack[2];  // [tile t + halo][tile y][tile x], filtered along x and y
};

SMN_FN int smn_least(int a, int b) { return a < b ? a : b; }
SMN_FN int smn_most(int a, int b) { return a > b ? a : b; }

// The outputs at positions `at .. at + RUN - 1` of an axis of n inputs, at(i) giving the i-th. What lies beyond the
// end is never stored by the caller; its inputs are clamped (or wrapped) to be in range.
template <int RUN, bool TORUS, class Input>
SMN_FN void filter_run(float (&out)[RUN], Input at, int first, int n, const float* g, int radius) {
    float left[RUN], right[RUN];  // input m from `first` is in slot m mod RUN
    int lower = first, upper = first;
SMN_UNROLL_DEVICE
    for (int j = 0; j < RUN; ++j) {
        float v = at(upper);
        left[j] = right[j] = v;
        out[j] = g[0] * v;
        if (j < RUN - 1) upper = TORUS ? (upper + 1 == n ? 0 : upper + 1) : smn_least(upper + 1, n - 1);
    }
    for (int k = 1; k <= radius; k += RUN) {
SMN_UNROLL_DEVICE
        for (int u = 0; u < RUN; ++u) {
            if (k + u > radius) break;
            lower = TORUS ? (lower == 0 ? n - 1 : lower - 1) : smn_most(lower - 1, 0);
            upper = TORUS ? (upper + 1 == n ? 0 : upper + 1) : smn_least(upper + 1, n - 1);
            left[RUN - 1 - u] = at(lower);
            right[u] = at(upper);
            const float weight = g[k + u];
SMN_UNROLL_DEVICE
            for (int j = 0; j < RUN; ++j) {
                float sum = left[(j + 2 * RUN - 1 - u) % RUN] + right[(j + 1 + u) % RUN];
                out[j] = out[j] + weight * sum;
            }
        }
    }
}

// Both sigmas at once, from the same inputs: the narrower filter stops earlier.
template <int RUN, bool TORUS, class Input>
SMN_FN void filter_run_both(float (&narrow)[RUN], float (&wide)[RUN], Input at, int first, int n,
                            const float* g_narrow, const float* g_wide, int r_narrow, int r_wide) {
    float left[RUN], right[RUN];
    int lower = first, upper = first;
SMN_UNROLL_DEVICE
    for (int j = 0; j < RUN; ++j) {
        float v = at(upper);
        left[j] = right[j] = v;
        narrow[j] = g_narrow[0] * v;
        wide[j] = g_wide[0] * v;
        if (j < RUN - 1) upper = TORUS ? (upper + 1 == n ? 0 : upper + 1) : smn_least(upper + 1, n - 1);
    }
    for (int k = 1; k <= r_wide; k += RUN) {
SMN_UNROLL_DEVICE
        for (int u = 0; u < RUN; ++u) {
            if (k + u > r_wide) break;
            lower = TORUS ? (lower == 0 ? n - 1 : lower - 1) : smn_most(lower - 1, 0);
            upper = TORUS ? (upper + 1 == n ? 0 : upper + 1) : smn_least(upper + 1, n - 1);
            left[RUN - 1 - u] = at(lower);
            right[u] = at(upper);
            const bool both = k + u <= r_narrow;
            const float w_wide = g_wide[k + u], w_narrow = both ? g_narrow[k + u] : 0.0f;
SMN_UNROLL_DEVICE
            for (int j = 0; j < RUN; ++j) {
                float sum = left[(j + 2 * RUN - 1 - u) % RUN] + right[(j + 1 + u) % RUN];
                wide[j] = wide[j] + w_wide * sum;
                if (both) narrow[j] = narrow[j] + w_narrow * sum;
            }
        }
    }
}

// Eight neighbours along x: f(e, value) for e = 0 .. 7.
template <class F>
SMN_FN void white_block(smn_u64 seed, smn_u64 sample, smn_i64 t, smn_i64 y, smn_i64 block, F f) {
    smn_u32 c[4] = {smn_counter0(block, y), smn_counter1(t, SMN_PURPOSE_NOISE), (smn_u32)sample,
                    (smn_u32)(sample >> 32)};
    smn_philox(c, seed);
SMN_UNROLL_DEVICE
    for (int e = 0; e < 8; ++e) f(e, smn_white_of(c[e >> 1], e));
}

SMN_FN int smn_modulo(int i, int n) {
    int m = i % n;
    return m < 0 ? m + n : m;
}

// The taps of this sample, copied to shared memory; where everything else lies behind them.
SMN_FN ColorBlock color_block(Block& block, const smn_plan& plan, smn_u64 seed, smn_u64 sample,
                              const int64_t* sigma_table, float* shared) {
    const smn_layout& lay = plan.layout;
    ColorBlock c;
    c.plan = &plan;
    c.seed = seed;
    c.sample = sample;
    SMN_UNROLL_DEVICE
    for (int axis = 0; axis < 3; ++axis) c.origin[axis] = plan.origin[axis];
    int index[2];
    smn_sigma_draw(seed, sample, plan.first, (const smn_i64*)sigma_table, index);
    const int stride = plan.taps_stride, colors = plan.color == SMN_WHITE ? 0 : plan.first ? 2 : 1;
    SMN_UNROLL_DEVICE
    for (int b = 0; b < 2; ++b) {
        const int row = (b * SMN_BANK + index[b]) * 3;
        c.taps[b] = shared + b * 3 * stride;
        SMN_UNROLL_DEVICE
        for (int axis = 0; axis < 3; ++axis) c.radius[b][axis] = b < colors ? plan.radius[row + axis] : 0;
        float* to = shared + b * 3 * stride;
        const float* from = plan.taps + (smn_i64)row * stride;
        if (b < colors) block.tasks_freely(3 * stride, [=](int i) { to[i] = from[i]; });  // read behind the noise
    }
    const bool wide = colors == 2;  // the noise has the second bank's halo
    const int rows = lay.tile[1] + 2 * (wide ? lay.halo[1][1] : lay.halo[0][1]);
    c.noise = shared + 6 * stride;
    c.rows[0] = c.noise + lay.slices * rows * lay.pitch;
    c.rows[1] = c.rows[0] + lay.slices * rows * (lay.tile[2] | 1);
    c.stack[0] = c.rows[1] + (wide ? lay.slices * rows * (lay.tile[2] | 1) : 0);
    c.stack[1] = c.stack[0] + (lay.tile[0] + 2 * lay.halo[0][0]) * lay.tile[1] * lay.tile[2];
    return c;
}

// Extension 13: the window lies elsewhere. place: t, y, x, of this sample.
SMN_FN void color_at(ColorBlock& c, const int64_t* place) {
    SMN_UNROLL_DEVICE
    for (int axis = 0; axis < 3; ++axis) c.origin[axis] += smn_place(place[axis], axis);
}

// The field of one tile, written to scores[(t * Y + y) * X + x]. from: the tile's first t, y, x.
template <bool TORUS, bool TWO>
SMN_FN void color_tile(Block& block, const ColorBlock& c, const int (&from)[3], float* scores) {
    const smn_plan& plan = *c.plan;
    const smn_layout& lay = plan.layout;
    constexpr int WIDE = TWO ? 1 : 0;
    int size[3], halo[3], narrow_inset[3];
    SMN_UNROLL_DEVICE
    for (int axis = 0; axis < 3; ++axis) {
        size[axis] = smn_least(lay.tile[axis], plan.grid[axis] - from[axis]);
        halo[axis] = TORUS ? 0 : c.radius[WIDE][axis];
        narrow_inset[axis] = TORUS || !TWO ? 0 : c.radius[1][axis] - c.radius[0][axis];
    }
    const int sx = size[2], rows_x = lay.tile[2] | 1, pitch = lay.pitch;
    const int rows = size[1] + 2 * halo[1], columns = sx + 2 * halo[2], depth = size[0] + 2 * halo[0];
    const int plane = size[1] * sx;
    const int runs_x = (sx + SMN_RUN - 1) / SMN_RUN, runs_y = (size[1] + SMN_RUN - 1) / SMN_RUN;
    const int t0 = c.origin[0] + from[0] - halo[0], y0 = c.origin[1] + from[1] - halo[1];
    const int x0 = c.origin[2] + from[2] - halo[2];
    const int lead = plan.wrap && !TORUS ? 0 : x0 & 7, blocks = (lead + columns + 7) / 8;
    const bool wrapped_window = plan.wrap && !TORUS;

    for (int s0 = 0; s0 < depth; s0 += lay.slices) {
        const int slices = smn_least(lay.slices, depth - s0), lines = slices * rows;
        if (wrapped_window) {  // a tile of a torus too large for one tile: value by value
            block.tasks(lines * columns, [=](int i) {
                const int x = i / lines, line = i % lines, s = line / rows, y = line % rows;
                const smn_plan& p = *c.plan;
                c.noise[line * pitch + x] = smn_white(
                    c.seed, c.sample, c.origin[0] + smn_modulo(from[0] - halo[0] + s0 + s, p.grid[0]),
                    c.origin[1] + smn_modulo(from[1] - halo[1] + y, p.grid[1]),
                    c.origin[2] + smn_modulo(from[2] - halo[2] + x, p.grid[2]));
            });
        } else {
            block.tasks(lines * blocks, [=](int i) {
                const int b = i / lines, line = i % lines, s = line / rows, y = line % rows;
                float* to = c.noise + line * pitch + b * 8;
                white_block(c.seed, c.sample, t0 + s0 + s, y0 + y, (x0 >> 3) + b,
                            [=](int e, float v) { to[e] = v; });
            });
        }
        block.tasks(lines * runs_x, [=](int i) {
            const int line = i % lines, x = i / lines * SMN_RUN;
            const float* in = c.noise + line * pitch + lead;
            float narrow[SMN_RUN], wide[SMN_RUN];
            if (TWO)
                filter_run_both<SMN_RUN, TORUS>(narrow, wide, [=](int at) { return in[at]; }, x + halo[2], columns,
                                                c.taps[0] + 2 * plan.taps_stride, c.taps[1] + 2 * plan.taps_stride,
                                                c.radius[0][2], c.radius[1][2]);
            else
                filter_run<SMN_RUN, TORUS>(narrow, [=](int at) { return in[at]; }, x + halo[2], columns,
                                           c.taps[0] + 2 * plan.taps_stride, c.radius[0][2]);
SMN_UNROLL_DEVICE
            for (int j = 0; j < SMN_RUN; ++j) {
                if (x + j >= sx) break;
                c.rows[0][line * rows_x + x + j] = narrow[j];
                if (TWO) c.rows[1][line * rows_x + x + j] = wide[j];
            }
        });
        const int columns_y = slices * sx;
        block.tasks((TWO ? 2 : 1) * columns_y * runs_y, [=](int i) {
            const int b = i / (columns_y * runs_y), column = i % columns_y, y = i / columns_y % runs_y * SMN_RUN;
            const int s = column / sx, x = column % sx;
            // Chosen, not indexed: a thread's array with a run-time index lives in slow local memory.
            const int inset = b == WIDE ? 0 : narrow_inset[0];
            const int slice = s0 + s - inset;
            if (slice < 0 || slice >= depth - 2 * inset) return;
            const float* in = (b ? c.rows[1] : c.rows[0]) + s * rows * rows_x + x;
            float out[SMN_RUN];
            filter_run<SMN_RUN, TORUS>(out, [=](int at) { return in[at * rows_x]; }, y + halo[1], rows,
                                       (b ? c.taps[1] : c.taps[0]) + plan.taps_stride,
                                       b ? c.radius[1][1] : c.radius[0][1]);
            float* to = (b ? c.stack[1] : c.stack[0]) + (slice * size[1] + y) * sx + x;
SMN_UNROLL_DEVICE
            for (int j = 0; j < SMN_RUN; ++j) {
                if (y + j >= size[1]) break;
                to[j * sx] = out[j];
            }
        });
    }

    const int runs_t = (size[0] + SMN_RUN_T - 1) / SMN_RUN_T;
    block.tasks(plane * runs_t, [=](int i) {
        const int place = i % plane, t = i / plane * SMN_RUN_T;
        float g1[SMN_RUN_T], g2[SMN_RUN_T];
        {
            const float* in = c.stack[0] + place;
            const int inset = halo[0] - narrow_inset[0];
            filter_run<SMN_RUN_T, TORUS>(g1, [=](int at) { return in[at * plane]; }, t + inset,
                                         depth - 2 * narrow_inset[0], c.taps[0], c.radius[0][0]);
        }
        if (TWO) {
            const float* in = c.stack[1] + place;
            filter_run<SMN_RUN_T, TORUS>(g2, [=](int at) { return in[at * plane]; }, t + halo[0], depth, c.taps[1],
                                         c.radius[1][0]);
        }
        const smn_plan& p = *c.plan;
        const int y = from[1] + place / sx, x = from[2] + place % sx;
SMN_UNROLL_DEVICE
        for (int j = 0; j < SMN_RUN_T; ++j) {
            if (t + j >= size[0]) break;
            float* score = scores + ((smn_i64)(from[0] + t + j) * p.grid[1] + y) * p.grid[2] + x;
            const float band = TWO ? g1[j] - g2[j] : g1[j];
            *score = p.color == SMN_BLUE || p.color == SMN_PURPLE ? *score - band : band;
        }
    });
}

// White noise over the grid, for the colours that contain it.
SMN_FN void white_grid(Block& block, const ColorBlock& c, const int (&from)[3], const int (&size)[3], float* scores) {
    const int x0 = c.origin[2] + from[2], lead = x0 & 7, blocks = (lead + size[2] + 7) / 8;
    const int lines = size[0] * size[1];
    block.tasks(lines * blocks, [=](int i) {
        const smn_plan& p = *c.plan;
        const int b = i / lines, line = i % lines, t = from[0] + line / size[1], y = from[1] + line % size[1];
        float* row = scores + ((smn_i64)t * p.grid[1] + y) * p.grid[2] + from[2];
        const int first = b * 8 - lead;
        white_block(c.seed, c.sample, c.origin[0] + t, c.origin[1] + y, (x0 >> 3) + b, [=](int e, float v) {
            if (first + e >= 0 && first + e < size[2]) row[first + e] = v;
        });
    });
}

SMN_FN int color_tiles(const smn_plan& plan) {
    int tiles = 1;
    for (int axis = 0; axis < 3; ++axis)
        tiles *= (plan.grid[axis] + plan.layout.tile[axis] - 1) / plan.layout.tile[axis];
    return tiles;
}

// Tile number `tile` of one sample's field; scores is [L], in shared or global memory.
template <bool TORUS, bool TWO>
SMN_FN void color_field(Block& block, const ColorBlock& c, int tile, float* scores) {
    const smn_plan& plan = *c.plan;
    int from[3], size[3];
    SMN_UNROLL_DEVICE
    for (int axis = 2; axis >= 0; --axis) {
        const int along = (plan.grid[axis] + plan.layout.tile[axis] - 1) / plan.layout.tile[axis];
        from[axis] = tile % along * plan.layout.tile[axis];
        size[axis] = smn_least(plan.layout.tile[axis], plan.grid[axis] - from[axis]);
        tile /= along;
    }
    if (plan.color != SMN_RED && plan.color != SMN_GREEN) white_grid(block, c, from, size, scores);
    if (plan.color != SMN_WHITE) color_tile<TORUS, TWO>(block, c, from, scores);
}
