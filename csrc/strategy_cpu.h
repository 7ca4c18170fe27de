// SPDX-License-Identifier: Apache-2.0
// Extension 5 for one sample: integer scores, and section 6's cut of them.
#pragma once
#include "philox_cpu.h"
#include "strategy.h"
#include "threshold_cpu.h"

namespace {

// rank[i]: the place of thing i in the order of (word, i), by counting. Words with their top bit flipped, and as many
// more as fill a vector, all INT32_MAX: those are behind the others.
inline void rank_words(const int32_t* words, int n, int32_t* rank) {
    for (int i = 0; i < n; ++i) {
        const vi mine = splat(words[i]), number = splat((int32_t)i);
        vi before = vi{}, others = numbered();
        for (int j = 0; j < n; j += W, others += splat((int32_t)W)) {
            vi theirs = load(words + j);
            before -= (theirs < mine) | ((theirs == mine) & (others < number));
        }
        int32_t total = 0;
        for (int l = 0; l < W; ++l) total += before[l];
        rank[i] = total;
    }
}

// steps[i] of smn_ranked things; scratch: as many, brought to whole vectors, and a vector more.
inline void steps_of(const smn_strategy& p, uint64_t seed, uint64_t sample, int32_t* steps, int32_t* scratch) {
    const int n = smn_ranked(p);
    philox_words(seed, sample, SMN_PURPOSE_STRATEGY, (n + 3) / 4, [=](int64_t i, uint32_t word) {
        if (i < n) steps[i] = (int32_t)word;
    });
    if (p.kind == SMN_RUNNING) {
        steps[0] = smn_pick((uint32_t)steps[0], p.cell[1] * p.cell[2]);
        return;
    }
    auto rank = [&](int first, int count) {
        for (int i = 0; i < padded(count); ++i)
            scratch[i] = i < count ? steps[first + i] ^ INT32_MIN : INT32_MAX;
        rank_words(scratch, count, steps + first);
    };
    if (p.kind == SMN_BARS) {
        rank(0, p.grid[1]);
        rank(p.grid[1], p.grid[2]);
    } else {
        rank(0, n);
    }
    for (int i = 0; i < n; ++i) steps[i] = smn_step_of_rank(p, i, steps[i]);
}

// keys of all tokens but for their ties. Rows recur, and tokens in a row: only the first ones are worked out.
inline void step_keys(const smn_strategy& p, const int32_t* steps, int32_t* keys) {
    const int Y = p.grid[1], X = p.grid[2];
    const bool cells = p.kind == SMN_CELLS || p.kind == SMN_RUNNING;
    const int rows = cells ? p.cell[1] : p.kind == SMN_AXIS && p.axis != 1 ? 1 : Y;
    const int columns = cells ? p.cell[2] : p.kind == SMN_AXIS && p.axis != 2 ? 1 : X;
    for (int t = 0; t < p.grid[0]; ++t)
        for (int y = 0; y < Y; ++y, keys += X) {
            if (y >= rows) {
                memcpy(keys, keys - (int64_t)rows * X, sizeof(int32_t) * (size_t)X);
                continue;
            }
            for (int x = 0; x < columns; ++x)
                keys[x] = smn_score_bits(SMN_LEVELS - 1 - smn_step(p, steps, t, y, x), 0);
            for (int x = columns; x < X; ++x) keys[x] = keys[x - columns];
        }
}

// keys of the tokens in boxes, 0 for the others. Returns how many are in boxes. Only the last box is cut, so that only
// there ties matter; those of boxes of a given number are added later. Where all boxes last from the first time step to
// the last, one step is laid out for all.
inline int box_keys(const smn_strategy& p, uint64_t seed, uint64_t sample, int32_t* keys) {
    const int T = p.grid[0], Y = p.grid[1], X = p.grid[2], wanted = smn_boxed_tokens(p);
    const int times = p.lasting ? 1 : T, copies = p.lasting ? T : 1;
    memset(keys, 0, sizeof(int32_t) * (size_t)times * Y * X);
    smn_box box;
    int boxed = 0, j = 0, key = 0;
    for (; smn_lays_box(p, j, boxed); ++j) {
        box = smn_box_of(p, seed, sample, j);
        key = smn_score_bits(smn_box_level(p, j), 0);
        int more = 0;
        for (int t = box.from[0]; t < box.to[0] && t < times; ++t)
            for (int y = box.from[1]; y < box.to[1]; ++y) {
                int32_t* row = keys + (t * Y + y) * X;
                for (int x = box.from[2]; x < box.to[2]; ++x) {
                    const int before = row[x];
                    more += before == 0;
                    row[x] = before ? before : key;
                }
            }
        boxed += more * copies;
    }
    for (int t = times; t < T; ++t) memcpy(keys + (int64_t)t * Y * X, keys, sizeof(int32_t) * (size_t)Y * X);
    if (p.boxes || !j || boxed == wanted) return boxed;
    for (int t = box.from[0]; t < box.to[0]; ++t)
        for (int y = box.from[1]; y < box.to[1]; ++y)
            for (int x = box.from[2]; x < box.to[2]; ++x) {
                int32_t* at = keys + (t * Y + y) * X + x;
                if (*at == key) *at += smn_box_tie(p, box, t, y, x);
            }
    return boxed;
}

inline size_t strategy_bytes(const smn_strategy* p) {
    const size_t ranked = 2 * (size_t)(padded(smn_ranked(*p)) + W);
    return sizeof(int32_t) * ((size_t)(padded(p->ranking.tokens) + W) + ranked) + (size_t)p->ranking.tokens + 64;
}

inline void strategy(const smn_strategy* plan, uint64_t seed, uint64_t sample, const smn_outputs* out,
                     void* workspace) {
    const smn_strategy& p = *plan;
    const int n = p.ranking.tokens;
    int32_t* keys = (int32_t*)workspace;
    int32_t* steps = keys + padded(n) + W;
    int32_t* scratch = steps + padded(smn_ranked(p)) + W;
    uint8_t* mask = out->mask ? out->mask : (uint8_t*)(scratch + padded(smn_ranked(p)) + W);
    auto ties = [&](auto key) {
        philox_words(seed, sample, SMN_PURPOSE_TIE, (n + 3) / 4, [=](int64_t i, uint32_t word) {
            if (i < n) keys[i] = key(keys[i], smn_tie_of(word));
        });
    };
    if (p.kind == SMN_BLOCKS) {
        const int unboxed = smn_score_bits(smn_unboxed_level(p), 0), boxed = box_keys(p, seed, sample, keys);
        if (p.boxes)
            ties([=](int32_t key, int tie) { return (key ? key : unboxed) + tie; });
        else if (boxed < smn_boxed_tokens(p))
            ties([=](int32_t key, int tie) { return key ? key : unboxed + tie; });
        else
            for (int i = 0; i < n; ++i) keys[i] = keys[i] ? keys[i] : unboxed;
    } else {
        steps_of(p, seed, sample, steps, scratch);
        step_keys(p, steps, keys);
        ties([](int32_t key, int tie) { return key + tie; });
    }
    for (int i = n; i < padded(n); ++i) keys[i] = INT32_MIN;
    cut_keys(p.ranking, keys, {1.0f, 0.0f, key_of}, mask);
    if (out->ids_keep || out->ids_mask || out->ids_restore) write_ids(mask, n, p.ranking.visible, *out);
}

}  // namespace
