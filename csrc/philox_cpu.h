// SPDX-License-Identifier: Apache-2.0
// Philox (section 1) a vector of counters at a time.
#pragma once
#include "contract.h"
#include "simd.h"

namespace {

// The Philox key of each round, in every lane: read from memory by the instruction that uses it. Of an even round
// the upper half of a lane; the lower one has the next round's, so that philox_lanes adds both at once.
struct Keys {
    vq k0[10], k1[10];
    explicit Keys(uint64_t seed) {
        for (uint32_t round = 0; round < 10; ++round) {
            k0[round] = of_round((uint32_t)seed, SMN_PHILOX_W0, round);
            k1[round] = of_round((uint32_t)(seed >> 32), SMN_PHILOX_W1, round);
        }
    }
    static vq of_round(uint32_t key, uint32_t step, uint32_t round) {
        const uint64_t now = key + round * step, next = (uint32_t)(key + (round + 1) * step);
        return splat(IN_PAIRS && round % 2 == 0 ? now << 32 | next : now);
    }
    // Of a round, in the lower halves.
    vq first(int round) const { return IN_PAIRS && round % 2 == 0 ? k0[round] >> 32 : k0[round]; }
    vq second(int round) const { return IN_PAIRS && round % 2 == 0 ? k1[round] >> 32 : k1[round]; }
    // Three operands take one instruction with AVX-512, two without.
    static constexpr bool IN_PAIRS = W < 16;
};

// Rounds `from`, an even one, to 9 of Philox over `chains` times W / 2 counters, one in the low half of each 64-bit
// lane. The high halves collect garbage that nothing reads: the multiply takes low halves only. Chains take turns: one
// alone would wait for itself.
template <int chains, int from = 0> inline void philox_lanes(vq (*c)[4], const Keys& keys) {
    SMN_UNROLL for (int round = from; round < 10; ++round)
        SMN_UNROLL for (int i = 0; i < chains; ++i) {
            vq p0 = multiply_low(c[i][0], SMN_PHILOX_M0), p1 = multiply_low(c[i][2], SMN_PHILOX_M1);
            if (Keys::IN_PAIRS) {
                if (round % 2 == 0) { p0 ^= keys.k1[round]; p1 ^= keys.k0[round]; }
                c[i][0] = (p1 >> 32) ^ c[i][1];
                c[i][2] = (p0 >> 32) ^ c[i][3];
            } else {
                c[i][0] = (p1 >> 32) ^ c[i][1] ^ keys.k0[round];
                c[i][2] = (p0 >> 32) ^ c[i][3] ^ keys.k1[round];
            }
            c[i][1] = p1;
            c[i][3] = p0;
        }
}

// Words 0 .. 4 * calls - 1 of a sample: write(number, word) for each.
template <class Write>
inline void philox_words(uint64_t seed, uint64_t sample, uint32_t purpose, int64_t calls, Write write) {
    const Keys keys(seed);
    const vq c1 = splat((uint64_t)smn_counter1(0, purpose));
    const vq low = splat((uint64_t)(uint32_t)sample), high = splat(sample >> 32);
    vq even_calls;
    for (int l = 0; l < W / 2; ++l) even_calls[l] = 2 * l;
    for (int64_t call = 0; call < calls; call += W) {
        const vq first = even_calls + (uint64_t)call;
        vq c[2][4] = {{first & 0xFFFF, c1, low, high}, {(first + 1) & 0xFFFF, c1, low, high}};
        philox_lanes<2>(c, keys);
        int32_t words[4][W];
        SMN_UNROLL for (int word = 0; word < 4; ++word) store(words[word], low_halves(c[0][word], c[1][word]));
        const int64_t here = calls - call < W ? calls - call : W;
        for (int64_t l = 0; l < here; ++l)
            for (int word = 0; word < 4; ++word) write(4 * (call + l) + word, (uint32_t)words[word][l]);
    }
}

inline void random_words(uint64_t seed, uint64_t sample, int32_t purpose, int64_t count, int64_t* out) {
    philox_words(seed, sample, (uint32_t)purpose, (count + 3) / 4, [=](int64_t i, uint32_t word) {
        if (i < count) out[i] = word;
    });
}

}  // namespace
