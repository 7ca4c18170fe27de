// SPDX-License-Identifier: Apache-2.0
// Random words (extension 4), a Philox call at a time: what a thread of the CUDA kernel does.
#pragma once
#include "block.h"

// Words 4 * call .. 4 * call + 3 of a sample, of which `count` are wanted.
SMN_FN void write_words(smn_u64 seed, smn_u64 sample, smn_u32 purpose, smn_i64 call, smn_i64 count, int64_t* out) {
    smn_u32 words[4];
    smn_words(seed, sample, purpose, (smn_u32)call, words);
    SMN_UNROLL_DEVICE
    for (int i = 0; i < 4; ++i)
        if (4 * call + i < count) out[4 * call + i] = words[i];
}
