// SPDX-License-Identifier: Apache-2.0
// Sections 1 to 5 as in color_block.h, for clips of 14 x 14 tokens a time step (224 pixels in patches of 16), a multiple
// of eight steps. Sizes are constants, so that addresses are, and no index is clamped or wrapped.
//
// Who owns what: along x a thread owns a line of noise and puts its filtered values in their place; along y a column
// of one filter; along t eight tokens of a place. A field slides two windows outwards, as filter_run does; on a torus a
// line lies in registers, in a ring.
#pragma once
#include "color_block.h"

enum { CLIP_SIDE = 14, CLIP_PLANE = CLIP_SIDE * CLIP_SIDE, CLIP_RUN_T = 8 };
// The largest radius. A line in floats, twice an odd number, for stores in pairs: 14 values with such a halo on each
// side, in whole blocks of eight; then what both filters make of it. On a torus no halo.
enum { CLIP_RADIUS = 12 };
enum { CLIP_LINE = 50, CLIP_LINE_OF_TORUS = 2 * CLIP_SIDE + 2 };

// Floats for noise, and then for the scores of a field.
SMN_FN int clip_room(const smn_plan& plan) {
    const smn_layout& lay = plan.layout;
    const int rows = CLIP_SIDE + 2 * lay.halo[plan.first ? 1 : 0][1];
    return smn_most(lay.slices * rows * CLIP_LINE, plan.grid[0] * CLIP_PLANE);
}

// A line of noise, at t, y, from the block of eight `first` on.
SMN_FN void clip_noise(const ColorBlock& c, int t, int y, int first, int blocks, float* line) {
SMN_TWICE_DEVICE
    for (int b = 0; b < blocks; ++b)
        white_pairs(c.seed, c.sample, t, y, first + b,
                    [=](int i, float even, float odd) { Block::put_pair(line + 8 * b + 2 * i, even, odd); });
}

// The outputs at `first .. first + RUN - 1` of an axis, in[i * STRIDE] being the i-th input from the first. All that lie
// within the radius exist.
template <int RUN, int STRIDE>
SMN_FN void clip_run(float (&out)[RUN], const float* in, const float* g, int radius) {
    float left[RUN], right[RUN];  // input m is in slot m mod RUN
SMN_UNROLL_DEVICE
    for (int j = 0; j < RUN; ++j) {
        left[j] = right[j] = in[j * STRIDE];
        out[j] = g[0] * left[j];
    }
SMN_UNROLL_DEVICE
    for (int k = 1; k <= CLIP_RADIUS; ++k) {
        if (k > radius) break;
        left[(2 * RUN - k) % RUN] = in[-k * STRIDE];
        right[(k - 1) % RUN] = in[(RUN - 1 + k) * STRIDE];
SMN_UNROLL_DEVICE
        for (int j = 0; j < RUN; ++j) {
            const float sum = left[(j + 2 * RUN - k) % RUN] + right[(j + k) % RUN];
            out[j] = out[j] + g[k] * sum;
        }
    }
}

// Both sigmas at once, from the same inputs: the narrower filter stops earlier.
template <int RUN>
SMN_FN void clip_run_both(float (&narrow)[RUN], float (&wide)[RUN], const float* in, const float* g_narrow,
                          const float* g_wide, int r_narrow, int r_wide) {
    float left[RUN], right[RUN];
SMN_UNROLL_DEVICE
    for (int j = 0; j < RUN; ++j) {
        left[j] = right[j] = in[j];
        narrow[j] = g_narrow[0] * left[j];
        wide[j] = g_wide[0] * left[j];
    }
SMN_UNROLL_DEVICE
    for (int k = 1; k <= CLIP_RADIUS; ++k) {
        if (k > r_wide) break;
        left[RUN - k] = in[-k];
        right[k - 1] = in[RUN - 1 + k];
        float sum[RUN];
SMN_UNROLL_DEVICE
        for (int j = 0; j < RUN; ++j) {
            sum[j] = left[(j + RUN - k) % RUN] + right[(j + k) % RUN];
            wide[j] = wide[j] + g_wide[k] * sum[j];
        }
        if (k > r_narrow) continue;
SMN_UNROLL_DEVICE
        for (int j = 0; j < RUN; ++j) narrow[j] = narrow[j] + g_narrow[k] * sum[j];
    }
}

// The same of a whole ring of N values.
template <int N>
SMN_FN void clip_ring(float (&out)[N], const float (&in)[N], const float* g, int radius) {
SMN_UNROLL_DEVICE
    for (int j = 0; j < N; ++j) out[j] = g[0] * in[j];
SMN_UNROLL_DEVICE
    for (int k = 1; k <= CLIP_RADIUS; ++k) {
        if (k > radius) break;
SMN_UNROLL_DEVICE
        for (int j = 0; j < N; ++j) out[j] = out[j] + g[k] * (in[(j + 2 * N - k) % N] + in[(j + k) % N]);
    }
}

