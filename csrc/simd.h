// SPDX-License-Identifier: Apache-2.0
// Vectors for the instruction set this file is compiled for (setup.py compiles it three times).
// GCC/Clang vector extensions carry the arithmetic; only what they cannot say well is an intrinsic.
// Nothing here may call an inline library function: the linker could then keep an AVX-512 copy of it
// for everyone.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define SMN_LANES 16
#elif defined(__AVX2__)
#include <immintrin.h>
#define SMN_LANES 8
#else
#define SMN_LANES 4
#endif

// Arrays of vectors stay in registers only where the loops over them are unrolled, which -O2 alone does not.
#if defined(__clang__)
#define SMN_UNROLL _Pragma("clang loop unroll(full)")
#define SMN_UNROLL_BY_4 _Pragma("clang loop unroll_count(4)")
#else
#define SMN_UNROLL _Pragma("GCC unroll 16")
#define SMN_UNROLL_BY_4 _Pragma("GCC unroll 4")
#endif

#define SMN_INLINE __attribute__((always_inline))

namespace {

// f(0) .. f(n - 1), one after the other: where the loop is too long for SMN_UNROLL.
template <int n, class F> SMN_INLINE inline void times(F f) {
    if constexpr (n > 0) {
        times<n - 1>(f);
        f(n - 1);
    }
}

constexpr int W = SMN_LANES;
typedef float vf __attribute__((vector_size(4 * SMN_LANES)));
typedef int32_t vi __attribute__((vector_size(4 * SMN_LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * SMN_LANES)));
typedef uint64_t vq __attribute__((vector_size(4 * SMN_LANES)));  // W / 2 lanes

inline vf load(const float* p) { vf v; memcpy(&v, p, sizeof v); return v; }
inline vi load(const int32_t* p) { vi v; memcpy(&v, p, sizeof v); return v; }
inline void store(float* p, vf v) { memcpy(p, &v, sizeof v); }
inline void store(int32_t* p, vi v) { memcpy(p, &v, sizeof v); }
inline vf splat(float x) { return x - vf{}; }  // x - 0 is x, -0 too: the compiler drops it
inline vi splat(int32_t x) { return x - vi{}; }
inline vq splat(uint64_t x) { return x - vq{}; }
inline vi numbered() {  // 0, 1, 2, ...
    vi lanes;
    for (int i = 0; i < W; ++i) lanes[i] = i;
    return lanes;
}
inline vf to_float(vi v) { return __builtin_convertvector(v, vf); }

// table[index], lane by lane, for indices of 0 .. W - 1.
inline vi pick(vi table, vi index) {
#if defined(__AVX512F__)
    return (vi)_mm512_permutexvar_epi32((__m512i)index, (__m512i)table);
#elif defined(__AVX2__)
    return (vi)_mm256_permutevar8x32_epi32((__m256i)table, (__m256i)index);
#else
    vi picked;
    for (int i = 0; i < W; ++i) picked[i] = table[index[i]];
    return picked;
#endif
}

inline int32_t sum_of(vi v) {
    int32_t sum = 0;
    SMN_UNROLL for (int l = 0; l < W; ++l) sum += v[l];
    return sum;
}
inline int32_t least_of(vi v) {
    for (int apart = W / 2; apart; apart /= 2) {
        vi other = pick(v, numbered() ^ splat(apart));
        v = other < v ? other : v;
    }
    return v[0];
}

// Product of the low 32 bits of each lane with m. The high halves of `a` may hold anything.
inline vq multiply_low(vq a, uint32_t m) {
#if defined(__AVX512F__)
    return (vq)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi64(m));
#elif defined(__AVX2__)
    return (vq)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(m));
#else
    return (a & 0xFFFFFFFFull) * (uint64_t)m;
#endif
}

