// SPDX-License-Identifier: Apache-2.0
// Section 4 along one axis of a volume that is given, for GPUs: a thread owns RUN neighbouring outputs.
#pragma once
#include "color_block.h"

// in [outer, n, inner] to out [outer, n_out, inner]; n_out = n if wrap, else n - 2 * radius.
typedef struct {
    const float* in;
    float* out;
    const float* taps;  // g[0..radius]
    int64_t outer;
    int32_t n, n_out, inner, radius, wrap;
} smn_axis;

SMN_FN int64_t gaussian_tasks(const smn_axis& a) {
    return a.outer * a.inner * ((a.n_out + SMN_RUN - 1) / SMN_RUN);
}

template <bool TORUS>
SMN_FN void gaussian_run(const smn_axis& a, int64_t task) {
    const int64_t column = task % a.inner, rest = task / a.inner;
    const int runs = (a.n_out + SMN_RUN - 1) / SMN_RUN, first = (int)(rest % runs) * SMN_RUN;
    const float* in = a.in + rest / runs * a.n * a.inner + column;
    float* out = a.out + (rest / runs * a.n_out + first) * a.inner + column;
    const int64_t inner = a.inner;
    float run[SMN_RUN];
    const int centre = TORUS ? first : first + a.radius;
    filter_run<SMN_RUN, TORUS>(run, [=](int at) { return in[at * inner]; }, centre, a.n, a.taps, a.radius);
    SMN_UNROLL_DEVICE
    for (int j = 0; j < SMN_RUN; ++j) {
        if (first + j >= a.n_out) break;
        out[j * inner] = run[j];
    }
}

SMN_FN void gaussian_task(const smn_axis& a, int64_t task) {
    if (a.wrap)
        gaussian_run<true>(a, task);
    else
        gaussian_run<false>(a, task);
}
