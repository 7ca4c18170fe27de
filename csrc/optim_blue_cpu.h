// SPDX-License-Identifier: Apache-2.0
// Section 7: one partition, greedy and swaps, and the outputs of its masks.
//
// Tokens are numbered by their rank, so that the first of equal candidates is the contract's choice. Two passes of
// vectors over all tokens make a swap step; what a swap changes is a few dozen numbers around two tokens, found
// through `at`: the ranks of the grid's tokens in a frame so wide that no neighbour needs a bounds check. Cells of
// the frame lead to ranks behind all others, which may be written but are never looked at. There are several of those:
// a sum in one place would wait for the sum before it.
#pragma once
#include "philox_cpu.h"
#include "threshold_cpu.h"

namespace {

// relief is -own of the contract; effect: of a swap on relief, by label, in units of the weight.
struct BlueBuffers {
    int32_t *crowd, *label, *relief, *until, *spot, *at, *place, *order, *offset, *weight, *left, *column, *effect;
    int32_t *rest, *first;  // ranks that no mask reveals, ring by ring; where each ring's begin
    int64_t ranks;  // brought to whole vectors; those beyond the tokens have no label
    int64_t pitch;  // of a row of crowd: with NOWHERE more
    int32_t reach[3], frame[3];  // of the stamp, and of `at`
    int32_t cell(int32_t t, int32_t y, int32_t x) const { return (t * frame[1] + y) * frame[2] + x; }
};

constexpr int32_t NOWHERE = 32;
constexpr int32_t FORBIDDEN = 1 << 30;  // as a change of energy: more than any other, and no overflow with one added

inline size_t lay_out(const smn_optim_blue& p, BlueBuffers* b, char* base) {
    size_t bytes = 0;
    auto take = [&](int64_t numbers) {
        int32_t* at = base ? (int32_t*)(base + bytes) : nullptr;
        bytes += (sizeof(int32_t) * (size_t)numbers + 63) / 64 * 64;
        return at;
    };
    BlueBuffers out;
    int64_t cells = 1;
    for (int axis = 0; axis < 3; ++axis) {
        out.reach[axis] = 0;
        for (int e = 0; e < p.entries; ++e)  // displacements come in pairs of both signs
            if (p.stamp[4 * e + axis] > out.reach[axis]) out.reach[axis] = p.stamp[4 * e + axis];
        out.frame[axis] = p.grid[axis] + 2 * out.reach[axis];
        cells *= out.frame[axis];
    }
    out.ranks = (p.tokens + 2 * W - 1) / (2 * W) * (2 * W);
    out.pitch = out.ranks + NOWHERE;
    out.crowd = take((p.masks + 1) * out.pitch);  // the last row stays zero: of the rest
    int32_t** rows[] = {&out.label, &out.relief, &out.until, &out.spot, &out.place, &out.order};
    for (int32_t** row : rows) *row = take(out.pitch);
    out.at = take(cells);
    out.offset = take(p.entries);
    out.weight = take(p.entries);
    out.left = take(p.masks);
    out.column = take(p.masks + 1 + 2 * W);
    out.effect = take(p.masks + 1);
    out.rest = take(p.tokens - p.masks * p.visible);
    out.first = take(p.rings + 1);
    if (b) *b = out;
    return bytes;
}

// order[rank]: tokens sorted by (word, token), least significant byte first. Two scratch rows.
inline void sort_tokens(const smn_optim_blue& p, uint64_t seed, uint64_t partition, int32_t* order, int32_t* words,
                        int32_t* scratch) {
    const int n = p.tokens;
    philox_words(seed, partition, SMN_PURPOSE_ORDER, (n + 3) / 4, [=](int64_t i, uint32_t word) {
        if (i < n) words[i] = (int32_t)word;
    });
    int32_t *from = scratch, *to = order;
    for (int i = 0; i < n; ++i) from[i] = i;
    for (int shift = 0; shift < 32; shift += 8) {
        int32_t first[257] = {0};
        for (int i = 0; i < n; ++i) ++first[((uint32_t)words[i] >> shift & 0xFF) + 1];
        for (int v = 0; v < 256; ++v) first[v + 1] += first[v];
        for (int i = 0; i < n; ++i) to[first[(uint32_t)words[from[i]] >> shift & 0xFF]++] = from[i];
        int32_t* swap = from;
        from = to;
        to = swap;
    }
    if (from != order) memcpy(order, from, sizeof(int32_t) * (size_t)n);
}

// The least value seen, and the first rank that had it.
struct Least {
    vi value, rank;
    void see(vi v, vi r) {  // ranks ascending
        rank = v < value ? r : rank;
        value = v < value ? v : value;
    }
    int32_t over_lanes(int32_t* first) const {
        const int32_t least = least_of(value);
        *first = least_of(value == splat(least) ? rank : splat((int32_t)INT32_MAX));
        return least;
    }
};

// The least of value(i) over all vectors i, which lie 2 W apart in each of two chains: one would wait for itself.
template <class F> inline int32_t first_least(int64_t ranks, F value, int32_t* first) {
    Least even = {splat((int32_t)INT32_MAX), vi{}}, odd = even;
    vi rank = numbered();
    for (int64_t i = 0; i < ranks; i += 2 * W, rank += splat(2 * W)) {
        even.see(value(i), rank);
        odd.see(value(i + W), rank + splat(W));
    }
    vi better = (odd.value < even.value) | ((odd.value == even.value) & (odd.rank < even.rank));
    Least both = {better ? odd.value : even.value, better ? odd.rank : even.rank};
    return both.over_lanes(first);
}

struct BlueStamp {
    const smn_optim_blue& p;
    const BlueBuffers& b;
    // f(rank, weight) for each token within reach of the token at `rank`, and for some of NOWHERE.
    template <class F> void operator()(int32_t rank, F f) const {
        const int32_t *centre = b.at + b.place[rank], *offset = b.offset, *weight = b.weight;
        const int entries = p.entries;
        SMN_UNROLL_BY_4 for (int e = 0; e < entries; ++e) f(centre[offset[e]], weight[e]);
    }
    void clear_nowhere(int32_t* row) const {
        SMN_UNROLL for (int i = 0; i < NOWHERE; i += W) store(row + b.ranks + i, vi{});
    }
};

// Which rank to move: the most crowded one that may be tried. -1: none.
inline int32_t worst_rank(const BlueBuffers& b, int32_t t) {
    const vi now = splat(t);
    int32_t found;
    int32_t least = first_least(b.ranks, [&](int64_t i) {
        return ~(load(b.until + i) > now) & load(b.relief + i);
    }, &found);
    return least < 0 ? found : -1;
}

// The greedy start leaves the last ranks, from K * V on. How many of them a ring has stays so: a swap with the rest
// keeps to a ring.
inline void group_rest(const smn_optim_blue& p, const BlueBuffers& b) {
    const int32_t shown = p.masks * p.visible;
    auto first_of = [&](int32_t rank) -> int32_t& { return b.first[p.ring[b.order[rank]]]; };
    memset(b.first, 0, sizeof(int32_t) * (size_t)(p.rings + 1));
    for (int32_t r = shown; r < p.tokens; ++r) ++first_of(r);
    for (int32_t ring = 0; ring < p.rings; ++ring) b.first[ring + 1] += b.first[ring];
    for (int32_t r = p.tokens - 1; r >= shown; --r) b.rest[--first_of(r)] = r;
}

// What a rank may be swapped with, as a number that orders by the change of energy (but for own of the rank that is
// moved) and then by rank.
inline int64_t offer_of(int32_t change, int32_t rank) {
    return (int64_t)((uint64_t)change << 32 | (uint32_t)rank);
}

// The labelled rank whose swap with one of mask `a` changes the energy least, if it does not stand within reach of it.
// b.column: crowding of the one to be moved by each mask, FORBIDDEN for `a` and for what has no label.
inline int64_t best_afar(const smn_optim_blue& p, const BlueBuffers& b, int32_t a) {
    const int32_t* crowd = b.crowd + a * b.pitch;
    auto least = [&](auto columns) {
        int32_t rank;
        const int32_t change = first_least(b.ranks, [&](int64_t i) {
            return load(crowd + i) + load(b.relief + i) + columns(load(b.label + i));
        }, &rank);
        return offer_of(change, rank);
    };
    const bool in_memory = W == 4 || p.masks >= 2 * W;  // four lanes are picked one by one in any case
    if (in_memory) return least([&](vi label) {
        vi theirs;
        for (int l = 0; l < W; ++l) theirs[l] = b.column[label[l]];
        return theirs;
    });
    const vi few = load(b.column), more = load(b.column + W);
    if (p.masks < W) return least([&](vi label) { return pick(few, label); });
    return least([&](vi label) {
        return label < splat(W) ? pick(few, label & splat(W - 1)) : pick(more, label & splat(W - 1));
    });
}

struct Partner {
    int32_t rank, change;
    int32_t* slot;  // where it stands in the rest; null: it has a label
};

// The best one among all, and among those of the rest in the ring of the rank that is moved.
inline Partner best_partner(const smn_optim_blue& p, const BlueBuffers& b, const BlueStamp& stamp, int32_t moved,
                            int32_t a) {
    const int32_t *crowd = b.crowd + a * b.pitch, *relief = b.relief, *column = b.column, *label = b.label;
    int64_t best = INT64_MAX;
    // Within reach a swap is better by twice the weight: best_afar takes those too dear.
    stamp(moved, [&](int32_t q, int32_t s) {
        const int64_t offer = offer_of(crowd[q] + relief[q] + column[label[q]] - 2 * s, q);
        best = offer < best ? offer : best;
    });
    const int64_t afar = best_afar(p, b, a);
    best = afar < best ? afar : best;
    int32_t* from = nullptr;
    const int32_t ring = p.ring[b.order[moved]];
    const int32_t* weights = p.table + (2 * p.grid[0] - 1) * (2 * p.grid[1] - 1) * (2 * p.grid[2] - 1) / 2;
    for (int32_t* slot = b.rest + b.first[ring]; slot < b.rest + b.first[ring + 1]; ++slot) {
        const int64_t offer = offer_of(crowd[*slot] - weights[b.spot[moved] - b.spot[*slot]], *slot);
        if (offer < best) { best = offer; from = slot; }
    }
    return {(int32_t)(best & 0xFFFFFFFF), (int32_t)(best >> 32), from};
}

inline size_t optim_blue_bytes(const smn_optim_blue* p) { return lay_out(*p, nullptr, nullptr); }

inline void optim_blue(const smn_optim_blue* plan, uint64_t seed, uint64_t partition, int32_t* label_of_token,
                       void* workspace) {
    const smn_optim_blue& p = *plan;
    BlueBuffers b;
    lay_out(p, &b, (char*)workspace);
    const int32_t L = p.tokens, V = p.visible, K = p.masks;
    const int64_t pitch = b.pitch;
    sort_tokens(p, seed, partition, b.order, b.relief, b.until);

    for (int e = 0; e < p.entries; ++e) {
        const int32_t* d = p.stamp + 4 * e;
        b.offset[e] = b.cell(d[0], d[1], d[2]);
        b.weight[e] = d[3];
    }
    int32_t* cell = b.at;
    for (int32_t row = 0; row < b.frame[0] * b.frame[1]; ++row)
        for (int32_t x = 0; x < b.frame[2]; ++x) *cell++ = (int32_t)b.ranks + ((row + x) & (NOWHERE - 1));
    int32_t *cell_of_token = b.relief, *spot_of_token = b.until;
    for (int32_t token = 0, t = 0; t < p.grid[0]; ++t)
        for (int32_t y = 0; y < p.grid[1]; ++y)
            for (int32_t x = 0; x < p.grid[2]; ++x, ++token) {
                cell_of_token[token] = b.cell(t + b.reach[0], y + b.reach[1], x + b.reach[2]);
                spot_of_token[token] = (t * (2 * p.grid[1] - 1) + y) * (2 * p.grid[2] - 1) + x;
            }
    for (int32_t r = 0; r < L; ++r) {
        b.place[r] = cell_of_token[b.order[r]];
        b.spot[r] = spot_of_token[b.order[r]];
        b.at[b.place[r]] = r;
    }
    memset(b.crowd, 0, sizeof(int32_t) * (size_t)((K + 1) * pitch));
    memset(b.until, 0, sizeof(int32_t) * (size_t)pitch);
    for (int64_t r = 0; r < pitch; ++r) b.label[r] = K;
    memset(b.relief, 0, sizeof(int32_t) * (size_t)pitch);
    memset(b.effect, 0, sizeof(int32_t) * (size_t)(K + 1));
    for (int32_t k = 0; k < K; ++k) b.left[k] = V;
    const BlueStamp stamp = {p, b};

    for (int32_t n = 0; n < K * V; ++n) {
        // Crowding above the place after mask n mod K: the contract's order among equals.
        int64_t least = INT64_MAX;
        for (int32_t i = 0, k = n % K; i < K; ++i, k = k + 1 == K ? 0 : k + 1) {
            int64_t key = b.left[k] ? (int64_t)b.crowd[k * pitch + n] << 32 | i : INT64_MAX;
            least = key < least ? key : least;
        }
        const int32_t best = ((int32_t)(least & 0xFFFFFFFF) + n % K) % K;
        b.label[n] = best;
        --b.left[best];
        int32_t* crowd = b.crowd + best * pitch;
        stamp(n, [=](int32_t r, int32_t s) { crowd[r] += s; });
        stamp.clear_nowhere(crowd);
    }
    group_rest(p, b);
    for (int32_t r = 0; r < K * V; ++r) b.relief[r] = -b.crowd[b.label[r] * pitch + r];

    for (int32_t t = 0; t < p.steps; ++t) {
        const int32_t r = worst_rank(b, t);
        if (r < 0) break;
        const int32_t a = b.label[r];
        for (int32_t k = 0; k < K; ++k) b.column[k] = b.crowd[k * pitch + r];
        b.column[a] = b.column[K] = FORBIDDEN;
        const Partner partner = best_partner(p, b, stamp, r, a);
        if (partner.change >= -b.relief[r]) {
            b.until[r] = t + 1 + SMN_RELEASE;
            continue;
        }
        const int32_t q = partner.rank, other = b.label[q];
        if (partner.slot) *partner.slot = r;
        int32_t *mine = b.crowd + a * pitch, *theirs = b.crowd + other * pitch;
        b.label[r] = other;
        b.label[q] = a;
        const int32_t labelled = other != K;  // nothing crowds the rest
        b.effect[other] = -labelled;
        b.effect[a] = 1;
        auto move = [&](int32_t from, int32_t sign) {
            int32_t *relief = b.relief, *effect = b.effect, *label = b.label;
            stamp(from, [=](int32_t i, int32_t s) {
                const int32_t less = sign * s;
                mine[i] -= less;
                theirs[i] += labelled * less;
                relief[i] += effect[label[i]] * less;
            });
        };
        move(r, 1);
        move(q, -1);
        b.effect[other] = b.effect[a] = 0;
        b.relief[r] = -labelled * theirs[r];
        b.relief[q] = -mine[q];
        stamp.clear_nowhere(mine);
        stamp.clear_nowhere(theirs);
    }
    for (int32_t r = 0; r < L; ++r) label_of_token[b.order[r]] = b.label[r] == K ? -1 : b.label[r];
}

inline void optim_blue_mask(const smn_optim_blue* p, const int32_t* label, int32_t mask, const smn_outputs* out,
                            uint8_t* scratch) {
    uint8_t* hidden = out->mask ? out->mask : scratch;
    typedef uint8_t vb __attribute__((vector_size(SMN_LANES)));
    int32_t i = 0;
    for (; i + W <= p->tokens; i += W) {
        vb bytes = __builtin_convertvector(load(label + i) != splat(mask), vb) & (uint8_t)1;
        memcpy(hidden + i, &bytes, W);
    }
    for (; i < p->tokens; ++i) hidden[i] = label[i] != mask;
    if (out->ids_keep || out->ids_mask || out->ids_restore) write_ids(hidden, p->tokens, p->visible, *out);
}

}  // namespace
