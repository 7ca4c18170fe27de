// SPDX-License-Identifier: Apache-2.0
// Section 7 by a block of threads: sort, greedy and swaps in one go, all arrays in shared memory where they fit.
//
// Tokens are numbered by their rank, so that ties go to the lower number: candidates are compared as one 64-bit key,
// value above rank. A thread owns every threads-th rank; only it writes their crowding.
#pragma once
#include "optim_blue.h"
#include "threshold_block.h"

struct BlueBlock {
    const smn_optim_blue* plan;
    int* crowd;   // [K][L]
    int* label;   // [L], K for the rest
    int* until;   // [L]
    int* base;    // [L] where S(q - p) of the token lies in plan->table: at base[q] - base[p] + centre
    int* order;   // [L] the token of a rank
    int* left;    // [K] tokens that a mask may still get
    int centre;
};

enum { SMN_BLUE_THREADS = 128 };

SMN_FN int blue_padded(int tokens) {  // what the sort works on: a power of two
    int n = 1;
    while (n < tokens) n *= 2;
    return n;
}

// memory: plan->bytes, aligned to 8.
SMN_FN BlueBlock blue_block(const smn_optim_blue& p, char* memory) {
    const long long sorting = 2ll * blue_padded(p.tokens), crowding = (long long)p.masks * p.tokens;
    int* rows = (int*)memory + (sorting > crowding ? sorting : crowding);
    const int wide = 2 * p.grid[2] - 1, high = 2 * p.grid[1] - 1;
    return {&p, (int*)memory, rows, rows + p.tokens, rows + 2 * p.tokens, rows + 3 * p.tokens, rows + 4 * p.tokens,
            ((p.grid[0] - 1) * high + p.grid[1] - 1) * wide + p.grid[2] - 1};
}

// order and base. The keys lie where crowd will: word above token.
SMN_FN void blue_sort(Block& block, const BlueBlock& b, smn_u64 seed, smn_u64 partition) {
    const smn_optim_blue& p = *b.plan;
    const int L = p.tokens, n = blue_padded(L);
    smn_u64* keys = (smn_u64*)b.crowd;
    block.tasks(n, [=](int i) {
        if (i >= L) keys[i] = ~0ull;
    });
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
    int *order = b.order, *base = b.base;
    const int height = p.grid[1], width = p.grid[2];
    block.tasks(L, [=](int r) {
        const int token = (int)(keys[r] & 0xFFFFFFFFu), row = token / width;
        order[r] = token;
        base[r] = ((row / height) * (2 * height - 1) + row % height) * (2 * width - 1) + token % width;
    });
}

SMN_FN void blue_greedy(Block& block, const BlueBlock& b) {
    const smn_optim_blue& p = *b.plan;
    const int L = p.tokens, V = p.visible, K = p.masks, step = block.threads, centre = b.centre;
    int *crowd = b.crowd, *label = b.label, *until = b.until, *base = b.base, *left = b.left;
    const int* table = p.table;
    block.tasks(L, [=](int r) {
        for (int k = 0; k < K; ++k) crowd[(long long)k * L + r] = 0;
        label[r] = K;
        until[r] = 0;
    });
    block.tasks(K, [=](int k) { left[k] = V; });
    for (int n = 0; n < K * V; ++n) {
        const int first = n % K;
        const smn_u64 least = block.least([=](int thread) {
            smn_u64 best = ~0ull;
            for (int i = thread; i < K; i += step) {
                const int k = i + first < K ? i + first : i + first - K;
                const smn_u64 key = (smn_u64)(unsigned)crowd[(long long)k * L + n] << 32 | (unsigned)i;
                if (left[k] && key < best) best = key;
            }
            return best;
        });
        const int k = ((int)(least & 0xFFFFFFFFu) + first) % K;
        block.each([=](int thread) {
            int* row = crowd + (long long)k * L;
            const int* near = table + (centre - base[n]);
            for (int r = thread; r < L; r += step) row[r] += near[base[r]];
            if (thread == 0) {
                label[n] = k;
                --left[k];
            }
        });
    }
}

SMN_FN void blue_swaps(Block& block, const BlueBlock& b) {
    const smn_optim_blue& p = *b.plan;
    const int L = p.tokens, K = p.masks, step = block.threads, centre = b.centre;
    int *crowd = b.crowd, *label = b.label, *until = b.until, *base = b.base, *order = b.order;
    const int *table = p.table, *rings = p.ring;
    for (int t = 0; t < p.steps; ++t) {
        const smn_u64 worst = block.least([=](int thread) {
            smn_u64 best = ~0ull;
            for (int r = thread; r < L; r += step) {
                if (label[r] == K || until[r] > t) continue;
                const int own = crowd[(long long)label[r] * L + r];
                const smn_u64 key = (smn_u64)(~(unsigned)own) << 32 | (unsigned)r;
                if (own > 0 && key < best) best = key;
            }
            return best;
        });
        if (worst == ~0ull) break;
        const int r = (int)(worst & 0xFFFFFFFFu), own = (int)~(unsigned)(worst >> 32), a = label[r];
        const int ring = rings[order[r]];
        const int* near = table + (centre - base[r]);
        const smn_u64 least = block.least([=](int thread) {
            smn_u64 best = ~0ull;
            for (int q = thread; q < L; q += step) {
                const int other = label[q];
                if (other == a || (other == K && rings[order[q]] != ring)) continue;
                const int s = near[base[q]];
                int change = crowd[(long long)a * L + q] - s - own;
                if (other < K) change += crowd[(long long)other * L + r] - s - crowd[(long long)other * L + q];
                const smn_u64 key = (smn_u64)((unsigned)change ^ 0x80000000u) << 32 | (unsigned)(q * (K + 1) + other);
                if (key < best) best = key;
            }
            return best;
        });
        // The partner's label comes with the key: reading it here would race with whoever writes it below. No partner
        // at all counts as no gain.
        const int found = (int)(least & 0xFFFFFFFFu), q = found / (K + 1), other = found % (K + 1);
        const bool better = (int)((unsigned)(least >> 32) ^ 0x80000000u) < 0;
        block.each([=](int thread) {
            if (thread == 0) {
                if (better) { label[r] = other; label[q] = a; } else until[r] = t + 1 + SMN_RELEASE;
            }
            if (!better) return;
            const int* far = table + (centre - base[q]);
            int *mine = crowd + (long long)a * L, *theirs = crowd + (long long)other * L;
            for (int i = thread; i < L; i += step) {
                const int moved = near[base[i]] - far[base[i]];
                mine[i] -= moved;
                if (other < K) theirs[i] += moved;
            }
        });
    }
}

// Fills and returns the mask that reveals each token, [L], K for the rest. It lies in `b`.
SMN_FN const int* blue_partition(Block& block, const BlueBlock& b, smn_u64 seed, smn_u64 partition) {
    blue_sort(block, b, seed, partition);
    blue_greedy(block, b);
    blue_swaps(block, b);
    int *by_token = b.base, *order = b.order, *label = b.label;
    block.tasks(b.plan->tokens, [=](int r) { by_token[order[r]] = label[r]; });
    return by_token;
}

SMN_FN void blue_mask(Block& block, const smn_optim_blue& p, const int* by_token, int mask, const smn_outputs& out) {
    const smn_ranking ranking = {1, p.tokens, p.visible, 0, 0};
    write_outputs(block, [=](int token) { return by_token[token] == mask ? 1u : 0u; }, ranking.tokens,
                  place_of(ranking, 0), {0u, 0}, out);
}
