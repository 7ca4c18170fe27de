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
    const vi least = splat(pivot);
    vi less[4] = {};
    int64_t i = 0;
    for (; i + 4 * W <= lanes; i += 4 * W)
        SMN_UNROLL for (int u = 0; u < 4; ++u) less[u] += load(keys + i + u * W) < least;
    for (; i < lanes; i += W) less[0] += load(keys + i) < least;
    return (int)lanes + sum_of((less[0] + less[1]) + (less[2] + less[3]));
}

struct Cut {
    int32_t key;   // the V-th largest key
    int spare;     // tokens with just this key that are masked all the same: the highest numbered ones
};

// The cut among `found` candidates, at most CANDIDATES, of which it is one; above: keys greater than all of them.
// Writes INT32_MIN behind them.
inline Cut cut_of(int32_t* candidate, int found, int above, int visible) {
    constexpr int VECTORS = CANDIDATES / W;
    for (int c = found; c < CANDIDATES; c += W) store(candidate + c, splat(INT32_MIN));
    vi key[VECTORS], greater[VECTORS] = {};
    SMN_UNROLL for (int v = 0; v < VECTORS; ++v) key[v] = load(candidate + v * W);
    for (int c = 0; c < found; ++c) {
        const vi other = splat(candidate[c]);
        SMN_UNROLL for (int v = 0; v < VECTORS; ++v) greater[v] -= other > key[v];
    }
    // The cut is the least key that fewer than this many are greater than.
    const vi wanted = splat((int32_t)(visible - above));
    vi least = splat(INT32_MAX), from = vi{};
    SMN_UNROLL for (int v = 0; v < VECTORS; ++v) {
        vi shown = greater[v] < wanted ? key[v] : splat(INT32_MAX);
        least = shown < least ? shown : least;
    }
    const int32_t cut = least_of(least);
    SMN_UNROLL for (int v = 0; v < VECTORS; ++v) from -= key[v] >= splat(cut);
    const int shown = sum_of(from);  // if the cut is INT32_MIN, with what stands behind the candidates
    return {cut, above + (shown < found ? shown : found) - visible};
}

// How scores are spread, roughly: where the search begins; a mask does not depend on it.
struct Spread {
    float mean, deviation;
    int32_t (*key)(float score);
};

inline Cut find_cut(const int32_t* keys, int n, const smn_ranking& r, const Spread& spread) {
    const int64_t lanes = padded(n);
    const int visible = r.visible;
    // At least `visible` keys are >= low; fewer are >= high.
    int64_t low = INT32_MIN, high = (int64_t)INT32_MAX + 1;
    int at_low = n, at_high = 0;
    float value = spread.mean + spread.deviation * r.quantile;
    const float per_token = spread.deviation / r.slope;
    for (int tries = 0; at_low - at_high > CANDIDATES && high - low > 1; ++tries) {
        int64_t pivot = spread.key(value);
        if (tries >= GUESSES || pivot <= low || pivot >= high) pivot = low + (high - low) / 2;
        int count = count_from(keys, lanes, (int32_t)pivot);
        if (count >= visible) { low = pivot; at_low = count; } else { high = pivot; at_high = count; }
        // Step a little beyond where the local density puts the cut, to close in from the other side.
        int beyond = count >= visible ? CANDIDATES / 3 : -CANDIDATES / 3;
        value += (float)(count - visible + beyond) * per_token;
    }

    if (high - low == 1) return {(int32_t)low, at_low - visible};
    int32_t candidate[CANDIDATES + W];
    int found = 0;
    const vi least = splat((int32_t)low), most = splat((int32_t)(high - 1));
    auto collect = [&](int64_t i, uint32_t lanes_of_keys) {
        const vi key = load(keys + i);
        const uint32_t in = lanes_of_keys & ~(less_bits(key, least) | less_bits(most, key));
        store_picked(candidate + found, key, in, BYTES.positions);
        found += __builtin_popcount(in);
    };
    int64_t i = 0;
    for (; i + W <= n; i += W) collect(i, (uint32_t)((1ull << W) - 1));
    if (i < n) collect(i, (1u << (n - i)) - 1);
    return cut_of(candidate, found, at_high, visible);
}

// mask[i] = 1 where the token is masked. keys: lanes beyond hold INT32_MIN.
inline void cut_keys(const smn_ranking& r, const int32_t* keys, const Spread& spread, uint8_t* mask) {
    const int n = r.tokens;
    Cut cut = find_cut(keys, n, r, spread);
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
    cut_keys(r, keys, {mean, deviation, key_of}, mask);
}

// One of the two lists of token numbers, filled eight at a time: what is too much is overwritten, or, where the list
// has no room for it, does not get there.
struct IdList {
    int64_t* ids;  // or null: not wanted
    const int64_t size;
    int64_t filled;
    void append(const uint8_t* offset, int64_t base, int count) {
        if (ids && filled + 8 <= size) {
            store_ids8(ids + filled, offset, base);
        } else if (ids) {
            int64_t eight[8];
            store_ids8(eight, offset, base);
            memcpy(ids + filled, eight, sizeof(int64_t) * (size_t)count);
        }
        filled += count;
    }
};

inline void write_ids(const uint8_t* mask, int64_t tokens, int64_t visible, const smn_outputs& out) {
    IdList keep = {out.ids_keep, visible, 0}, hide = {out.ids_mask, tokens - visible, 0};
    int64_t i = 0;
    for (; i + 8 <= tokens; i += 8) {
        uint64_t bytes;
        memcpy(&bytes, mask + i, 8);
        const uint32_t bits = (uint32_t)((bytes * 0x0102040810204080ull) >> 56);  // byte i to bit i
        if (out.ids_restore)
            store_ranks8(out.ids_restore + i, BYTES.ranks[bits], mask + i, visible + hide.filled, keep.filled);
        const int count = __builtin_popcount(bits);
        hide.append(BYTES.positions[bits], i, count);
        keep.append(BYTES.positions[bits ^ 0xFF], i, 8 - count);
    }
    for (; i < tokens; ++i) {
        IdList& list = mask[i] ? hide : keep;
        if (out.ids_restore) out.ids_restore[i] = (mask[i] ? visible : 0) + list.filled;
        if (list.ids) list.ids[list.filled] = i;
        ++list.filled;
    }
}

inline void mask_ids(const uint8_t* mask, int64_t tokens, int64_t visible, const smn_outputs* out) {
    write_ids(mask, tokens, visible, *out);
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
