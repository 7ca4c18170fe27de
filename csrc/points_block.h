// SPDX-License-Identifier: Apache-2.0
// Noise at one point by a block of threads (extension 15): a thread makes the noise of rows along x and sums it, others
// sum the rows along y, one sums those along t.
#pragma once
#include "block.h"
#include "points.h"

SMN_FN int points_bytes(const smn_points& p) { return (int)sizeof(float) * 2 * (p.side + 1) * p.side; }

// place: t, y, x in sixteenths; shared: points_bytes. The noise there, on every thread.
SMN_FN float noise_at_block(Block& block, const smn_points& p, smn_u64 seed, smn_u64 sample, const int64_t* sigma_table,
                            const int32_t* place, float* shared) {
    const int banks = p.color == SMN_WHITE ? 0 : p.first ? 2 : 1, side = p.side;
    const int q[3] = {place[0], place[1], place[2]};
    int entry[2];
    smn_sigma_draw(seed, sample, p.first, (const smn_i64*)sigma_table, entry);
    const int first = entry[0], second = entry[1];
    float* columns = shared + 2 * side * side;
    block.tasks(banks * side * side, [=](int i) {
        const int bank = i / (side * side), t = i / side % side, y = i % side, e = bank ? second : first;
        const PointAxis at = smn_point_axis(p, bank, e, 0, q[0]), ay = smn_point_axis(p, bank, e, 1, q[1]);
        if (t >= at.count || y >= ay.count) return;
        const PointAxis ax = smn_point_axis(p, bank, e, 2, q[2]);
        shared[i] = smn_point_sum(
            ax, [=](int x) { return smn_white(seed, sample, at.first + t, ay.first + y, ax.first + x); });
    });
    block.tasks(banks * side, [=](int i) {
        const int bank = i / side, t = i % side, e = bank ? second : first;
        if (t >= smn_point_axis(p, bank, e, 0, q[0]).count) return;
        const float* row = shared + i * side;
        columns[i] = smn_point_sum(smn_point_axis(p, bank, e, 1, q[1]), [=](int y) { return row[y]; });
    });
    float low[2] = {0, 0};
    SMN_UNROLL_DEVICE
    for (int bank = 0; bank < 2; ++bank) {
        if (bank >= banks) break;
        const float* column = columns + bank * side;
        low[bank] =
            smn_point_sum(smn_point_axis(p, bank, bank ? second : first, 0, q[0]), [=](int t) { return column[t]; });
    }
    const float white = smn_white(seed, sample, smn_nearest(q[0]), smn_nearest(q[1]), smn_nearest(q[2]));
    return smn_point_color(p.color, white, low[0], low[1]);
}