// What the t filters made of a place, at t .. t + CLIP_RUN_T - 1.
template <bool TWO, int N>
SMN_FN void clip_band(const smn_plan& plan, const float (&narrow)[N], const float (&wide)[N], float* score) {
    const bool rest = plan.color == SMN_BLUE || plan.color == SMN_PURPLE;  // what is left of white noise
SMN_UNROLL_DEVICE
    for (int j = 0; j < N; ++j) {
        const float band = TWO ? narrow[j] - wide[j] : narrow[j];
        score[j * CLIP_PLANE] = rest ? score[j * CLIP_PLANE] - band : band;
    }
}

SMN_FN void clip_white(Block& block, const ColorBlock& c, float* scores) {
    const int from[3] = {0, 0, 0}, size[3] = {c.plan->grid[0], CLIP_SIDE, CLIP_SIDE};
    if (c.plan->color != SMN_RED && c.plan->color != SMN_GREEN) white_grid(block, c, from, size, scores);
}

// memory: behind the taps. Returns the scores, which may lie where the noise was.
template <bool TWO> SMN_FN float* clip_window(Block& block, const ColorBlock& c, float* memory) {
    const smn_plan& plan = *c.plan;
    const smn_layout& lay = plan.layout;
    constexpr int WIDE = TWO ? 1 : 0, SIDE = CLIP_SIDE, PLANE = CLIP_PLANE;
    constexpr int pitch = CLIP_LINE;
    const int stride = plan.taps_stride, S = lay.slices, T = plan.grid[0];
    const int* halo = c.radius[WIDE];
    const int inset = TWO ? c.radius[1][0] - c.radius[0][0] : 0;  // of the narrower filter's slices
    const int rows = SIDE + 2 * halo[1], depth = T + 2 * halo[0];
    const int t0 = c.origin[0] - halo[0], y0 = c.origin[1] - halo[1], x0 = c.origin[2] - halo[2];
    const int lead = x0 & 7, blocks = (lead + SIDE + 2 * halo[2] + 7) / 8;
    const Divider by_rows = Divider::of(rows, S * rows);
    const int room = clip_room(plan);
    float* const stack[2] = {memory + room, memory + room + (T + 2 * lay.halo[0][0]) * PLANE};

    block.barrier();  // the taps are there
    for (int s0 = 0; s0 < depth; s0 += S) {
        const int slices = smn_least(S, depth - s0), lines = slices * rows;
        block.tasks(lines, [=](int line) {
            const int s = by_rows.quotient(line), y = line - s * rows;
            float* const row = memory + line * pitch;
            clip_noise(c, t0 + s0 + s, y0 + y, x0 >> 3, blocks, row);
            const float* in = row + lead + halo[2];
            float narrow[SIDE], wide[SIDE];
            if (TWO)
                clip_run_both<SIDE>(narrow, wide, in, c.taps[0] + 2 * stride, c.taps[1] + 2 * stride,
                                    // of slices that the narrower filter does not need, anything
                                    (unsigned)(s0 + s - inset) < (unsigned)(depth - 2 * inset) ? c.radius[0][2] : 0,
                                    c.radius[1][2]);
            else
                clip_run<SIDE, 1>(narrow, in, c.taps[0] + 2 * stride, c.radius[0][2]);
SMN_UNROLL_DEVICE
            for (int j = 0; j < SIDE; j += 2) {
                Block::put_pair(row + j, narrow[j], narrow[j + 1]);
                if (TWO) Block::put_pair(row + SIDE + j, wide[j], wide[j + 1]);
            }
        });
        const int columns = slices * SIDE;
        // The wider filter's columns first, then, from another warp on, the narrower one's.
        const int others = (columns + SMN_LANES_OF_WARP - 1) / SMN_LANES_OF_WARP * SMN_LANES_OF_WARP;
        block.tasks(TWO ? others + columns : columns, [=](int i) {
            const bool second = TWO && i < others;
            const int column = TWO && !second ? i - others : i, s = column / SIDE, x = column % SIDE;
            const int slice = s0 + s - (second ? 0 : inset);
            if (column >= columns || (unsigned)slice >= (unsigned)(depth - (second ? 0 : 2 * inset))) return;
            const float* in = memory + (s * rows + halo[1]) * pitch + (second ? SIDE : 0) + x;
            float out[SIDE];
            clip_run<SIDE, pitch>(out, in, (second ? c.taps[1] : c.taps[0]) + stride,
                                  second ? c.radius[1][1] : c.radius[0][1]);
            float* to = (second ? stack[1] : stack[0]) + slice * PLANE + x;
SMN_UNROLL_DEVICE
            for (int j = 0; j < SIDE; ++j) to[j * SIDE] = out[j];
        });
    }
    float* const scores = memory;
    clip_white(block, c, scores);
    block.tasks(PLANE * (T / CLIP_RUN_T), [=](int i) {
        const int place = i % PLANE, t = i / PLANE * CLIP_RUN_T;
        float narrow[CLIP_RUN_T], wide[CLIP_RUN_T];
        clip_run<CLIP_RUN_T, PLANE>(narrow, stack[0] + (t + c.radius[0][0]) * PLANE + place, c.taps[0], c.radius[0][0]);
        if (TWO) clip_run<CLIP_RUN_T, PLANE>(wide, stack[1] + (t + halo[0]) * PLANE + place, c.taps[1], c.radius[1][0]);
        clip_band<TWO>(*c.plan, narrow, wide, scores + t * PLANE + place);
    });
    return scores;
}

