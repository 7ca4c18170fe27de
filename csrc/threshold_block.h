// SPDX-License-Identifier: Apache-2.0
// Section 6 by a block of threads: the V largest keys of each ranking, ties to the lower token, four outputs.
//
// Idea: as in threshold_cpu.h, the V-th largest key is found by counting. A guess from mean and deviation, a few
// steps, then bisection, until at most 32 keys are left between the bounds; those are ranked against each other.
// A count is one pass over keys in shared memory and one barrier; about five are needed for noise, never more
// than 36. Compaction: each warp owns a run of tokens, counts it, and writes it at its place, lanes side by side.
#pragma once
#include "block.h"

// The contract's key. Adding +0.0 is done on the bits: a GPU's addition would lose the sign and payload of a NaN,
// where a CPU's keeps both and sets the quiet bit.
SMN_FN unsigned smn_key(float score) {
    unsigned bits = Block::bits_of(score);
    if (bits == 0x80000000u) bits = 0;
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) bits |= 0x00400000u;
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Extension 11: two roundings; a sum that is NaN is the quiet one.
SMN_FN float smn_biased(float score, float bias, float weight) {
    const float sum = score + weight * bias;
    return sum == sum ? sum : Block::float_of(0x7FC00000u);
}

struct Cut {
    unsigned key;  // the V-th largest key
    int equal;     // how many tokens with just this key are visible: the lowest numbered ones
};

// keys(i): the key of token i; value(i): its score, for the guess.
template <class Keys, class Scores>
SMN_FN Cut find_cut(Block& block, Keys keys, Scores value, const smn_ranking& r) {
    const int n = r.tokens, visible = r.visible, step = block.threads;
    float s1 = block.roughly([&](int thread) {
        float s = 0;
        for (int i = thread; i < n; i += step) s += value(i);
        return s;
    });
    float mean = s1 / (float)n;
    float s2 = block.roughly([&](int thread) {
        float s = 0;
        for (int i = thread; i < n; i += step) s += (value(i) - mean) * (value(i) - mean);
        return s;
    });
    float deviation = Block::root(s2 / (float)n);

    // At least `visible` keys are >= low; fewer are >= high, which may be 2^32.
    unsigned long long low = 0, high = 1ull << 32;
    int at_low = n, at_high = 0;
    float guess = mean + deviation * r.quantile, per_token = deviation / r.slope;
    for (int tries = 0; at_low - at_high > SMN_CANDIDATES && high - low > 1; ++tries) {
        unsigned long long pivot = smn_key(guess);
        if (tries >= 4 || pivot <= low || pivot >= high) pivot = low + (high - low) / 2;
        const unsigned least = (unsigned)pivot;
        int count = block.sum([&](int thread) {
            int c = 0;
            for (int i = thread; i < n; i += step) c += keys(i) >= least;
            return c;
        });
        if (count >= visible) { low = pivot; at_low = count; } else { high = pivot; at_high = count; }
        int beyond = count >= visible ? SMN_CANDIDATES / 3 : -SMN_CANDIDATES / 3;
        guess += (float)(count - visible + beyond) * per_token;
    }
    if (high - low == 1) return {(unsigned)low, visible - at_high};

    BlockScratch* scratch = block.scratch;
    block.each([&](int thread) { if (thread == 0) scratch->found = 0; });
    const unsigned least = (unsigned)low, most = (unsigned)(high - 1);
    block.tasks(n, [=](int i) {
        unsigned key = keys(i);
        if (key >= least && key <= most) scratch->candidates[Block::take(&scratch->found)] = key;
    });
    const int found = scratch->found;
    block.tasks(found, [=](int c) {
        unsigned key = scratch->candidates[c];
        int above = at_high, equal = 0;
        for (int d = 0; d < found; ++d) {
            above += scratch->candidates[d] > key;
            equal += scratch->candidates[d] == key;
        }
        if (above < visible && visible <= above + equal) {  // equal keys all write the same
            scratch->cut_key = key;
            scratch->cut_above = above;
        }
    });
    return {scratch->cut_key, visible - scratch->cut_above};
}

// Where the outputs of one ranking begin.
struct Place {
    long long token;    // its first
    long long kept;     // visible tokens of the rankings before it
    long long visible;  // of all rankings of the sample
};

