// SPDX-License-Identifier: Apache-2.0
// Extension 5: levels, boxes and scores of the strategies, a token at a time. For the CPU and for GPUs.
#pragma once
#include "contract.h"
#include "plan.h"

enum { SMN_LEVELS = 1 << 12, SMN_TIE_BITS = 18, SMN_BOXES = 1 << 10 };

// The bits of a score, a positive float: they order as the score does.
SMN_FN int smn_score_bits(int level, int tie) { return (1 << 23) + (level << SMN_TIE_BITS) + tie; }
SMN_FN int smn_tie_of(smn_u32 word) { return (int)(word >> (32 - SMN_TIE_BITS)); }

// 0 .. n - 1, from a word.
SMN_FN int smn_pick(smn_u32 word, int n) { return (int)(((smn_u64)word * (smn_u64)n) >> 32); }

// When a bar is shown: its rank, the paces of its kind and of the other. Rows go before columns.
SMN_FN int smn_bar_step(int rank, int own_pace, int other_pace, int others, int row) {
    const int before = (int)(((smn_i64)(rank + 1) * other_pace - row) / own_pace);
    return rank + (before < others ? before : others);
}

// Words of purpose SMN_PURPOSE_STRATEGY that are ranked: of an axis, of bars, of places; for a running cell just one.
SMN_FN int smn_ranked(const smn_strategy& p) {
    switch (p.kind) {
        case SMN_AXIS: return p.grid[p.axis];
        case SMN_BARS: return p.grid[1] + p.grid[2];
        case SMN_CELLS: return p.cell[0] * p.cell[1] * p.cell[2];
        case SMN_RUNNING: return 1;
        default: return 0;
    }
}

// From the rank of thing i, when it is shown; of a running cell, from its phase.
SMN_FN int smn_step_of_rank(const smn_strategy& p, int i, int rank) {
    if (p.kind != SMN_BARS) return rank;
    return i < p.grid[1] ? smn_bar_step(rank, p.pace[0], p.pace[1], p.grid[2], 1)
                         : smn_bar_step(rank, p.pace[1], p.pace[0], p.grid[1], 0);
}

// When a token is shown, 0 first. steps: of smn_ranked things; for a running cell, its phase.
SMN_FN int smn_step(const smn_strategy& p, const int* steps, int t, int y, int x) {
    if (p.kind == SMN_AXIS) return steps[p.axis == 0 ? t : p.axis == 1 ? y : x];
    if (p.kind == SMN_BARS) {
        const int row = steps[y], column = steps[p.grid[1] + x];
        return row > column ? row : column;
    }
    const int place = ((t % p.cell[0]) * p.cell[1] + y % p.cell[1]) * p.cell[2] + x % p.cell[2];
    if (p.kind == SMN_CELLS) return steps[place];
    const int places = p.cell[1] * p.cell[2];
    return (place + steps[0] + t) % places;
}

typedef struct {
    int from[3], to[3];  // t, y, x; within the grid
    int direction;       // of the order in which the last box is cut
} smn_box;

SMN_FN smn_box smn_box_of(const smn_strategy& p, smn_u64 seed, smn_u64 sample, int j) {
    smn_u32 w[4], v[4];
    smn_words(seed, sample, SMN_PURPOSE_STRATEGY, 2 * (smn_u32)j, w);
    smn_words(seed, sample, SMN_PURPOSE_STRATEGY, 2 * (smn_u32)j + 1, v);
    const int* size = p.sizes + 2 * smn_pick(w[0], p.n_sizes);
    const int side[3] = {p.durations[smn_pick(w[1], p.n_durations)], size[0], size[1]};
    const smn_u32 place[3] = {w[2], w[3], v[0]};
    smn_box box;
    box.direction = (int)(v[1] >> 30);
    for (int axis = 0; axis < 3; ++axis) {
        const int n = p.grid[axis], placement = axis > 0 ? p.placement : SMN_INSIDE;
        const int before = placement == SMN_OVERHANG ? side[axis] - 1 : placement == SMN_CENTRE ? side[axis] / 2 : 0;
        const int places = placement == SMN_CENTRE ? n : n - side[axis] + 1 + 2 * before;
        const int first = smn_pick(place[axis], places) - before;
        box.from[axis] = first > 0 ? first : 0;
        box.to[axis] = first + side[axis] < n ? first + side[axis] : n;
    }
    return box;
}

SMN_FN int smn_in_box(const smn_box& box, int t, int y, int x) {
    return t >= box.from[0] && t < box.to[0] && y >= box.from[1] && y < box.to[1] && x >= box.from[2] && x < box.to[2];
}

SMN_FN int smn_boxed_tokens(const smn_strategy& p) {  // that are needed
    return p.inverse ? p.ranking.visible : p.ranking.tokens - p.ranking.visible;
}

// Whether box number j is laid, if `boxed` tokens lie in the boxes before it.
SMN_FN int smn_lays_box(const smn_strategy& p, int j, int boxed) {
    return p.boxes ? j < p.boxes : j < SMN_BOXES && boxed < smn_boxed_tokens(p);
}

// Level and tie of a token whose box is number j. Boxes of a given number have one level, and ties as of no box.
SMN_FN int smn_box_level(const smn_strategy& p, int j) {
    if (p.boxes) j = 0;
    return p.inverse ? SMN_LEVELS - 1 - j : j;
}
SMN_FN int smn_box_tie(const smn_strategy& p, const smn_box& box, int t, int y, int x) {
    const int order = (box.direction & 2 ? x * p.grid[1] + y : y * p.grid[2] + x) * p.grid[0] + t;
    return box.direction & 1 ? p.ranking.tokens - 1 - order : order;
}
SMN_FN int smn_unboxed_level(const smn_strategy& p) { return p.inverse ? 0 : SMN_LEVELS - 1; }
