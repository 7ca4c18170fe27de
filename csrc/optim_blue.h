// SPDX-License-Identifier: Apache-2.0
// Section 7: which mask of which partition a sample has.
#pragma once
#include "contract.h"
#include "plan.h"

SMN_FN smn_u64 smn_partition_of(const smn_optim_blue* p, smn_u64 sample) {
    return p->rows == SMN_COMPLEMENTARY ? sample / (smn_u64)p->masks : sample;
}
SMN_FN int smn_mask_of(const smn_optim_blue* p, smn_u64 sample) {
    return p->rows == SMN_COMPLEMENTARY ? (int)(sample % (smn_u64)p->masks) : 0;
}
