// SPDX-License-Identifier: Apache-2.0
// Philox (section 1) a vector of counters at a time.
#pragma once
#include "contract.h"
#include "simd.h"

namespace {

// The Philox key of each round, as the 64-bit words that are broadcast into lanes.
struct Keys {
    uint64_t k0[10], k1[10];
    explicit Keys(uint64_t seed) {
        for (uint32_t round = 0; round < 10; ++round) {
            k0[round] = (uint32_t)seed + round * SMN_PHILOX_W0;
            k1[round] = (uint32_t)(seed >> 32) + round * SMN_PHILOX_W1;
        }
    }
};

// Philox over W / 2 counters, one in the low half of each 64-bit lane. The high halves collect garbage
// that nothing reads: the multiply takes low halves only.
inline void philox_lanes(vq c[4], const Keys& keys) {
    SMN_UNROLL for (int round = 0; round < 10; ++round) {
        vq p0 = multiply_low(c[0], SMN_PHILOX_M0), p1 = multiply_low(c[2], SMN_PHILOX_M1);
        vq c0 = (p1 >> 32) ^ c[1] ^ keys.k0[round];
        vq c2 = (p0 >> 32) ^ c[3] ^ keys.k1[round];
        c[0] = c0; c[1] = p1; c[2] = c2; c[3] = p0;
    }
}

// Words 0 .. 4 * calls - 1 of a sample: write(number, word) for each.
template <class Write>
inline void philox_words(uint64_t seed, uint64_t sample, uint32_t purpose, int64_t calls, Write write) {
    const Keys keys(seed);
    const vq c1 = (uint64_t)smn_counter1(0, purpose) - vq{};
    const vq low = (sample & 0xFFFFFFFFull) - vq{}, high = (sample >> 32) - vq{};
    vq even_calls;
    for (int l = 0; l < W / 2; ++l) even_calls[l] = 2 * l;
    for (int64_t call = 0; call < calls; call += W) {
        const vq first = even_calls + (uint64_t)call;
        vq even[4] = {first & 0xFFFF, c1, low, high};
        vq odd[4] = {(first + 1) & 0xFFFF, c1, low, high};
        philox_lanes(even, keys);
        philox_lanes(odd, keys);
        uint32_t words[4][W];
        SMN_UNROLL for (int word = 0; word < 4; ++word) {
            vq both = (even[word] & 0xFFFFFFFFull) | (odd[word] << 32);
            memcpy(words[word], &both, sizeof both);
        }
        const int64_t here = calls - call < W ? calls - call : W;
        for (int64_t l = 0; l < here; ++l)
            for (int word = 0; word < 4; ++word) write(4 * (call + l) + word, words[word][l]);
    }
}

inline void random_words(uint64_t seed, uint64_t sample, int32_t purpose, int64_t count, int64_t* out) {
    philox_words(seed, sample, (uint32_t)purpose, (count + 3) / 4, [=](int64_t i, uint32_t word) {
        if (i < count) out[i] = word;
    });
}

}  // namespace