// The low halves of 64-bit lanes, in turns: of even, odd, even, ...
inline vi low_halves(vq even, vq odd) {
#if defined(__AVX512F__)
    return (vi)_mm512_mask_shuffle_epi32((__m512i)even, 0xAAAA, (__m512i)odd, _MM_PERM_CCAA);
#elif defined(__AVX2__)
    return (vi)_mm256_blend_epi32((__m256i)even, _mm256_shuffle_epi32((__m256i)odd, 0xA0), 0xAA);
#else
    return (vi)((even & 0xFFFFFFFFull) | (odd << 32));
#endif
}

// Bit i is set where lane i of a < b.
inline uint32_t less_bits(vi a, vi b) {
#if defined(__AVX512F__)
    return _mm512_cmplt_epi32_mask((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (uint32_t)_mm256_movemask_ps((__m256)_mm256_cmpgt_epi32((__m256i)b, (__m256i)a));
#else
    uint32_t bits = 0;
    for (int i = 0; i < W; ++i) bits |= (uint32_t)(a[i] < b[i]) << i;
    return bits;
#endif
}

// dst[i] = base + offset[i] for eight bytes of offset.
inline void store_ids8(int64_t* dst, const uint8_t* offset, int64_t base) {
#if defined(__AVX512F__)
    __m512i ids = _mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i*)offset));
    _mm512_storeu_si512(dst, _mm512_add_epi64(ids, _mm512_set1_epi64(base)));
#elif defined(__AVX2__)
    __m128i bytes = _mm_loadl_epi64((const __m128i*)offset);
    __m256i from = _mm256_set1_epi64x(base);
    _mm256_storeu_si256((__m256i*)dst, _mm256_add_epi64(_mm256_cvtepu8_epi64(bytes), from));
    bytes = _mm_srli_si128(bytes, 4);
    _mm256_storeu_si256((__m256i*)(dst + 4), _mm256_add_epi64(_mm256_cvtepu8_epi64(bytes), from));
#else
    for (int i = 0; i < 8; ++i) dst[i] = base + offset[i];
#endif
}

// dst[i] = rank[i] + (set[i] ? if_set : if_clear) for eight ranks and eight bytes of set, 0 or 1.
inline void store_ranks8(int64_t* dst, const uint8_t* rank, const uint8_t* set, int64_t if_set, int64_t if_clear) {
#if defined(__AVX512F__)
    __m512i base = _mm512_set1_epi64(if_clear), ranks = _mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i*)rank));
    __m128i bytes = _mm_loadl_epi64((const __m128i*)set);
    base = _mm512_mask_set1_epi64(base, (__mmask8)_mm_test_epi8_mask(bytes, bytes), if_set);
    _mm512_storeu_si512(dst, _mm512_add_epi64(ranks, base));
#elif defined(__AVX2__)
    const __m256i clear = _mm256_set1_epi64x(if_clear), more = _mm256_set1_epi64x(if_set - if_clear);
    for (int i = 0; i < 8; i += 4) {
        uint32_t four_ranks, four_set;
        memcpy(&four_ranks, rank + i, 4);
        memcpy(&four_set, set + i, 4);
        __m256i is_set = _mm256_cvtepi8_epi64(_mm_cvtsi32_si128((int)(four_set * 255)));  // 1 to all bits
        __m256i ranks = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128((int)four_ranks));
        ranks = _mm256_add_epi64(_mm256_add_epi64(ranks, clear), _mm256_and_si256(is_set, more));
        _mm256_storeu_si256((__m256i*)(dst + i), ranks);
    }
#else
    for (int i = 0; i < 8; ++i) dst[i] = rank[i] + (set[i] ? if_set : if_clear);
#endif
}

// The lanes of v whose bit is set, one behind the other, and something behind them: W are written. positions[b]: of
// the set bits of b.
inline void store_picked(int32_t* dst, vi v, uint32_t bits, const uint8_t (*positions)[8]) {
#if defined(__AVX512F__)
    (void)positions;
    _mm512_storeu_si512(dst, _mm512_maskz_compress_epi32((__mmask16)bits, (__m512i)v));
#elif defined(__AVX2__)
    store(dst, pick(v, (vi)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)positions[bits]))));
