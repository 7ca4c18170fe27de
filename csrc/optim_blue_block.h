// SPDX-License-Identifier: Apache-2.0
// Section 7 by a block of threads: sort, greedy and swaps in one go, all arrays in shared memory where they fit.
//
// Arrays go by token, so that lanes lie side by side; ties go by rank, which a key holds below its value. What a
// placement or a swap changes lies on the stamp around a token, for the default a displacement a lane: a warp's work,
// with no barrier. So the greedy start is one warp's, and a step of the swaps has three barriers.
#pragma once
#include "optim_blue.h"
#include "threshold_block.h"

struct BlueBlock {
    const smn_optim_blue* p;
    int* crowd;   // [K][pitch]
    int* label;   // [L], of the rest K + the token's ring
    int* own;     // [L] crowding by the token's own mask; 0 for the rest
    int* until;   // [L]
    int* tie;     // [L] of the token's rank, as keys have it
    int* order;   // [L] the token of a rank
    int* place;   // [L] the token's t, y, x in one word
    int* left;    // [K] tokens that a mask may still get
    int* stamp[4];  // [entries] each: displacement along t, y, x; weight, as keys have it
    int pitch;    // of a row of crowd, odd: a column then lies in different memory banks
    int bits_x, bits_y;  // of an x, a y in a place
};

enum { SMN_BLUE_THREADS = 128 };

// A value above a rank, so that the least key is the least value's, of the lowest rank. Narrow where plan.narrow says
// that 32 bits are enough: there all crowding is in units of 1 << bits, and a key is a sum.
template <bool NARROW> struct BlueKeys;
template <> struct BlueKeys<false> {
    typedef smn_u64 Key;
    SMN_METHOD static BlueKeys of(int) { return {}; }
    SMN_METHOD Key none() const { return ~0ull; }
    SMN_METHOD int weight(int weight) const { return weight; }
    SMN_METHOD int tie(int rank) const { return rank; }
    SMN_METHOD Key key(int value, int tie) const {
        return (smn_u64)((smn_u32)value ^ 0x80000000u) << 32 | (smn_u32)tie;
    }
    SMN_METHOD int value(Key key) const { return (int)((smn_u32)(key >> 32) ^ 0x80000000u); }
    SMN_METHOD int rank(Key key) const { return (int)(smn_u32)key; }
};
template <> struct BlueKeys<true> {
    typedef smn_u32 Key;
    int bits;  // of a rank
    SMN_METHOD static BlueKeys of(int bits) { return {bits}; }
    SMN_METHOD Key none() const { return ~0u; }
    SMN_METHOD int weight(int weight) const { return weight << bits; }
    SMN_METHOD int tie(int rank) const { return (int)(0x80000000u | (smn_u32)rank); }
    SMN_METHOD Key key(int value, int tie) const { return (smn_u32)value + (smn_u32)tie; }
    SMN_METHOD int value(Key key) const { return (int)((key ^ 0x80000000u) >> bits << bits); }
    SMN_METHOD int rank(Key key) const { return (int)(key & ((1u << bits) - 1u)); }
};

SMN_FN int blue_bits(int n) {  // of a number below n
    int bits = 0;
    while (bits < 31 && 1 << bits < n) ++bits;
    return bits;
}

// memory: plan.bytes, aligned to 8.
SMN_FN BlueBlock blue_block(const smn_optim_blue& p, char* memory) {
    const int L = p.tokens, pitch = L | 1;
    const long long sorting = 2ll << blue_bits(L), crowding = (long long)p.masks * pitch;
    int* rows = (int*)memory + (sorting > crowding ? sorting : crowding);
    int *left = rows + 6 * L, *stamp = left + p.masks;
    return {&p, (int*)memory, rows, rows + L, rows + 2 * L, rows + 3 * L, rows + 4 * L, rows + 5 * L, left,
            {stamp, stamp + p.entries, stamp + 2 * p.entries, stamp + 3 * p.entries},
            pitch, blue_bits(p.grid[2]), blue_bits(p.grid[1])};
}

// Calls f(token, weight) for each token on the stamp around a token: those of lane `first` of `step`.
template <class F> SMN_FN void blue_stamp(const BlueBlock& b, int token, int first, int step, F f) {
    const smn_optim_blue& p = *b.p;
    const int at = b.place[token], x = at & ((1 << b.bits_x) - 1), y = at >> b.bits_x & ((1 << b.bits_y) - 1);
    const int t = at >> (b.bits_x + b.bits_y);
    SMN_ONCE_DEVICE  // mostly there is a displacement a lane
    for (int e = first; e < p.entries; e += step) {
        const int dt = b.stamp[0][e], dy = b.stamp[1][e], dx = b.stamp[2][e];
        const bool inside = (unsigned)(t + dt) < (unsigned)p.grid[0] && (unsigned)(y + dy) < (unsigned)p.grid[1] &&
                            (unsigned)(x + dx) < (unsigned)p.grid[2];
        if (inside) f(token + (dt * p.grid[1] + dy) * p.grid[2] + dx, b.stamp[3][e]);
    }
}