// Along t, of N steps.
template <bool TWO, int N>
SMN_FN void clip_torus_t(Block& block, const ColorBlock& c, const float* lines, float* scores) {
    block.tasks(CLIP_PLANE, [=](int place) {
        const float* from = lines + place / CLIP_SIDE * CLIP_LINE_OF_TORUS + place % CLIP_SIDE;
        float in[N], narrow[N], wide[N];
SMN_UNROLL_DEVICE
        for (int t = 0; t < N; ++t) in[t] = from[t * CLIP_SIDE * CLIP_LINE_OF_TORUS];
        clip_ring<N>(narrow, in, c.taps[0], c.radius[0][0]);
        if (TWO) {
SMN_UNROLL_DEVICE
            for (int t = 0; t < N; ++t) in[t] = from[t * CLIP_SIDE * CLIP_LINE_OF_TORUS + CLIP_SIDE];
            clip_ring<N>(wide, in, c.taps[1], c.radius[1][0]);
        }
        clip_band<TWO>(*c.plan, narrow, wide, scores + place);
    });
}

template <bool TWO> SMN_FN float* clip_torus(Block& block, const ColorBlock& c, float* memory) {
    const smn_plan& plan = *c.plan;
    constexpr int SIDE = CLIP_SIDE, pitch = CLIP_LINE_OF_TORUS;
    const int stride = plan.taps_stride, T = plan.grid[0], lines = T * SIDE;
    const int t0 = c.origin[0], y0 = c.origin[1], x0 = c.origin[2], lead = x0 & 7;
    const int blocks = (lead + SIDE + 7) / 8;
    float* const scores = memory + lines * pitch;
    block.barrier();  // the taps are there
    block.tasks(lines, [=](int line) {
        float* const row = memory + line * pitch;
        float in[SIDE], narrow[SIDE], wide[SIDE];
        clip_noise(c, t0 + line / SIDE, y0 + line % SIDE, x0 >> 3, blocks, row);
SMN_UNROLL_DEVICE
        for (int x = 0; x < SIDE; ++x) in[x] = row[lead + x];
        clip_ring<SIDE>(narrow, in, c.taps[0] + 2 * stride, c.radius[0][2]);
        if (TWO) clip_ring<SIDE>(wide, in, c.taps[1] + 2 * stride, c.radius[1][2]);
SMN_UNROLL_DEVICE
        for (int x = 0; x < SIDE; x += 2) {
            Block::put_pair(row + x, narrow[x], narrow[x + 1]);
            if (TWO) Block::put_pair(row + SIDE + x, wide[x], wide[x + 1]);
        }
    });
    block.tasks((TWO ? 2 : 1) * lines, [=](int i) {
        const bool second = TWO && i < lines;
        const int column = TWO && !second ? i - lines : i;
        float* const at = memory + column / SIDE * SIDE * pitch + column % SIDE + (second ? SIDE : 0);
        float in[SIDE], out[SIDE];
SMN_UNROLL_DEVICE
        for (int y = 0; y < SIDE; ++y) in[y] = at[y * pitch];
        clip_ring<SIDE>(out, in, (second ? c.taps[1] : c.taps[0]) + stride, second ? c.radius[1][1] : c.radius[0][1]);
SMN_UNROLL_DEVICE
        for (int y = 0; y < SIDE; ++y) at[y * pitch] = out[y];
    });
    clip_white(block, c, scores);
    if (T == CLIP_RUN_T)
        clip_torus_t<TWO, CLIP_RUN_T>(block, c, memory, scores);
    else
        clip_torus_t<TWO, 2 * CLIP_RUN_T>(block, c, memory, scores);
    return scores;
}
