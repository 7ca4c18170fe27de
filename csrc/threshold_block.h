// SPDX-License-Identifier: Apache-2.0
// Section 6 by a block of threads: the V largest keys of each ranking, ties to the lower token, four outputs.
//
// Idea: as in threshold_cpu.h, the V-th largest key is found by counting. A guess from mean and deviation, a few
// steps, then bisection, until at most 32 keys are left between the bounds; those are ranked against each other.
// Each warp owns a run of tokens, lanes side by side, and holds their keys in registers where the ranking is not too
// long: a count is then a compare a key and one barrier; about four are needed for noise, never more than 36.
// Compaction: each warp counts its run, and writes it at its place.
#pragma once
#include "block.h"

// The contract's key. A GPU's addition would lose the sign and payload of a NaN, where a CPU's keeps both and sets the
// quiet bit: that is done on the bits.
SMN_FN unsigned smn_ordered(unsigned bits) { return bits ^ ((unsigned)((int)bits >> 31) | 0x80000000u); }
SMN_FN unsigned smn_key(float score) {
    return smn_ordered(score == score ? Block::bits_of(score + 0.0f) : Block::bits_of(score) | 0x00400000u);
}
// The same of a score that is no NaN.
SMN_FN unsigned smn_key_of_number(float score) { return smn_ordered(Block::bits_of(score + 0.0f)); }

// Extension 11: two roundings; a sum that is NaN is the quiet one.
SMN_FN float smn_biased(float score, float bias, float weight) {
    const float sum = score + weight * bias;
    return sum == sum ? sum : Block::float_of(0x7FC00000u);
}

// What becomes of a key that is the cut's, at which a token is or is no longer. Below 0 is no room: there the cut moves up.
SMN_FN unsigned tie_of(unsigned key, bool at_cut) { return key ? (at_cut ? key : 0u) : (at_cut ? 1u : 0u); }

// A ranking as its threads have it: each warp a run of tokens, in steps of 32, a lane each. score(i): of token i of the
// sample; key(score): its key. Held keys lie in registers, 0 beyond the end.
template <int STEPS, class Scores, class Key> struct HeldKeys {
    enum { HELD = 1 };
    int tokens, start;  // start: the ranking's first token
    Scores score;
    Key key_of;
    PerThread<unsigned, STEPS> keys;
    SMN_METHOD int run() const { return SMN_LANES_OF_WARP * STEPS; }  // tokens of a warp
    SMN_METHOD unsigned key(int thread, int j) const { return keys.of(thread)[j]; }
    SMN_METHOD void hold(int thread, int j, unsigned key) { keys.of(thread)[j] = key; }
    // From here on, of the tokens of a thread with this key only those up to `last` are at the cut.
    SMN_METHOD void end_ties(int thread, unsigned key, int last);
    SMN_METHOD void forget_ties() {}
    template <class F> SMN_METHOD void steps(F f) const {  // f(j) for each step
        SMN_UNROLL_DEVICE
        for (int j = 0; j < STEPS; ++j) f(j);
    }
};
// Those of a longer ranking are made of its scores each time.
template <class Scores, class Key> struct ReadKeys {
    enum { HELD = 0 };
    int tokens, start, count;  // count: of steps
    Scores score;
    Key key_of;
    unsigned tie;  // with this key only tokens up to `last` are at the cut
    int last;
    SMN_METHOD int run() const { return SMN_LANES_OF_WARP * count; }
    SMN_METHOD unsigned key(int thread, int j) const;
    SMN_METHOD void hold(int, int, unsigned) {}
    SMN_METHOD void end_ties(int, unsigned key, int token) { tie = key; last = token; }
    SMN_METHOD void forget_ties() { tie = 1, last = tokens; }  // of a ranking before
    template <class F> SMN_METHOD void steps(F f) const {
        SMN_ONCE_DEVICE
        for (int j = 0; j < count; ++j) f(j);
    }
};
// The first token of a thread, of the ranking; how many there are from it on: step j has one if 32 * j is less.
template <class Row> SMN_FN int first_of(const Row& row, int thread) {
    const unsigned t = (unsigned)thread, lanes = SMN_LANES_OF_WARP;
    return (int)(t / lanes * (unsigned)row.run() + t % lanes);
}
template <class Row> SMN_FN int left_of(const Row& row, int thread) { return row.tokens - first_of(row, thread); }
template <int STEPS, class Scores, class Key>
SMN_METHOD void HeldKeys<STEPS, Scores, Key>::end_ties(int thread, unsigned key, int last) {
    const int until = last - first_of(*this, thread);
    steps([&](int j) {
        unsigned& mine = keys.of(thread)[j];
        if (mine == key) mine = tie_of(key, SMN_LANES_OF_WARP * j <= until);
    });
}
template <class Scores, class Key>
SMN_METHOD unsigned ReadKeys<Scores, Key>::key(int thread, int j) const {
    const int at = SMN_LANES_OF_WARP * j, i = first_of(*this, thread) + at;
    if (at >= left_of(*this, thread)) return 0;
    const unsigned found = key_of(score(start + i));
    return found == tie ? tie_of(tie, i <= last) : found;
}
template <class Scores, class Key>
SMN_FN ReadKeys<Scores, Key> read_keys(int tokens, int start, int threads, Scores score, Key key) {
    return {tokens, start, (tokens + threads - 1) / threads, score, key, 1, tokens};
}

