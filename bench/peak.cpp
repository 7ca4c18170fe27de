// SPDX-License-Identifier: Apache-2.0
// The most that one core does of an operation: plain loops over registers, whose chains do not wait for each other.
// bench/floor.py compiles and runs it with the flags of an instruction set.
#include "simd.h"

constexpr int CHAINS = 6;  // of each kind: enough for a latency of three cycles at two a cycle, few enough for 16 registers

extern "C" int peak_lanes() { return W; }

// 2 * CHAINS * W float operations a round, half of them products, half sums; never fused.
extern "C" float peak_floats(int64_t rounds, float factor, float term) {
    vf product[CHAINS], sum[CHAINS];
    for (int i = 0; i < CHAINS; ++i) product[i] = sum[i] = splat((float)i);
    for (int64_t n = 0; n < rounds; ++n)
        SMN_UNROLL for (int i = 0; i < CHAINS; ++i) {
            product[i] = product[i] * splat(factor);
            sum[i] = sum[i] + splat(term);
        }
    vf all = vf{};
    for (int i = 0; i < CHAINS; ++i) all = all + product[i] + sum[i];
    return all[0];
}

// 2 * CHAINS * W / 2 products of 32 bits with 64 bits of result a round.
extern "C" uint64_t peak_products(int64_t rounds, uint32_t factor) {
    vq product[2 * CHAINS];
    for (int i = 0; i < 2 * CHAINS; ++i) product[i] = (uint64_t)(i + 3) - vq{};
    for (int64_t n = 0; n < rounds; ++n)
        SMN_UNROLL for (int i = 0; i < 2 * CHAINS; ++i) product[i] = multiply_low(product[i], factor);
    vq all = vq{};
    for (int i = 0; i < 2 * CHAINS; ++i) all = all ^ product[i];
    return all[0];
}

// 2 * CHAINS * W integer operations a round, half of them sums, half comparisons that choose.
extern "C" int32_t peak_integers(int64_t rounds, int32_t term) {
    vi sum[CHAINS], least[CHAINS];
    for (int i = 0; i < CHAINS; ++i) sum[i] = least[i] = splat((int32_t)i);
    for (int64_t n = 0; n < rounds; ++n)
        SMN_UNROLL for (int i = 0; i < CHAINS; ++i) {
            sum[i] = sum[i] + splat(term);
            least[i] = sum[i] < least[i] ? sum[i] : least[i];
        }
    vi all = vi{};
    for (int i = 0; i < CHAINS; ++i) all = all ^ sum[i] ^ least[i];
    return all[0];
}
