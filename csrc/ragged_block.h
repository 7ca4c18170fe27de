// SPDX-License-Identifier: Apache-2.0
// Extension 14 by a block of threads: an exact count of the tokens that a row has, its padding left as it is.
#pragma once
#include "ragged.h"
#include "threshold_block.h"

SMN_FN void ragged_threshold_block(Block& block, const smn_ragged& r, int64_t length, int64_t visible,
                                   const float* scores, const smn_outputs& out) {
    const int n = smn_ragged_length(r, length);
    const smn_slot slot = smn_ragged_slot(r, length, visible);
    const Place place = {0, 0, r.keep};
    if (slot.visible > 0 && slot.visible < n) {
        const smn_ranking ranking = {1, n, slot.visible, slot.quantile, slot.slope};
        with_row(block, n, [=](int i) { return scores[i]; }, [](float score) { return smn_key(score); },
                 [&](auto& row) { rank_row(block, row, ranking, {0, 0}, place, out); });
    } else {  // all, or none
        const unsigned key = slot.visible ? 1u : 0u;
        auto same = read_keys(n, 0, block.threads, [](int) { return 0.0f; }, [=](float) { return key; });
        write_outputs(block, same, place, 1u, out);
    }
}
