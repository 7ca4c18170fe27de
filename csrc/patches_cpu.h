// SPDX-License-Identifier: Apache-2.0
// Training ops on the CPU: patches picked out of pixels, and the loss of predicted patches. Nothing is made of the
// patches that are not asked for.
#pragma once
#include "patches.h"
#include "plan.h"
#include "simd.h"

namespace {

typedef uint8_t vbytes __attribute__((vector_size(SMN_LANES)));

inline vf load_pixels(const uint8_t* p) {
    vbytes v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, vf);
}
inline vf load_pixels(const float* p) { return load(p); }

// out[0 .. P): one channel of the patch at `token` of clip `b`, times scale, plus shift, ordered (t, h, w).
template <class Pixel>
inline void read_patch(const smn_patches& p, int64_t b, int64_t token, int32_t channel, float scale, float shift,
                       float* out) {
    const int64_t H = p.size[1], width = p.size[2], across = width / p.patch[2], down = H / p.patch[1];
    const int64_t x = token % across * p.patch[2], y = token / across % down * p.patch[1];
    const int64_t t = token / (across * down) * p.patch[0];
    const Pixel* clip = (const Pixel*)p.pixels + (b * p.channels + channel) * p.size[0] * H * width;
    const vf scales = splat(scale), shifts = splat(shift);
    for (int64_t dt = 0; dt < p.patch[0]; ++dt)
        for (int64_t dy = 0; dy < p.patch[1]; ++dy) {
            const Pixel* row = clip + ((t + dt) * H + y + dy) * width + x;
            int i = 0;
            for (; i + W <= p.patch[2]; i += W) store(out + i, load_pixels(row + i) * scales + shifts);
            for (; i < p.patch[2]; ++i) out[i] = (float)row[i] * scale + shift;
            out += p.patch[2];
        }
}
inline void read_patch(const smn_patches& p, int64_t b, int64_t token, int32_t channel, float scale, float shift,
                       float* out) {
    if (p.is_bytes) read_patch<uint8_t>(p, b, token, channel, scale, shift, out);
    else read_patch<float>(p, b, token, channel, scale, shift, out);
}

inline int64_t patch_pixels(const smn_patches& p) { return (int64_t)p.patch[0] * p.patch[1] * p.patch[2]; }

// Patch `row` of all [B * picked]: out [C, P].
inline void gather_patch(const smn_patches* p, const float* scale, const float* shift, int64_t row, float* out) {
    for (int32_t c = 0; c < p->channels; ++c)
        read_patch(*p, row / p->picked, p->ids[row], c, scale[c], shift[c], out + c * patch_pixels(*p));
}

inline float sum_of(const float* v, int64_t n, float less, bool squared) {
    vf sums = vf{}, mean = splat(less);
    int64_t i = 0;
    for (; i + W <= n; i += W) {
        vf d = load(v + i) - mean;
        sums += squared ? d * d : d;
    }
    float sum = 0;
    for (int l = 0; l < W; ++l) sum += sums[l];
    for (; i < n; ++i) sum += squared ? (v[i] - less) * (v[i] - less) : v[i] - less;
    return sum;
}

// target [C, P] of patch `row`.
inline void read_target(const smn_patch_loss& l, int64_t row, float* target) {
    const smn_patches& p = l.patches;
    const int64_t P = patch_pixels(p);
    for (int32_t c = 0; c < p.channels; ++c) {
        float* v = target + c * P;
        read_patch(p, row / p.picked, p.ids[row], c, l.unit, 0.0f, v);
        if (!l.normalise) continue;
        const float mean = sum_of(v, P, 0.0f, false) / (float)P;
        const float variance = sum_of(v, P, mean, true) / (float)(P - 1);
        const float deviation =
            l.eps_inside ? __builtin_sqrtf(variance + l.eps) : __builtin_sqrtf(variance) + l.eps;
        const float inverse = 1.0f / deviation;
        for (int64_t i = 0; i < P; ++i) v[i] = (v[i] - mean) * inverse;
    }
}

// The sum of squared errors of patch `row`; target: scratch [C, P].
inline double patch_loss(const smn_patch_loss* l, int64_t row, float* target) {
    read_target(*l, row, target);
    const int64_t P = patch_pixels(l->patches), C = l->patches.channels;
    const float* prediction = l->prediction + row * P * C;
    double sum = 0;
    for (int64_t c = 0; c < C; ++c) {
        float part[8] = {0};  // eight chains: one would wait for itself
        for (int64_t i = 0; i < P; ++i) {
            const float d = prediction[i * C + c] - target[c * P + i];
            part[i & 7] += d * d;
        }
        for (float v : part) sum += v;
    }
    return sum;
}

// gradient [P * C] of patch `row`: scale * (prediction - target).
inline void patch_loss_gradient(const smn_patch_loss* l, float scale, int64_t row, float* target, float* gradient) {
    read_target(*l, row, target);
    const int64_t P = patch_pixels(l->patches), C = l->patches.channels;
    const float* prediction = l->prediction + row * P * C;
    for (int64_t i = 0; i < P; ++i)
        for (int64_t c = 0; c < C; ++c)
            gradient[i * C + c] = scale * (prediction[i * C + c] - target[c * P + i]);
}

// out [D] = values + position.
inline void add_rows(const float* values, const float* position, int64_t width, float* out) {
    int64_t i = 0;
    for (; i + W <= width; i += W) store(out + i, load(values + i) + load(position + i));
    for (; i < width; ++i) out[i] = values[i] + position[i];
}

constexpr smn_training training = {gather_patch, patch_loss, patch_loss_gradient, add_rows};

}  // namespace
