// SPDX-License-Identifier: Apache-2.0
// Section 6: the V largest keys of each ranking, ties to the lower token, and the four outputs.
//
// The V-th largest key is found by counting, not sorting: a guess from mean and deviation, one or two
// steps from the counts, then bisection of the key range, until at most CANDIDATES keys are left between
// the bounds. One count over 1568 keys is about 100 AVX-512 instructions; a sort is 100 times that.
#pragma once
#include <stddef.h>

#include "plan.h"
#include "simd.h"

namespace {

constexpr int CANDIDATES = 32;
constexpr int GUESSES = 4;

struct ByteTables {
    uint8_t positions[256][8];  // of the set bits, ascending
    uint8_t ranks[256][8];      // of each bit among the bits like it
    uint64_t spread[256];       // bit i to byte i
    constexpr ByteTables() : positions(), ranks(), spread() {
        for (int b = 0; b < 256; ++b) {
            int set = 0, clear = 0;
            for (int i = 0; i < 8; ++i) {
                if (b >> i & 1) {
                    positions[b][set] = (uint8_t)i;
                    ranks[b][i] = (uint8_t)set++;
                    spread[b] |= 1ull << (8 * i);
                } else {
                    ranks[b][i] = (uint8_t)clear++;
                }
            }
        }
    }
};
constexpr ByteTables BYTES;

// The contract's key with its top bit flipped, so that it orders as a signed integer.
inline int32_t key_of(float score) {
    score = score + 0.0f;
    int32_t bits;
    memcpy(&bits, &score, 4);
    return bits ^ (int32_t)((uint32_t)(bits >> 31) >> 1);
}
inline vi keys_of(vf score) {
    vf canonical = score + splat(0.0f);
    vi bits;
    memcpy(&bits, &canonical, sizeof bits);
    return bits ^ ((bits >> 31) & splat((int32_t)0x7FFFFFFF));
}

// Extension 11: two roundings; a sum that is NaN is the quiet one.
inline void add_bias(const float* scores, const float* bias, float weight, int64_t count, float* out) {
    const vi quiet = splat((int32_t)0x7FC00000);
    const vf factor = splat(weight);
    auto sum_of = [&](vf score, vf b) {
        const vf sum = score + factor * b;
        const vi number = sum == sum;
        vi bits;
        memcpy(&bits, &sum, sizeof bits);
        return (number & bits) | (~number & quiet);
    };
    int64_t i = 0;
    for (; i + W <= count; i += W) {
        const vi bits = sum_of(load(scores + i), load(bias + i));
        memcpy(out + i, &bits, sizeof bits);
    }
    if (i == count) return;
    vf last[2] = {vf{}, vf{}};
    memcpy(&last[0], scores + i, sizeof(float) * (size_t)(count - i));
    memcpy(&last[1], bias + i, sizeof(float) * (size_t)(count - i));
    const vi bits = sum_of(last[0], last[1]);
    memcpy(out + i, &bits, sizeof(float) * (size_t)(count - i));
}

inline int64_t padded(int64_t n) { return (n + W - 1) / W * W; }

// How many of the keys are >= pivot. Lanes beyond n hold INT32_MIN, so pivot > INT32_MIN is required.
inline int count_from(const int32_t* keys, int64_t lanes, int32_t pivot) {
    vi least = splat(pivot), count0 = vi{}, count1 = vi{};
    int64_t i = 0;
    for (; i + 2 * W <= lanes; i += 2 * W) {
        count0 -= load(keys + i) >= least;
        count1 -= load(keys + i + W) >= least;
    }
    if (i < lanes) count0 -= load(keys + i) >= least;
    count0 += count1;
    int total = 0;
    for (int l = 0; l < W; ++l) total += count0[l];
    return total;
}

struct Cut {
    int32_t key;   // the V-th largest key
    int spare;     // tokens with just this key that are masked all the same: the highest numbered ones
};

inline Cut find_cut(const int32_t* keys, int n, const smn_ranking& r, float mean, float deviation) {
    const int64_t lanes = padded(n);
    const int visible = r.visible;
    // At least `visible` keys are >= low; fewer are >= high.
    int64_t low = INT32_MIN, high = (int64_t)INT32_MAX + 1;
    int at_low = n, at_high = 0;
    float value = mean + deviation * r.quantile, per_token = deviation / r.slope;
    for (int tries = 0; at_low - at_high > CANDIDATES && high - low > 1; ++tries) {
        int64_t pivot = key_of(value);
        if (tries >= GUESSES || pivot <= low || pivot >= high) pivot = low + (high - low) / 2;
        int count = count_from(keys, lanes, (int32_t)pivot);
        if (count >= visible) { low = pivot; at_low = count; } else { high = pivot; at_high = count; }
        // Step a little beyond where the local density puts the cut, to close in from the other side.
        int beyond = count >= visible ? CANDIDATES / 3 : -CANDIDATES / 3;
        value += (float)(count - visible + beyond) * per_token;
    }

    if (high - low == 1) return {(int32_t)low, at_low - visible};
    int32_t candidate[CANDIDATES];
    int found = 0;
    vi least = splat((int32_t)low), most = splat((int32_t)(high - 1));
    for (int64_t i = 0; i < lanes; i += W) {
        vi key = load(keys + i);
        uint32_t outside = less_bits(key, least) | less_bits(most, key);
        for (uint32_t in = ~outside & (uint32_t)((1ull << W) - 1); in; in &= in - 1) {
            int64_t at = i + __builtin_ctz(in);
            if (at < n) candidate[found++] = keys[at];
        }
    }
    for (int c = 0; c < found; ++c) {
        int above = at_high, equal = 0;
        for (int d = 0; d < found; ++d) {
            above += candidate[d] > candidate[c];
            equal += candidate[d] == candidate[c];
        }
        if (above < visible && visible <= above + equal) return {candidate[c], above + equal - visible};
    }
    return {(int32_t)low, 0};  // not reached: one candidate is always the cut
}

// mask[i] = 1 where the token is masked. mean, deviation: of the scores, roughly; keys: lanes beyond hold INT32_MIN.
inline void cut_keys(const smn_ranking& r, const int32_t* keys, float mean, float deviation, uint8_t* mask) {
    const int n = r.tokens;
    Cut cut = find_cut(keys, n, r, mean, deviation);
    vi least = splat(cut.key);
    int i = 0;
    for (; i + W <= n; i += W) {
        uint32_t masked = less_bits(load(keys + i), least);
        uint64_t bytes[2] = {BYTES.spread[masked & 0xFF], BYTES.spread[masked >> 8 & 0xFF]};
        memcpy(mask + i, bytes, W);
    }
    for (; i < n; ++i) mask[i] = keys[i] < cut.key;
    for (i = n - 1; cut.spare > 0; --i)
        if (keys[i] == cut.key) { mask[i] = 1; --cut.spare; }
}

inline void cut_scores(const smn_ranking& r, const float* score, uint8_t* mask, int32_t* keys) {
    const int n = r.tokens;
    vf sum = vf{}, squares = vf{};
    int i = 0;
    for (; i + W <= n; i += W) {
        vf v = load(score + i);
        store(keys + i, keys_of(v));
        sum += v;
        squares += v * v;
    }
    float s1 = 0, s2 = 0;
    for (int l = 0; l < W; ++l) { s1 += sum[l]; s2 += squares[l]; }
    for (; i < n; ++i) { keys[i] = key_of(score[i]); s1 += score[i]; s2 += score[i] * score[i]; }
    for (; i < padded(n); ++i) keys[i] = INT32_MIN;
    float mean = s1 / n, variance = s2 / n - mean * mean;
    float deviation = variance > 0 ? __builtin_sqrtf(variance) : 0.0f;
    cut_keys(r, keys, mean, deviation, mask);
}

inline void write_ids(const uint8_t* mask, int64_t tokens, int64_t visible, const smn_outputs& out) {
    int64_t kept = 0, hidden = 0, masked = tokens - visible;
    auto tail = [&](int64_t i) {
        if (mask[i]) {
            if (out.ids_mask) out.ids_mask[hidden] = i;
            if (out.ids_restore) out.ids_restore[i] = visible + hidden;
            ++hidden;
        } else {
            if (out.ids_keep) out.ids_keep[kept] = i;
            if (out.ids_restore) out.ids_restore[i] = kept;
            ++kept;
        }
    };
    int64_t i = 0;
    // Eight at a time while a whole vector still fits behind either list.
    for (; i + 8 <= tokens && kept + 8 <= visible && hidden + 8 <= masked; i += 8) {
        uint64_t bytes;
        memcpy(&bytes, mask + i, 8);
        uint32_t bits = (uint32_t)((bytes * 0x0102040810204080ull) >> 56);  // byte i to bit i
        if (out.ids_mask) store_ids8(out.ids_mask + hidden, BYTES.positions[bits], i);
        if (out.ids_keep) store_ids8(out.ids_keep + kept, BYTES.positions[bits ^ 0xFF], i);
        if (out.ids_restore) store_ranks8(out.ids_restore + i, BYTES.ranks[bits], bits, visible + hidden, kept);
        int count = __builtin_popcount(bits);
        hidden += count;
        kept += 8 - count;
    }
    for (; i < tokens; ++i) tail(i);
}

inline size_t threshold_bytes(const smn_ranking* r) {
    size_t tokens = (size_t)r->groups * r->tokens;
    return sizeof(int32_t) * (size_t)(padded(r->tokens) + W) + tokens + 64;
}

inline void threshold(const smn_ranking* r, const float* scores, const smn_outputs* out, void* workspace) {
    int32_t* keys = (int32_t*)workspace;
    uint8_t* mask = out->mask ? out->mask : (uint8_t*)(keys + padded(r->tokens) + W);
    for (int g = 0; g < r->groups; ++g)
        cut_scores(*r, scores + (int64_t)g * r->tokens, mask + (int64_t)g * r->tokens, keys);
    if (out->ids_keep || out->ids_mask || out->ids_restore)
        write_ids(mask, (int64_t)r->groups * r->tokens, (int64_t)r->groups * r->visible, *out);
}

inline void slot_threshold(const smn_slots* s, const int32_t* rank, const float* scores, const smn_outputs* out,
                           void* workspace) {
    const int64_t n = s->tokens;
    int32_t* keys = (int32_t*)workspace;
    uint8_t* mask = out->mask ? out->mask : (uint8_t*)(keys + padded(n) + W);
    for (int i = 0; i < s->slots; ++i) {
        const smn_slot& slot = s->table[rank ? rank[i] : i];
        const smn_ranking r = {1, s->tokens, slot.visible, slot.quantile, slot.slope};
        if (slot.visible > 0 && slot.visible < n)
            cut_scores(r, scores + i * n, mask + i * n, keys);
        else
            memset(mask + i * n, slot.visible == 0, (size_t)n);
    }
    if (out->ids_keep || out->ids_mask || out->ids_restore) write_ids(mask, s->slots * n, s->visible, *out);
}

}  // namespace