struct Cut {
    unsigned key;  // the V-th largest key
    int equal;     // how many tokens with just this key are visible: the lowest numbered ones
    int whole;     // 1: all tokens with that key
};

// Between which keys the V-th is expected, evenly spread; none if high is 0. A guess, as all that steers the search.
struct Hint {
    unsigned low, high;
};

// Where the V-th key of a row lies. A row that holds its keys gets them here.
template <class Row> SMN_FN Cut find_cut(Block& block, Row& row, const smn_ranking& r, Hint hint) {
    const int n = row.tokens, visible = r.visible, lanes = SMN_LANES_OF_WARP;
    BlockScratch* scratch = block.scratch;
    row.forget_ties();
    const float origin = row.score(row.start);  // any score: the sums are of differences from it
    auto hold = [&](int thread) {
        BlockSums s = {0, 0};
        const int first = row.start + first_of(row, thread), left = left_of(row, thread);
        row.steps([&](int j) {
            const bool mine = lanes * j < left;
            const float value = mine ? row.score(first + lanes * j) : origin, apart = value - origin;
            s.first += apart;
            s.second += apart * apart;
            row.hold(thread, j, mine ? row.key_of(value) : 0u);
        });
        if (thread == 0) scratch->found = 0;
        return s;
    };
    float mean = 0, deviation = 0;
    if (hint.high) {
        block.each([&](int thread) { hold(thread); });
    } else {
        const BlockSums sums = block.roughly(hold);
        mean = sums.first / (float)n;
        deviation = Block::root(sums.second / (float)n - mean * mean);
    }

    // At least `visible` keys are >= low; fewer are >= high, which may be 2^32.
    unsigned long long low = 0, high = 1ull << 32;
    int at_low = n, at_high = 0;
    float guess = origin + mean + deviation * r.quantile, per_token = deviation / r.slope;
    int beyond = 0;
    for (int tries = 0; at_low - at_high > SMN_CANDIDATES && high - low > 1; ++tries) {
        unsigned long long pivot = smn_key(guess);
        if (hint.high) {
            const unsigned parts = ((unsigned)(at_low - visible - beyond) << 8) / (unsigned)(at_low - at_high);
            pivot = tries == 0 ? hint.low : tries == 1 ? hint.high : low + (high - low) * parts / 256;
        }
        if (tries >= (hint.high ? 6 : 4) || pivot <= low || pivot >= high) pivot = low + (high - low) / 2;
        const unsigned least = (unsigned)pivot;
        const int count = block.sum([&](int thread) {
            int c = 0;
            row.steps([&](int j) { c += row.key(thread, j) >= least; });
            return c;
        });
        if (count >= visible) { low = pivot; at_low = count; } else { high = pivot; at_high = count; }
        beyond = count >= visible ? SMN_CANDIDATES / 3 : -SMN_CANDIDATES / 3;
        guess += (float)(count - visible + beyond) * per_token;
    }
    if (high - low == 1) return {(unsigned)low, visible - at_high, visible == at_low};

    const unsigned least = (unsigned)low, between = (unsigned)(high - 1 - low);
    block.each([&](int thread) {
        row.steps([&](int j) {
            const unsigned key = row.key(thread, j);
            if (key - least <= between && lanes * j < left_of(row, thread))
                scratch->candidates[Block::take(&scratch->found)] = key;
        });
    });
    const int found = scratch->found;
    block.tasks(found, [=](int c) {
        const unsigned key = scratch->candidates[c];
        int above = at_high, equal = 0;
        for (int d = 0; d < found; ++d) {
            above += scratch->candidates[d] > key;
            equal += scratch->candidates[d] == key;
        }
        if (above < visible && visible <= above + equal) {  // equal keys all write the same
            scratch->cut_key = key;
            scratch->cut_above = above;
            scratch->cut_whole = visible == above + equal;
        }
    });
    return {scratch->cut_key, visible - scratch->cut_above, scratch->cut_whole};
}

