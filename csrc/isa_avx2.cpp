// SPDX-License-Identifier: Apache-2.0
#include "color_cpu.h"
#include "gaussian_cpu.h"
#include "optim_blue_cpu.h"
#include "patches_cpu.h"
#include "points_cpu.h"
#include "strategy_cpu.h"

extern "C" const smn_kernels smn_kernels_avx2 = {color_bytes, color, threshold_bytes, threshold,
    add_bias, slot_threshold, mask_ids, gaussian_bytes, gaussian, optim_blue_bytes, optim_blue, optim_blue_mask,
    strategy_bytes, strategy, random_words, noise_at_bytes, noise_at, &training};
