// SPDX-License-Identifier: Apache-2.0
// Extension 5 by a block of threads. A token belongs to one thread while boxes are laid, so that nobody waits for
// another's; what is ranked is ranked by counting, each thing by one thread.
#pragma once
#include "strategy.h"
#include "threshold_block.h"

// steps: [smn_ranked] and words: as many; bits: [L], the scores. All in shared or global memory.
struct StrategyBlock {
    const smn_strategy* plan;
    smn_u64 seed, sample;
    int *steps, *words, *bits;
};

SMN_FN void strategy_steps(Block& block, const StrategyBlock& b) {
    const smn_strategy& p = *b.plan;
    const int n = smn_ranked(p), rows = p.kind == SMN_BARS ? p.grid[1] : 0;
    int *steps = b.steps, *words = b.words;
    const smn_u64 seed = b.seed, sample = b.sample;
    block.tasks((n + 3) / 4, [=](int call) {
        smn_u32 four[4];
        smn_words(seed, sample, SMN_PURPOSE_STRATEGY, (smn_u32)call, four);
        SMN_UNROLL_DEVICE
        for (int i = 0; i < 4; ++i)
            if (4 * call + i < n) words[4 * call + i] = (int)four[i];
    });
    block.tasks(n, [=, &p](int i) {
        const smn_u32 mine = (smn_u32)words[i];
        if (p.kind == SMN_RUNNING) {
            steps[0] = smn_pick(mine, p.cell[1] * p.cell[2]);
            return;
        }
        const int from = i < rows ? 0 : rows, to = i < rows ? rows : n;  // its own kind: rows, columns, or all
        int rank = 0;
        for (int j = from; j < to; ++j) {
            const smn_u32 theirs = (smn_u32)words[j];
            rank += theirs < mine || (theirs == mine && j < i);
        }
        steps[i] = smn_step_of_rank(p, i, rank);
    });
}

// The scores of four tokens a thread: f(token, tie).
template <class F> SMN_FN void strategy_ties(Block& block, const StrategyBlock& b, F f) {
    const int n = b.plan->ranking.tokens;
    const smn_u64 seed = b.seed, sample = b.sample;
    block.tasks((n + 3) / 4, [=](int call) {
        smn_u32 four[4];
        smn_words(seed, sample, SMN_PURPOSE_TIE, (smn_u32)call, four);
        SMN_UNROLL_DEVICE
        for (int i = 0; i < 4; ++i)
            if (4 * call + i < n) f(4 * call + i, smn_tie_of(four[i]));
    });
}

enum { BOXES_AT_ONCE = 8, BOX_INTS = 7 };
static_assert(BOXES_AT_ONCE * BOX_INTS <= 2 * SMN_MAX_WARPS, "boxes lie in the scratch of the threshold");

// Where the cut is if it is in a level: its lowest score, and how many ties there may be.
SMN_FN Hint hint_of_level(int bits, int ties) {
    return {(unsigned)bits | 0x80000000u, (unsigned)(bits + ties) | 0x80000000u};
}

// Boxes as they are laid: how many, how many tokens lie in them.
struct LaidBoxes {
    int count, boxed;
};
// Box j, of those that were drawn last.
SMN_FN smn_box drawn_box(const int* boxes, int j) {
    const int* const drawn = boxes + j % BOXES_AT_ONCE * BOX_INTS;
    smn_box box;
    SMN_UNROLL_DEVICE
    for (int axis = 0; axis < 3; ++axis) {
        box.from[axis] = drawn[axis];
        box.to[axis] = drawn[3 + axis];
    }
    box.direction = drawn[6];
    return box;
}
// Lays boxes on tokens 0 .. laid - 1, which are `share` of each in the grid, by `step` threads. each(n, f): f(i) for i < n,
// and all have it; sum(f): of f(thread). Both by those threads.
template <class Each, class Sum>
SMN_FN LaidBoxes lay_boxes(const StrategyBlock& b, int* boxes, int laid, int share, int step, Each each, Sum sum) {
    const smn_strategy& p = *b.plan;
    const int height = p.grid[1], width = p.grid[2];
    const Divider by_width = Divider::of(width, laid), by_height = Divider::of(height, laid);
    int* bits = b.bits;
    const smn_u64 seed = b.seed, sample = b.sample;
    LaidBoxes so_far = {0, 0};
    for (; smn_lays_box(p, so_far.count, so_far.boxed); ++so_far.count) {
        const int j = so_far.count;
        if (j % BOXES_AT_ONCE == 0)
            each(BOXES_AT_ONCE, [=, &p](int i) {
                const smn_box box = smn_box_of(p, seed, sample, j + i);
                SMN_UNROLL_DEVICE
                for (int axis = 0; axis < 3; ++axis) {
                    boxes[i * BOX_INTS + axis] = box.from[axis];
                    boxes[i * BOX_INTS + 3 + axis] = box.to[axis];
                }
                boxes[i * BOX_INTS + 6] = box.direction;
            });
        const smn_box box = drawn_box(boxes, j);
        const int score = smn_score_bits(smn_box_level(p, j), 0);
        so_far.boxed += share * sum([=](int thread) {
            int more = 0;
            for (int i = thread; i < laid; i += step) {
                const int row = by_width.quotient(i), t = by_height.quotient(row);
                if (bits[i] || !smn_in_box(box, t, row - t * height, i - row * width)) continue;
                bits[i] = score;
                ++more;
            }
            return more;
        });
    }
    return so_far;
}

