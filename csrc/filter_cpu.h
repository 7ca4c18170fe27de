// SPDX-License-Identifier: Apache-2.0
// Section 4 along one axis, for any axis: a flat run of outputs whose taps lie k * stride away.
// Laid out so, x, y and t are the same loop and every lane is full whatever the grid.
#pragma once
#include "simd.h"

namespace {

// Vectors done at once: as many as leave registers for a weight and a sum.
#if defined(__AVX512F__) || defined(__AVX2__)
constexpr int AT_ONCE = 14;
#else
constexpr int AT_ONCE = 12;
#endif

// How to come from the values k places away to those k + 1 away.
struct Straight {
    ptrdiff_t stride;
    void operator()(const float*& before, const float*& after) const { before -= stride; after += stride; }
    void advance(ptrdiff_t) {}
};
struct Ring {  // where the ends meet
    ptrdiff_t stride;
    const float *first, *last;  // of the places of the value that is worked on
    void operator()(const float*& before, const float*& after) const {
        before = before == first ? last : before - stride;
        after = after == last ? first : after + stride;
    }
    void advance(ptrdiff_t n) { first += n; last += n; }
};

template <int U, class Step>
inline void filter_vectors(float* out, const float* in, Step step, const float* g, int radius) {
    vf acc[U];
    const float *before = in, *after = in;
    vf weight = splat(g[0]);
    times<U>([&](int u) SMN_INLINE { acc[u] = weight * load(in + u * W); });
    for (int k = 1; k <= radius; ++k) {
        step(before, after);
        weight = splat(g[k]);
        times<U>([&](int u) SMN_INLINE { acc[u] += weight * (load(before + u * W) + load(after + u * W)); });
    }
    times<U>([&](int u) SMN_INLINE { store(out + u * W, acc[u]); });
}

template <int U = AT_ONCE, class Step>
inline void filter_some(int vectors, float* out, const float* in, Step step, const float* g, int radius) {
    if (vectors == U) return filter_vectors<U>(out, in, step, g, radius);
    if constexpr (U > 1) filter_some<U - 1>(vectors, out, in, step, g, radius);
}

// out[i] = g[0] in[i] + sum over k of g[k] (in[k steps before i] + in[k steps after i]), i < n.
// Both arrays need W - 1 floats of slack behind their last element.
template <class Step>
inline void filter_by(float* out, const float* in, int64_t n, Step step, const float* g, int radius) {
    int64_t vectors = (n + W - 1) / W, turns = (vectors + AT_ONCE - 1) / AT_ONCE;
    for (; turns > 0; --turns) {
        const int now = (int)((vectors + turns - 1) / turns);  // equal shares: few vectors would wait for their sums
        filter_some(now, out, in, step, g, radius);
        step.advance(now * W);
        out += now * W;
        in += now * W;
        vectors -= now;
    }
}
inline void filter(float* out, const float* in, int64_t n, ptrdiff_t stride, const float* g, int radius) {
    filter_by(out, in, n, Straight{stride}, g, radius);
}

struct Taps { const float* g; int radius; };

// Two filters of the same values, the wider one last: they share sums. Few vectors at once, for twice as many results.
template <int U>
inline void filter_vectors(float* const out[2], const float* in, ptrdiff_t stride, const Taps taps[2]) {
    vf narrow[U], wide[U];
    const float *before = in, *after = in, *g0 = taps[0].g, *g1 = taps[1].g;
    vf weight = splat(g0[0]), weight1 = splat(g1[0]);
    times<U>([&](int u) SMN_INLINE {
        const vf value = load(in + u * W);
        narrow[u] = weight * value;
        wide[u] = weight1 * value;
    });
    int k = 1;
    for (; k <= taps[0].radius; ++k) {
        before -= stride;
        after += stride;
        weight = splat(g0[k]);
        weight1 = splat(g1[k]);
        times<U>([&](int u) SMN_INLINE {
            const vf sum = load(before + u * W) + load(after + u * W);
            narrow[u] += weight * sum;
            wide[u] += weight1 * sum;
        });
    }
    times<U>([&](int u) SMN_INLINE { store(out[0] + u * W, narrow[u]); });
    for (; k <= taps[1].radius; ++k) {
        before -= stride;
        after += stride;
        weight1 = splat(g1[k]);
        times<U>([&](int u) SMN_INLINE { wide[u] += weight1 * (load(before + u * W) + load(after + u * W)); });
    }
    times<U>([&](int u) SMN_INLINE { store(out[1] + u * W, wide[u]); });
}

template <int U>
inline void filter_some(int vectors, float* const out[2], const float* in, ptrdiff_t stride, const Taps taps[2]) {
    if (vectors == U) return filter_vectors<U>(out, in, stride, taps);
    if constexpr (U > 1) filter_some<U - 1>(vectors, out, in, stride, taps);
}

inline void filter_twice(float* const out[2], const float* in, int64_t n, ptrdiff_t stride, const Taps taps[2]) {
    constexpr int TWICE = SMN_LANES == 16 ? 7 : 6;
    int64_t vectors = (n + W - 1) / W, turns = (vectors + TWICE - 1) / TWICE;
    float* to[2] = {out[0], out[1]};
    for (; turns > 0; --turns) {
        const int now = (int)((vectors + turns - 1) / turns);
        filter_some<TWICE>(now, to, in, stride, taps);
        to[0] += now * W;
        to[1] += now * W;
        in += now * W;
        vectors -= now;
    }
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
