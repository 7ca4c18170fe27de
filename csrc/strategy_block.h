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

// As box_keys of strategy_cpu.h: only the last box is cut, so that only there ties matter (with a given number of boxes
// all tokens have them), and one time step is laid out for all where every box lasts. Bits 0: in no box yet.
SMN_FN void strategy_boxes(Block& block, const StrategyBlock& b) {
    const smn_strategy& p = *b.plan;
    const int n = p.ranking.tokens, wanted = smn_boxed_tokens(p), step = block.threads;
    const int height = p.grid[1], width = p.grid[2];
    const int laid = p.lasting ? height * width : n, copies = n / laid;
    int* bits = b.bits;
    block.tasks(laid, [=](int i) { bits[i] = 0; });
    smn_box box = {};
    int boxed = 0, last = 0;
    for (int j = 0; smn_lays_box(p, j, boxed); ++j) {
        box = smn_box_of(p, b.seed, b.sample, j);
        last = smn_score_bits(smn_box_level(p, j), 0);
        boxed += copies * block.sum([=](int thread) {
            int more = 0;
            for (int i = thread; i < laid; i += step) {
                const int row = i / width;
                if (bits[i] || !smn_in_box(box, row / height, row % height, i % width)) continue;
                bits[i] = last;
                ++more;
            }
            return more;
        });
    }
    block.tasks(n - laid, [=](int i) { bits[laid + i] = bits[i % laid]; });
    const int unboxed = smn_score_bits(smn_unboxed_level(p), 0);
    if (p.boxes) {
        strategy_ties(block, b, [=](int i, int tie) { bits[i] = (bits[i] ? bits[i] : unboxed) + tie; });
        return;
    }
    block.tasks(n, [=, &p](int i) {
        const int row = i / width;
        if (bits[i] == last) bits[i] += smn_box_tie(p, box, row / height, row % height, i % width);
    });
    if (boxed < wanted)
        strategy_ties(block, b, [=](int i, int tie) { if (!bits[i]) bits[i] = unboxed + tie; });
    else
        block.tasks(n, [=](int i) { if (!bits[i]) bits[i] = unboxed; });
}

SMN_FN void strategy_block(Block& block, const StrategyBlock& b, const smn_outputs& out) {
    const smn_strategy& p = *b.plan;
    int *bits = b.bits, *steps = b.steps;
    if (p.kind == SMN_BLOCKS) {
        strategy_boxes(block, b);
    } else {
        strategy_steps(block, b);
        const int height = p.grid[1], width = p.grid[2];
        strategy_ties(block, b, [=, &p](int i, int tie) {
            const int row = i / width;
            const int step = smn_step(p, steps, row / height, row % height, i % width);
            bits[i] = smn_score_bits(SMN_LEVELS - 1 - step, tie);
        });
    }
    rank_scores(block, p.ranking, [=](int i) { return Block::float_of((unsigned)bits[i]); },
                [](float score) { return smn_key_of_number(score); }, out);
}
