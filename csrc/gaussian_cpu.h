// SPDX-License-Identifier: Apache-2.0
// Section 4 on a volume that is given: along x, then y, then t, each from a copy with the halo it needs.
#pragma once
#include "filter_cpu.h"
#include "plan.h"

namespace {

inline int64_t filtered(const smn_gaussian* p, int axis) {
    return p->wrap ? p->size[axis] : p->size[axis] - 2 * (int64_t)p->radius[axis];
}
inline int64_t haloed(const smn_gaussian* p, int axis) {
    return p->wrap ? p->size[axis] + 2 * (int64_t)p->radius[axis] : p->size[axis];
}

inline size_t gaussian_bytes(const smn_gaussian* p) {
    const int64_t x = filtered(p, 2), y = filtered(p, 1);
    int64_t line = haloed(p, 2), slice = haloed(p, 1) * x, volume = haloed(p, 0) * y * x;
    int64_t along_x = (int64_t)p->size[0] * p->size[1] * x, along_y = p->size[0] * y * x;
    return sizeof(float) * (size_t)(line + slice + volume + along_x + along_y + 5 * W);
}

// Runs of `inner` floats, n of them, copied with `halo` wrapped ones before and behind.
inline void with_halo(float* to, const float* from, int64_t n, int64_t inner, int64_t halo) {
    for (int64_t i = -halo; i < n + halo; ++i) {
        int64_t source = (i % n + n) % n;
        memcpy(to + (i + halo) * inner, from + source * inner, sizeof(float) * (size_t)inner);
    }
}

inline void gaussian(const smn_gaussian* p, const float* in, float* out, void* workspace) {
    const int64_t T = p->size[0], Y = p->size[1];
    const int64_t x = filtered(p, 2), y = filtered(p, 1), t = filtered(p, 0);
    float* line = (float*)workspace;
    float* slice = line + haloed(p, 2) + W;
    float* volume = slice + haloed(p, 1) * x + W;
    float* along_x = volume + haloed(p, 0) * y * x + W;
    float* along_y = along_x + T * Y * x + W;
    memset(line + haloed(p, 2), 0, sizeof(float) * W);  // lanes beyond a row's end: see clear_beyond_rows
    const float* g[3];
    int64_t halo[3];
    for (int axis = 0; axis < 3; ++axis) {
        g[axis] = p->taps + axis * (int64_t)p->taps_stride;
        halo[axis] = p->wrap ? p->radius[axis] : 0;
    }
    for (int64_t row = 0; row < T * Y; ++row) {
        with_halo(line, in + row * p->size[2], p->size[2], 1, halo[2]);
        filter(along_x + row * x, line + p->radius[2], x, 1, g[2], p->radius[2]);
    }
    for (int64_t s = 0; s < T; ++s) {
        with_halo(slice, along_x + s * Y * x, Y, x, halo[1]);
        filter(along_y + s * y * x, slice + p->radius[1] * x, y * x, x, g[1], p->radius[1]);
    }
    with_halo(volume, along_y, T, y * x, halo[0]);
    // Into along_x, which is free again and large enough: the filter writes whole vectors, beyond the end too.
    filter(along_x, volume + p->radius[0] * y * x, t * y * x, y * x, g[0], p->radius[0]);
    memcpy(out, along_x, sizeof(float) * (size_t)(t * y * x));
}

}  // namespace
