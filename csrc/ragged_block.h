// SPDX-License-Identifier: Apache-2.0
// Extension 14 by a block of threads: an exact count of the tokens that a row has, its padding left as it is.
#pragma once
#include "ragged.h"
#include "threshold_block.h"

SMN_FN void ragged_threshold_block(Block& block, const smn_ragged& r, int64_t length, int64_t visible,
                                   const float* scores, const smn_outputs& out) {
    const int n = smn_ragged_length(r, length);
    const smn_slot slot = smn_ragged_slot(r, length, visible);
    auto keys = [=](int token) { return smn_key(scores[token]); };
    Cut cut = slot.visible ? Cut{0u, n} : Cut{0xFFFFFFFFu, 0};  // all, or none
    if (slot.visible > 0 && slot.visible < n) {
        const smn_ranking ranking = {1, n, slot.visible, slot.quantile, slot.slope};
        cut = find_cut(block, keys, [=](int token) { return scores[token]; }, ranking);
    }
    write_outputs(block, keys, n, Place{0, 0, r.keep}, cut, out);
}