// tie, order and place; the stamp is copied. The keys lie where crowd will: word above token.
template <bool NARROW> SMN_FN void blue_sort(Block& block, const BlueBlock& b, smn_u64 seed, smn_u64 partition) {
    const smn_optim_blue& p = *b.p;
    const BlueKeys<NARROW> kind = BlueKeys<NARROW>::of(blue_bits(p.tokens));
    const int L = p.tokens, n = 1 << blue_bits(L), entries = p.entries;
    smn_u64* keys = (smn_u64*)b.crowd;
    const int* from = p.stamp;
    int* to = b.stamp[0];
    block.tasks_freely(entries, [=](int e) {
        SMN_UNROLL_DEVICE
        for (int i = 0; i < 3; ++i) to[i * entries + e] = from[4 * e + i];
        to[3 * entries + e] = kind.weight(from[4 * e + 3]);
    });
    block.tasks_freely(n - L, [=](int i) { keys[L + i] = ~0ull; });
    block.tasks((L + 3) / 4, [=](int call) {
        smn_u32 words[4];
        smn_words(seed, partition, SMN_PURPOSE_ORDER, (smn_u32)call, words);
        SMN_UNROLL_DEVICE
        for (int i = 0; i < 4; ++i)
            if (4 * call + i < L) keys[4 * call + i] = (smn_u64)words[i] << 32 | (smn_u64)(4 * call + i);
    });
    for (int run = 2; run <= n; run *= 2)
        for (int apart = run / 2; apart; apart /= 2)
            block.tasks(n / 2, [=](int i) {
                const int low = 2 * i - (i & (apart - 1)), high = low + apart;
                const smn_u64 x = keys[low], y = keys[high];
                if ((x > y) == ((low & run) == 0)) { keys[low] = y; keys[high] = x; }
            });
    int *tie = b.tie, *order = b.order, *place = b.place;
    const int height = p.grid[1], width = p.grid[2], bits_x = b.bits_x, bits_y = b.bits_y;
    block.tasks(L, [=](int r) {
        const int token = (int)(keys[r] & 0xFFFFFFFFu), row = token / width, t = row / height;
        order[r] = token;
        tie[token] = kind.tie(r);
        place[token] = (t << bits_y | (row - t * height)) << bits_x | (token - row * width);
    });
}

template <bool NARROW> SMN_FN void blue_greedy(Block& block, const BlueBlock& b) {
    const smn_optim_blue& p = *b.p;
    const BlueKeys<NARROW> keys = BlueKeys<NARROW>::of(blue_bits(p.tokens));
    const int L = p.tokens, V = p.visible, K = p.masks, pitch = b.pitch, lanes = SMN_LANES_OF_WARP;
    int *crowd = b.crowd, *label = b.label, *own = b.own, *until = b.until, *left = b.left;
    const int* ring = p.ring;
    block.tasks_freely(K * pitch, [=](int i) { crowd[i] = 0; });
    block.tasks_freely(L, [=](int q) {
        label[q] = K + ring[q];
        until[q] = 0;
    });
    block.tasks(K, [=](int k) { left[k] = V; });
    block.each_warp([&](int warp) {
        if (warp) return;
        for (int n = 0, first = 0; n < K * V; ++n, first = first + 1 == K ? 0 : first + 1) {
            const int token = b.order[n];
            const auto least = block.least_of_warp([&](int lane) {
                auto best = keys.none();
                SMN_ONCE_DEVICE  // mostly there are fewer masks than lanes
                for (int i = lane; i < K; i += lanes) {
                    const int k = i + first < K ? i + first : i + first - K;
                    const auto key = keys.key(crowd[k * pitch + token], keys.tie(i));
                    if (left[k] && key < best) best = key;
                }
                return best;
            });
            const int i = keys.rank(least), k = i + first < K ? i + first : i + first - K;
            block.barrier_of_warp();  // all lanes have read left
            block.lanes([&](int lane) {
                blue_stamp(b, token, lane, lanes, [&](int q, int weight) { crowd[k * pitch + q] += weight; });
                if (lane == 0) {
                    label[token] = k;
                    --left[k];
                }
            });
            block.barrier_of_warp();
        }
    });
    // Without a barrier: the swaps begin with the same tokens on the same threads.
    block.tasks_freely(L, [=](int q) { own[q] = label[q] < K ? crowd[label[q] * pitch + q] : 0; });
}