// Where the outputs of one ranking begin.
struct Place {
    int token;    // its first
    int kept;     // visible tokens of the rankings before it
    int visible;  // of all rankings of the sample
};

// Of the tokens with the cut's key not all are visible: the others fall behind it. Returns the cut, never 0.
template <class Row> SMN_FN unsigned end_ties(Block& block, Row& row, Cut cut) {
    int low = 0, high = row.tokens - 1;  // the last one lies between
    while (low < high) {
        const int middle = low + (high - low) / 2;
        const int count = block.sum([&](int thread) {
            int c = 0;
            const int until = middle - first_of(row, thread);
            row.steps([&](int j) { c += row.key(thread, j) == cut.key && SMN_LANES_OF_WARP * j <= until; });
            return c;
        });
        if (count >= cut.equal) high = middle; else low = middle + 1;
    }
    block.each_freely([&](int thread) { row.end_ties(thread, cut.key, low); });
    return cut.key ? cut.key : 1u;
}

// One ranking's part of the outputs: visible are keys from `cut` on, which is not 0. Ends without a barrier: before the
// next ranking's part there must be one, as find_cut has.
template <class Row>
SMN_FN void write_outputs(Block& block, const Row& row, Place place, unsigned cut, const smn_outputs& out) {
    const int lanes = SMN_LANES_OF_WARP;
    BlockScratch* scratch = block.scratch;
    auto above_cut = [&](int thread, int j) { return row.key(thread, j) >= cut; };
    block.each_warp([&](int warp) {
        const int above = block.sum_of_warp([&](int lane) {
            unsigned marks = 0;  // a bit a step, where there are few
            int c = 0;
            row.steps([&](int j) {
                const bool mine = above_cut(warp * lanes + lane, j);
                if (Row::HELD) marks |= mine ? 1u << j : 0u;
                else c += mine;
            });
            return Row::HELD ? Block::ones(marks) : c;
        });
        block.lanes([&](int lane) {
            if (lane == 0) scratch->kept[warp] = above;
        });
    });
    block.each_warp_freely([&](int warp) {
        const int first = warp * row.run();
        if (first >= row.tokens) return;
        // In the runs of earlier warps.
        int above = block.sum_of_warp([&](int lane) { return lane < warp ? scratch->kept[lane] : 0; });
        // As numbers, which are quicker to look at than pointers.
        const int has_mask = out.mask ? 1 : 0, has_restore = out.ids_restore ? 1 : 0;
        const int has_keep = out.ids_keep ? 1 : 0, has_hide = out.ids_mask ? 1 : 0;
        const int hidden_before = place.token - place.kept;
        row.steps([&](int j) {
            const unsigned higher = block.ballot([&](int lane) { return above_cut(warp * lanes + lane, j); });
            block.lanes([&](int lane) {
                const int at = lane + lanes * j, i = first + at;
                const unsigned before = (1u << lane) - 1u;
                const bool visible = above_cut(warp * lanes + lane, j);
                const int kept = above + Block::ones(higher & before);  // visible tokens before this one
                const unsigned token = (unsigned)(place.token + i);
                const int to_keep = place.kept + kept, to_hide = hidden_before + i - kept;
                const int to = visible ? to_keep : place.visible + to_hide;
                const bool mine = lanes * j < left_of(row, warp * lanes + lane);
                if (has_mask && mine) (out.mask + place.token + first)[at] = !visible;
                if (has_restore && mine) (out.ids_restore + place.token + first)[at] = (unsigned)to;
                if (has_keep && visible && mine) out.ids_keep[(unsigned)to_keep] = token;
                if (has_hide && !visible && mine) out.ids_mask[(unsigned)to_hide] = token;
            });
            above += Block::ones(higher);
        });
    });
}
// A ranking, from its scores to the outputs.
template <class Row>
SMN_FN void rank_row(Block& block, Row& row, const smn_ranking& r, Hint hint, Place place, const smn_outputs& out) {
    row.start = place.token;
    const Cut cut = find_cut(block, row, r, hint);
    write_outputs(block, row, place, cut.whole ? cut.key : end_ties(block, row, cut), out);
}