#else
    (void)positions;
    for (int i = 0, n = 0; i < W; ++i) {
        dst[n] = v[i];
        n += bits >> i & 1;
    }
#endif
}

// T: float or int32_t, which are moved as they are.
#if defined(__AVX512F__)
template <class T> inline void transpose(const T* from, T* to, ptrdiff_t pitch) {
    const float* src = (const float*)from;
    float* dst = (float*)to;
    __m512 a[16], b[16];
    SMN_UNROLL for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_ps(src + 16 * i);
    SMN_UNROLL for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
    SMN_UNROLL for (int i = 0; i < 16; i += 4) {
        a[i] = (__m512)_mm512_unpacklo_pd((__m512d)b[i], (__m512d)b[i + 2]);
        a[i + 1] = (__m512)_mm512_unpackhi_pd((__m512d)b[i], (__m512d)b[i + 2]);
        a[i + 2] = (__m512)_mm512_unpacklo_pd((__m512d)b[i + 1], (__m512d)b[i + 3]);
        a[i + 3] = (__m512)_mm512_unpackhi_pd((__m512d)b[i + 1], (__m512d)b[i + 3]);
    }
    SMN_UNROLL for (int i = 0; i < 4; ++i) {
        b[i] = _mm512_shuffle_f32x4(a[i], a[i + 4], 0x88);
        b[i + 4] = _mm512_shuffle_f32x4(a[i], a[i + 4], 0xDD);
        b[i + 8] = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0x88);
        b[i + 12] = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0xDD);
    }
    SMN_UNROLL for (int i = 0; i < 8; ++i) {
        _mm512_storeu_ps(dst + pitch * i, _mm512_shuffle_f32x4(b[i], b[i + 8], 0x88));
    }
    SMN_UNROLL for (int i = 0; i < 8; ++i) {
        _mm512_storeu_ps(dst + pitch * (i + 8), _mm512_shuffle_f32x4(b[i], b[i + 8], 0xDD));
    }
}
#elif defined(__AVX2__)
template <class T> inline void transpose(const T* from, T* to, ptrdiff_t pitch) {
    const float* src = (const float*)from;
    float* dst = (float*)to;
    __m256 a[8], b[8];
    SMN_UNROLL for (int i = 0; i < 8; ++i) a[i] = _mm256_loadu_ps(src + 8 * i);
    SMN_UNROLL for (int i = 0; i < 8; i += 2) {
        b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    }
    SMN_UNROLL for (int i = 0; i < 8; i += 4) {
        a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
        a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xEE);
        a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
        a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xEE);
    }
    SMN_UNROLL for (int i = 0; i < 4; ++i) _mm256_storeu_ps(dst + pitch * i, _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
    SMN_UNROLL for (int i = 0; i < 4; ++i) _mm256_storeu_ps(dst + pitch * (i + 4), _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
}
#else
template <class T> inline void transpose(const T* src, T* dst, ptrdiff_t pitch) {
    for (int i = 0; i < W; ++i)
        for (int j = 0; j < W; ++j) dst[pitch * i + j] = src[W * j + i];
}
#endif

// src: n vectors of W lanes, [n][W]. dst: W rows of n values, `pitch` apart (n <= pitch). Writes up to W
// values past the last row; reads up to W vectors more than n.
template <class T> inline void store_transposed(const T* src, T* dst, int n, ptrdiff_t pitch) {
    const bool roomy = pitch % W == 0;
    int x = 0;
    for (; x + W <= n || (roomy && x < n); x += W) transpose(src + W * x, dst + x, pitch);
    if (x >= n) return;
    if (n >= W)
        transpose(src + W * (n - W), dst + (n - W), pitch);  // overlaps the last block, never overruns
    else
        transpose(src, dst, pitch);  // rows are written in order, so each overrun is overwritten
}

}  // namespace