// p, of label a, and q, of label `other`, exchange labels. By the lanes of one warp.
SMN_FN void blue_swap(Block& block, const BlueBlock& b, int p, int a, int q, int other) {
    const int pitch = b.pitch, K = b.p->masks;
    int *mine = b.crowd + a * pitch, *theirs = b.crowd + other * pitch, *label = b.label, *own = b.own;
    // sign: a token of label a goes, -1, or comes; one of the other label the other way round.
    auto around = [&](int token, int sign) {
        block.lanes([&](int lane) {
            blue_stamp(b, token, lane, SMN_LANES_OF_WARP, [&](int i, int weight) {
                const int change = sign * weight, l = label[i];
                mine[i] += change;
                if (other < K) theirs[i] -= change;
                if (l == a) own[i] += change;
                else if (l == other && other < K) own[i] -= change;
            });
        });
        block.barrier_of_warp();
    };
    around(p, -1);
    around(q, 1);
    block.lanes([&](int lane) {
        if (lane) return;
        label[p] = other;
        label[q] = a;
        own[p] = other < K ? theirs[p] : 0;
        own[q] = mine[q];
    });
}

template <bool NARROW> SMN_FN void blue_swaps(Block& block, const BlueBlock& b) {
    const smn_optim_blue& plan = *b.p;
    const BlueKeys<NARROW> keys = BlueKeys<NARROW>::of(blue_bits(plan.tokens));
    const int L = plan.tokens, K = plan.masks, step = block.threads, pitch = b.pitch;
    int *label = b.label, *own = b.own, *until = b.until, *tie = b.tie;
    for (int t = 0; t < plan.steps; ++t) {
        const auto worst = block.least([=](int thread) {
            auto best = keys.none();
            for (int q = thread; q < L; q += step) {
                // Every load, whatever the others say: no branches.
                const auto key = keys.key(-own[q], tie[q]);
                const bool better = (until[q] <= t) & (key < best);
                best = better ? key : best;
            }
            return best;
        });
        if (worst == keys.none() || keys.value(worst) == 0) break;  // those of the rest have no crowding either
        const int p = b.order[keys.rank(worst)], crowding = -keys.value(worst), a = label[p];
        const int lone = K + plan.ring[p];  // the label of a token of the rest that p may change places with
        const int *mine = b.crowd + a * pitch, *column = b.crowd + p;
        const auto least = block.least([&](int thread) {
            auto best = keys.none();
            // weight: S of p and q. It only lowers the change, so that tokens on the stamp may be met twice.
            auto meet = [&](int q, int weight) {
                const int other = label[q];
                const bool shown = other < K;
                const int back = column[(shown ? other : 0) * pitch] - weight - own[q];
                const int change = mine[q] - weight - crowding + (shown ? back : 0);
                const auto key = keys.key(change, tie[q]);
                const bool better = (other != a) & (shown | (other == lone)) & (key < best);
                best = better ? key : best;
            };
            for (int q = thread; q < L; q += step) meet(q, 0);
            blue_stamp(b, p, thread, step, meet);
            return best;
        });
        block.each_warp([&](int warp) {
            if (warp) return;
            if (least != keys.none() && keys.value(least) < 0) {
                const int q = b.order[keys.rank(least)];
                blue_swap(block, b, p, a, q, label[q]);
            } else {
                block.lanes([&](int lane) { if (lane == 0) until[p] = t + 1 + SMN_RELEASE; });
            }
        });
    }
}

// Fills and returns the mask that reveals each token, [L], K or more for the rest. It lies in `b`.
template <bool NARROW>
SMN_FN const int* blue_partition(Block& block, const BlueBlock& b, smn_u64 seed, smn_u64 partition) {
    blue_sort<NARROW>(block, b, seed, partition);
    blue_greedy<NARROW>(block, b);
    blue_swaps<NARROW>(block, b);
    return b.label;
}

SMN_FN void blue_mask(Block& block, const smn_optim_blue& p, const int* label, int mask, const smn_outputs& out) {
    const auto row = read_keys(p.tokens, 0, block.threads, [=](int token) { return label[token]; },
                               [=](int mine) { return mine == mask ? 1u : 0u; });
    write_outputs(block, row, {0, 0, p.visible}, 1u, out);
    block.barrier();  // the next mask counts in the same places
}