// Calls f with a row for rankings of n tokens. Of 256 threads: of spectrograms of 512 tokens, of clips of 8 x 14 x 14
// and of 16 x 14 x 14, and of anything longer.
template <int STEPS, class Scores, class Key, class F> SMN_FN void with_held(int n, Scores score, Key key, F f) {
    HeldKeys<STEPS, Scores, Key> row = {n, 0, score, key, {}};
    f(row);
}
template <class Scores, class Key, class F> SMN_FN void with_row(Block& block, int n, Scores score, Key key, F f) {
    if (n <= 2 * block.threads) with_held<2>(n, score, key, f);
    else if (n <= 7 * block.threads) with_held<7>(n, score, key, f);
    else if (n <= 13 * block.threads) with_held<13>(n, score, key, f);
    else {
        auto row = read_keys(n, 0, block.threads, score, key);
        f(row);
    }
}

// Rankings of the scores of a sample.
template <class Scores, class Key>
SMN_FN void rank_scores(Block& block, const smn_ranking& r, Scores score, Key key, const smn_outputs& out,
                        Hint hint = {0, 0}) {
    with_row(block, r.tokens, score, key, [&](auto& row) {
        for (int group = 0; group < r.groups; ++group) {
            const Place place = {group * r.tokens, group * r.visible, r.groups * r.visible};
            rank_row(block, row, r, hint, place, out);
        }
    });
}

// scores: the sample's, in shared or global memory; NUMBERS: none of them is a NaN.
template <bool NUMBERS>
SMN_FN void threshold_block(Block& block, const smn_ranking& r, const float* scores, const smn_outputs& out) {
    rank_scores(block, r, [=](int i) { return scores[i]; },
                [](float score) { return NUMBERS ? smn_key_of_number(score) : smn_key(score); }, out);
}

// rank: the sample's [slots], or null.
SMN_FN void slot_threshold_block(Block& block, const smn_slots& s, const int32_t* rank, const float* scores,
                                 const smn_outputs& out) {
    with_row(block, s.tokens, [=](int i) { return scores[i]; }, [](float score) { return smn_key(score); },
             [&](auto& row) {
        Place place = {0, 0, s.visible};
        for (int i = 0; i < s.slots; ++i) {
            const smn_slot slot = s.table[rank ? rank[i] : i];
            if (slot.visible > 0 && slot.visible < s.tokens) {
                const smn_ranking r = {1, s.tokens, slot.visible, slot.quantile, slot.slope};
                rank_row(block, row, r, {0, 0}, place, out);
            } else {  // all, or none
                block.barrier();  // the slot before counts in the same places
                const unsigned key = slot.visible ? 1u : 0u;
                auto same = read_keys(s.tokens, 0, block.threads, [](int) { return 0.0f; }, [=](float) { return key; });
                write_outputs(block, same, place, 1u, out);
            }
            place.token += s.tokens;
            place.kept += slot.visible;
        }
    });
}
