// SPDX-License-Identifier: Apache-2.0
// Where the pixels of a patch lie, and what the training ops are handed.
#pragma once
#include <stddef.h>
#include <stdint.h>

// A batch of clips [B, C, T, H, W], contiguous, cut into patches of (t, h, w); a spectrogram is [B, 1, 1, time, mel].
typedef struct smn_patches_ {
    const void* pixels;
    int32_t is_bytes;     // 1: uint8, 0: float32
    int32_t channels;
    int32_t size[3];      // T, H, W
    int32_t patch[3];     // t, h, w; they divide the size
    const int64_t* ids;   // [B, picked] tokens, each below the grid's count
    int64_t picked;       // patches of a clip
} smn_patches;

// Loss of predictions [B, picked, P * C] (channel fastest) of normalised patches.
typedef struct smn_patch_loss_ {
    smn_patches patches;
    float unit;            // pixel * unit is what is normalised: 1 / 255 for bytes
    float eps;
    int32_t eps_inside;    // 1: / sqrt(var + eps), 0: / (sqrt(var) + eps)
    int32_t normalise;     // 0: the values themselves
    const float* prediction;
} smn_patch_loss;