// As box_keys of strategy_cpu.h: only the last box is cut, so that only there ties matter (with a given number of boxes
// all tokens have them), and one time step is laid out for all where every box lasts. Few tokens are one warp's, which
// needs no barrier. Bits 0: in no box yet.
SMN_FN Hint strategy_boxes(Block& block, const StrategyBlock& b) {
    const smn_strategy& p = *b.plan;
    const int n = p.ranking.tokens, wanted = smn_boxed_tokens(p), lanes = SMN_LANES_OF_WARP;
    const int height = p.grid[1], width = p.grid[2];
    const int laid = p.lasting ? height * width : n, copies = n / laid;
    const Divider by_width = Divider::of(width, n), by_height = Divider::of(height, n);
    int *bits = b.bits, *boxes = block.scratch->kept;
    BlockScratch* scratch = block.scratch;
    block.tasks(laid, [=](int i) { bits[i] = 0; });
    LaidBoxes all;
    if (laid <= 8 * lanes) {
        block.each_warp([&](int warp) {
            if (warp) return;
            const LaidBoxes found = lay_boxes(
                b, boxes, laid, copies, lanes,
                [&](int count, auto f) {
                    block.barrier_of_warp();  // all lanes have read the boxes before
                    block.lanes([&](int lane) { if (lane < count) f(lane); });
                    block.barrier_of_warp();
                },
                [&](auto f) { return block.sum_of_warp(f); });
            block.lanes([&](int lane) {
                if (lane == 0) { scratch->found = found.count; scratch->cut_above = found.boxed; }
            });
        });
        all = {scratch->found, scratch->cut_above};
    } else {
        all = lay_boxes(b, boxes, laid, copies, block.threads, [&](int count, auto f) { block.tasks(count, f); },
                        [&](auto f) { return block.sum(f); });
    }
    smn_box box = {};
    if (all.count) box = drawn_box(boxes, all.count - 1);
    const int boxed = all.boxed, last = all.count ? smn_score_bits(smn_box_level(p, all.count - 1), 0) : 0;
    block.tasks(n - laid, [=](int i) { bits[laid + i] = bits[i % laid]; });
    const int unboxed = smn_score_bits(smn_unboxed_level(p), 0);
    if (p.boxes) {
        strategy_ties(block, b, [=](int i, int tie) { bits[i] = (bits[i] ? bits[i] : unboxed) + tie; });
        const bool in_boxes = p.inverse ? p.ranking.visible <= boxed : p.ranking.visible > n - boxed;
        return hint_of_level(smn_score_bits(in_boxes ? smn_box_level(p, 0) : smn_unboxed_level(p), 0), 1 << SMN_TIE_BITS);
    }
    block.tasks(n, [=, &p](int i) {
        const int row = by_width.quotient(i), t = by_height.quotient(row);
        if (bits[i] == last) bits[i] += smn_box_tie(p, box, t, row - t * height, i - row * width);
    });
    if (boxed < wanted)
        strategy_ties(block, b, [=](int i, int tie) { if (!bits[i]) bits[i] = unboxed + tie; });
    else
        block.tasks(n, [=](int i) { if (!bits[i]) bits[i] = unboxed; });
    return boxed < wanted ? hint_of_level(unboxed, 1 << SMN_TIE_BITS) : hint_of_level(last, n);
}

SMN_FN void strategy_block(Block& block, const StrategyBlock& b, const smn_outputs& out) {
    const smn_strategy& p = *b.plan;
    int *bits = b.bits, *steps = b.steps;
    Hint hint = {0, 0};
    if (p.kind == SMN_BLOCKS) {
        hint = strategy_boxes(block, b);
    } else {
        strategy_steps(block, b);
        const int height = p.grid[1], width = p.grid[2], n = p.ranking.tokens;
        const Divider by_width = Divider::of(width, n), by_height = Divider::of(height, n);
        strategy_ties(block, b, [=, &p](int i, int tie) {
            const int row = by_width.quotient(i), t = by_height.quotient(row);
            const int step = smn_step(p, steps, t, row - t * height, i - row * width);
            bits[i] = smn_score_bits(SMN_LEVELS - 1 - step, tie);
        });
    }
    rank_scores(block, p.ranking, [=](int i) { return Block::float_of((unsigned)bits[i]); },
                [](float score) { return smn_key_of_number(score); }, out, hint);
}
