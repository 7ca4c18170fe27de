// SPDX-License-Identifier: Apache-2.0
// Section 4 along one axis, for any axis: a flat run of outputs whose taps lie k * stride away.
// Laid out so, x, y and t are the same loop and every lane is full whatever the grid.
#pragma once
#include "simd.h"

namespace {

template <int U>
inline void filter_vectors(float* out, const float* in, ptrdiff_t stride, const float* g, int radius) {
    vf acc[U];
    SMN_UNROLL for (int u = 0; u < U; ++u) acc[u] = splat(g[0]) * load(in + u * W);
    for (int k = 1; k <= radius; ++k) {
        const float* before = in - k * stride;
        const float* after = in + k * stride;
        vf weight = splat(g[k]);
        SMN_UNROLL for (int u = 0; u < U; ++u) acc[u] = acc[u] + weight * (load(before + u * W) + load(after + u * W));
    }
    SMN_UNROLL for (int u = 0; u < U; ++u) store(out + u * W, acc[u]);
}

// out[i] = g[0] in[i] + sum over k of g[k] (in[i - k stride] + in[i + k stride]), i < n.
// Both arrays need W - 1 floats of slack behind their last element.
inline void filter(float* out, const float* in, int64_t n, ptrdiff_t stride, const float* g, int radius) {
    int64_t i = 0;
    for (; n - i > 7 * W; i += 8 * W) filter_vectors<8>(out + i, in + i, stride, g, radius);
    if (n - i > 3 * W) { filter_vectors<4>(out + i, in + i, stride, g, radius); i += 4 * W; }
    if (n - i > W) { filter_vectors<2>(out + i, in + i, stride, g, radius); i += 2 * W; }
    if (n - i > W) { filter_vectors<2>(out + i, in + i, stride, g, radius); i += 2 * W; }
    if (n - i > 0) filter_vectors<1>(out + i, in + i, stride, g, radius);
}

// The torus: n rows of `row` floats become radius + n + radius rows, continued around the ends.
inline void wrap_rows(float* out, const float* in, int n, int radius, int64_t row) {
    int from = (n - radius % n) % n;
    for (int left = n + 2 * radius; left > 0; from = 0) {
        int rows = n - from < left ? n - from : left;
        memcpy(out, in + from * row, sizeof(float) * rows * row);
        out += rows * row;
        left -= rows;
    }
}

}  // namespace
