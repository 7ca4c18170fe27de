// SPDX-License-Identifier: Apache-2.0
// The arithmetic of the mask contract (smnoise/contract/masks.md), once, for every C++ and CUDA backend.
// It includes nothing, so NVRTC can compile it; SMN_FN is `__device__` there and plain inline on the host.
#pragma once

#ifndef SMN_FN
#define SMN_FN static inline
#endif

typedef unsigned int smn_u32;
typedef unsigned long long smn_u64;
typedef long long smn_i64;

enum { SMN_PURPOSE_NOISE = 0, SMN_PURPOSE_SIGMA = 1, SMN_PURPOSE_ORDER = 2,
       SMN_PURPOSE_STRATEGY = 3, SMN_PURPOSE_TIE = 4 };
enum { SMN_RELEASE = 64 };  // steps that a token is left alone after no swap helped it, section 7
enum { SMN_BANK = 32 };  // sigmas per bank, section 3

#define SMN_PHILOX_M0 0xD2511F53u
#define SMN_PHILOX_M1 0xCD9E8D57u
#define SMN_PHILOX_W0 0x9E3779B9u
#define SMN_PHILOX_W1 0xBB67AE85u

// Section 1. c: the four counter words, replaced by the four output words.
SMN_FN void smn_philox(smn_u32 c[4], smn_u64 seed) {
    smn_u32 k0 = (smn_u32)seed, k1 = (smn_u32)(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        smn_u64 p0 = (smn_u64)SMN_PHILOX_M0 * c[0];
        smn_u64 p1 = (smn_u64)SMN_PHILOX_M1 * c[2];
        smn_u32 c1 = c[1], c3 = c[3];
        c[0] = (smn_u32)(p1 >> 32) ^ c1 ^ k0;
        c[1] = (smn_u32)p1;
        c[2] = (smn_u32)(p0 >> 32) ^ c3 ^ k1;
        c[3] = (smn_u32)p0;
        k0 += SMN_PHILOX_W0;
        k1 += SMN_PHILOX_W1;
    }
}

// Section 1. Counter words 0 and 1; words 2 and 3 are the sample index.
SMN_FN smn_u32 smn_counter0(smn_i64 block, smn_i64 y) {
    return ((smn_u32)block & 0xFFFFu) | ((smn_u32)y << 16);
}
SMN_FN smn_u32 smn_counter1(smn_i64 t, smn_u32 purpose) {
    return ((smn_u32)t & 0x0FFFFFFFu) | (purpose << 28);
}

// Section 2. The white value at one coordinate: of an even x the low half of its word, of an odd x the high half.
SMN_FN float smn_white_of(smn_u32 word, smn_i64 x) {
    return (float)(short)((x & 1) ? word >> 16 : word & 0xFFFFu) * 0x1p-16f;
}
SMN_FN float smn_white(smn_u64 seed, smn_u64 sample, smn_i64 t, smn_i64 y, smn_i64 x) {
    smn_u32 c[4] = {smn_counter0(x >> 3, y), smn_counter1(t, SMN_PURPOSE_NOISE),
                    (smn_u32)sample, (smn_u32)(sample >> 32)};
    smn_philox(c, seed);
    const int i = (int)(x & 7) >> 1;  // chosen, not indexed: on a GPU c stays in registers
    return smn_white_of(i & 2 ? (i & 1 ? c[3] : c[2]) : (i & 1 ? c[1] : c[0]), x);
}

// Section 3. Which entry of each sigma bank this sample uses. first[i]: lowest partner of bank1[i],
// or a null pointer where the colour has one sigma only. table: of extension 12, or null for even draws.
SMN_FN void smn_sigma_draw(smn_u64 seed, smn_u64 sample, const int* first, const smn_i64* table, int index[2]) {
    smn_u32 c[4] = {0u, smn_counter1(0, SMN_PURPOSE_SIGMA), (smn_u32)sample, (smn_u32)(sample >> 32)};
    smn_philox(c, seed);
    index[0] = (int)(((smn_u64)c[0] * SMN_BANK) >> 32);
    if (table) {
        index[0] = 0;
        for (int k = 0; k < SMN_BANK - 1; ++k) index[0] += table[k] <= (smn_i64)c[0];
    }
    index[1] = 0;
    if (first) {
        int lowest = first[index[0]];
        index[1] = lowest + (int)(((smn_u64)c[1] * (smn_u64)(SMN_BANK - lowest)) >> 32);
    }
}

// Extension 13. What a place along t, y or x (axis 0, 1, 2) adds to a window's origin: the field repeats.
SMN_FN int smn_place(smn_i64 place, int axis) {
    return (int)(place & ((1 << (axis == 0 ? 28 : axis == 1 ? 16 : 19)) - 1));
}

// Words 4 * call .. 4 * call + 3 of a sample (extension 4); section 7 orders the tokens of a partition by them.
SMN_FN void smn_words(smn_u64 seed, smn_u64 sample, smn_u32 purpose, smn_u32 call, smn_u32 words[4]) {
    words[0] = smn_counter0(call, 0);
    words[1] = smn_counter1(0, purpose);
    words[2] = (smn_u32)sample;
    words[3] = (smn_u32)(sample >> 32);
    smn_philox(words, seed);
}