SMN_FN Place place_of(const smn_ranking& r, int group) {
    return {(long long)group * r.tokens, (long long)group * r.visible, (long long)r.groups * r.visible};
}

// One ranking's part of the outputs: n tokens. Ends without a barrier: before the next ranking's part there must be one,
// as find_cut has.
template <class Keys>
SMN_FN void write_outputs(Block& block, Keys keys, int n, Place place, Cut cut, const smn_outputs& out) {
    const int lanes = SMN_LANES_OF_WARP;
    const int run = (n + lanes * block.warps() - 1) / (lanes * block.warps()) * lanes;  // tokens of a warp
    BlockScratch* scratch = block.scratch;
    block.each_warp([&](int warp) {
        int above = 0, equal = 0;
        for (int i = warp * run; i < (warp + 1) * run && i < n; i += lanes) {
            above += Block::ones(block.ballot([&](int l) { return i + l < n && keys(i + l) > cut.key; }));
            equal += Block::ones(block.ballot([&](int l) { return i + l < n && keys(i + l) == cut.key; }));
        }
        block.lanes([&](int lane) {
            if (lane == 0) { scratch->kept[warp] = above; scratch->equal[warp] = equal; }
        });
    });
    block.each_warp_freely([&](int warp) {
        int above = 0, equal = 0;  // in the runs of earlier warps
        for (int w = 0; w < warp; ++w) { above += scratch->kept[w]; equal += scratch->equal[w]; }
        for (int i = warp * run; i < (warp + 1) * run && i < n; i += lanes) {
            unsigned higher = block.ballot([&](int l) { return i + l < n && keys(i + l) > cut.key; });
            unsigned ties = block.ballot([&](int l) { return i + l < n && keys(i + l) == cut.key; });
            block.lanes([&](int lane) {
                if (i + lane >= n) return;
                const unsigned before = (1u << lane) - 1u;
                const int equal_before = equal + Block::ones(ties & before);
                const bool visible = (higher >> lane & 1u) || ((ties >> lane & 1u) && equal_before < cut.equal);
                const int visible_ties = equal_before < cut.equal ? equal_before : cut.equal;
                const int kept = above + Block::ones(higher & before) + visible_ties;  // visible tokens before this one
                const int hidden = i + lane - kept;
                const long long token = place.token + i + lane;
                const long long to_keep = place.kept + kept;
                const long long to_mask = place.token - place.kept + hidden;
                if (out.mask) out.mask[token] = !visible;
                if (visible) {
                    if (out.ids_keep) out.ids_keep[to_keep] = token;
                } else {
                    if (out.ids_mask) out.ids_mask[to_mask] = token;
                }
                if (out.ids_restore) out.ids_restore[token] = visible ? to_keep : place.visible + to_mask;
            });
            above += Block::ones(higher);
            equal += Block::ones(ties);
        }
    });
}

// scores: the sample's, in shared or global memory.
SMN_FN void threshold_block(Block& block, const smn_ranking& r, const float* scores, const smn_outputs& out) {
    for (int group = 0; group < r.groups; ++group) {
        const float* row = scores + (long long)group * r.tokens;
        auto keys = [=](int i) { return smn_key(row[i]); };
        Cut cut = find_cut(block, keys, [=](int i) { return row[i]; }, r);
        write_outputs(block, keys, r.tokens, place_of(r, group), cut, out);
    }
}

// rank: the sample's [slots], or null.
SMN_FN void slot_threshold_block(Block& block, const smn_slots& s, const int32_t* rank, const float* scores,
                                 const smn_outputs& out) {
    Place place = {0, 0, s.visible};
    for (int i = 0; i < s.slots; ++i) {
        const smn_slot slot = s.table[rank ? rank[i] : i];
        const float* row = scores + place.token;
        auto keys = [=](int token) { return smn_key(row[token]); };
        Cut cut = slot.visible ? Cut{0u, s.tokens} : Cut{0xFFFFFFFFu, 0};  // all, or none
        if (slot.visible > 0 && slot.visible < s.tokens) {
            const smn_ranking r = {1, s.tokens, slot.visible, slot.quantile, slot.slope};
            cut = find_cut(block, keys, [=](int token) { return row[token]; }, r);
        } else {
            block.barrier();  // the slot before counts in the same places
        }
        write_outputs(block, keys, s.tokens, place, cut, out);
        place.token += s.tokens;
        place.kept += slot.visible;
    }
}
