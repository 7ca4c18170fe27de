// SPDX-License-Identifier: Apache-2.0
// Sections 2 to 5 for one sample: noise, both low-pass filters along x, y, t, and the colour.
//
// A slab is the noise that the filters read: the grid with `reach` more cells on every side (field), or the
// grid alone (wrap). Its rows are the (t, y) pairs, taken W at a time, one row a lane: Philox is then full
// whatever the grid, both sigmas read the same noise from the L1 cache, and the filter along x is the same
// flat loop as along y and t. One transpose on the way out puts x last again, its rows `pitch` floats apart:
// a whole number of vectors where that wastes little, so that no load straddles a cache line (1.4x on wrap).
#pragma once
#include "filter_cpu.h"
#include "philox_cpu.h"
#include "threshold_cpu.h"

namespace {

struct Axis { int t, y, x; };

// One low-pass filter, or, with all radii 0 and all taps 1, the white noise itself.
struct Filter {
    const float* taps[3];
    int radius[3];
    bool reads(int first_t, int last_t, const Axis& grid) const {
        return last_t >= -radius[0] && first_t < grid.t + radius[0];
    }
};
constexpr float IDENTITY[1] = {1.0f};

inline int64_t pitch_of(int64_t width) {
    int64_t full = padded(width);
    return 4 * (full - width) <= full ? full : width;
}

struct Buffers {
    float *tile, *wrapped, *filtered_x, *rows[3], *planes[3], *field[3], *padded;
};

inline size_t lay_out(const smn_plan& p, Buffers* b, char* base) {
    const int64_t T = p.grid[0], Y = p.grid[1], X = p.grid[2];
    const int64_t pitch = pitch_of(X);
    const int64_t rt = p.max_radius[0], ry = p.max_radius[1], rx = p.max_radius[2];
    const int64_t times = p.wrap ? T : T + 2 * rt, rows = times * (p.wrap ? Y : Y + 2 * ry);
    size_t bytes = 0;
    auto take = [&](int64_t floats) {
        float* at = base ? (float*)(base + bytes) : nullptr;
        bytes += (sizeof(float) * (size_t)(floats + 2 * W) + 63) / 64 * 64;
        return at;
    };
    Buffers out;
    out.tile = take((X + 2 * rx + 16 + W) * W);
    out.wrapped = take(p.wrap ? (X + 2 * rx) * W : 0);
    out.filtered_x = take((X + W) * W);
    for (int f = 0; f < 3; ++f) {
        out.rows[f] = take((rows + W) * pitch);
        out.planes[f] = take(times * Y * pitch);
        out.field[f] = take(T * Y * pitch);
    }
    int64_t wrap_y = (Y + 2 * ry) * pitch, wrap_t = (T + 2 * rt) * Y * pitch;
    out.padded = take(p.wrap ? (wrap_y > wrap_t ? wrap_y : wrap_t) : 0);
    if (b) *b = out;
    return bytes;
}

// Noise of W rows over `blocks` blocks of eight along x: tile[8 * block + x][row].
// high_y, t_word: counter words 0 (without the block) and 1 of each row; even rows first, then odd ones.
inline void noise_tile(float* tile, int64_t first_block, int blocks, const uint64_t* high_y,
                       const uint64_t* t_word, uint64_t sample, const Keys& keys) {
    vq y_even, y_odd, t_even, t_odd;
    memcpy(&y_even, high_y, sizeof(vq));
    memcpy(&y_odd, high_y + W / 2, sizeof(vq));
    memcpy(&t_even, t_word, sizeof(vq));
    memcpy(&t_odd, t_word + W / 2, sizeof(vq));
    const vq low = (sample & 0xFFFFFFFFull) - vq{}, high = (sample >> 32) - vq{};
    for (int b = 0; b < blocks; ++b) {
        uint64_t block = (uint64_t)(first_block + b) & 0xFFFF;
        vq even[4] = {y_even | block, t_even, low, high};
        vq odd[4] = {y_odd | block, t_odd, low, high};
        philox_lanes(even, keys);
        philox_lanes(odd, keys);
        SMN_UNROLL for (int word = 0; word < 4; ++word) {
            vi bits = (vi)((even[word] & 0xFFFFFFFFull) | (odd[word] << 32));
            store(tile, to_float((bits << 16) >> 16) * splat(0x1p-16f));
            store(tile + W, to_float(bits >> 16) * splat(0x1p-16f));
            tile += 2 * W;
        }
    }
}

struct Color {
    const smn_plan& p;
    const Axis grid, reach;  // reach: how far the slab extends beyond the grid
    const Buffers& b;
    const Filter* filters;
    const int count;
    const int64_t pitch;

    int64_t first_x() const { return (int64_t)p.origin[2] - reach.x; }
    int64_t last_x() const { return first_x() + grid.x + 2 * reach.x - 1; }
    int blocks() const { return (int)((last_x() >> 3) - (first_x() >> 3) + 1); }

    // Lanes beyond a row's end are filtered along y and t with it, and dropped. What another op left there may be
    // numbers so small that filters take 1.4 times as long.
    void clear_beyond_rows() const {
        memset(b.tile + (int64_t)blocks() * 8 * W, 0, sizeof(float) * W * W);
        memset(b.filtered_x + (int64_t)grid.x * W, 0, sizeof(float) * W * W);
    }

    // Rows row0 .. row0 + W - 1 of the slab, filtered along x, into b.rows.
    void rows(int64_t row0, int& t, int& y, uint64_t sample, const Keys& keys) const {
        uint64_t high_y[W], t_word[W];
        const int first_t = t;
        int last_t = t;
        for (int lane = 0; lane < W; ++lane) {
            int at = lane / 2 + (lane & 1) * (W / 2);  // even rows, then odd
            high_y[at] = smn_counter0(0, (smn_i64)p.origin[1] + y);
            t_word[at] = smn_counter1((smn_i64)p.origin[0] + t, SMN_PURPOSE_NOISE);
            last_t = t;
            if (++y == grid.y + reach.y) { y = -reach.y; ++t; }
        }
        noise_tile(b.tile, first_x() >> 3, blocks(), high_y, t_word, sample, keys);
        const float* noise = b.tile + (first_x() & 7) * W;
        for (int f = 0; f < count; ++f) {
            if (!p.wrap && !filters[f].reads(first_t, last_t, grid)) continue;
            const int radius = filters[f].radius[2];
            const float* centre = noise + (int64_t)reach.x * W;
            if (p.wrap && radius > 0) {
                wrap_rows(b.wrapped, noise, grid.x, radius, W);
                centre = b.wrapped + (int64_t)radius * W;
            }
            const float* result = centre;
            if (radius > 0) {
                filter(b.filtered_x, centre, (int64_t)grid.x * W, W, filters[f].taps[2], radius);
                result = b.filtered_x;
            }
            store_transposed(result, b.rows[f] + row0 * pitch, grid.x, pitch);
        }
    }

    // Filter f along y at time t, from b.rows into b.planes.
    void plane(int f, int t) const {
        const int64_t size = grid.y * pitch;
        const int radius = filters[f].radius[1];
        const float* in = b.rows[f] + ((int64_t)(t + reach.t) * (grid.y + 2 * reach.y) + reach.y) * pitch;
        float* out = b.planes[f] + (t + reach.t) * size;
        if (p.wrap && radius > 0) {
            wrap_rows(b.padded, in, grid.y, radius, pitch);
            in = b.padded + radius * pitch;
        }
        filter(out, in, size, pitch, filters[f].taps[1], radius);
    }

    // Filter f along t, from b.planes into b.field.
    void volume(int f) const {
        const int64_t size = grid.y * pitch;
        const int radius = filters[f].radius[0];
        const float* in = b.planes[f] + reach.t * size;
        if (p.wrap && radius > 0) {
            wrap_rows(b.padded, in, grid.t, radius, size);
            in = b.padded + radius * size;
        }
        filter(b.field[f], in, grid.t * size, size, filters[f].taps[0], radius);
    }
};

// Section 5. b.field holds the filters of use_filters, in its order; out: [rows][width], with W - 1 floats of
// slack: a row is stored in whole vectors, and the next one overwrites what was too much.
template <class Mix>
inline void mix_rows(float* out, const Buffers& b, int64_t rows, int64_t width, int64_t pitch, Mix mix) {
    if (pitch == width) { width *= rows; pitch = width; rows = 1; }
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t x = 0; x < width; x += W) {
            int64_t i = row * pitch + x;
            store(out + row * width + x, mix(load(b.field[0] + i), load(b.field[1] + i), load(b.field[2] + i)));
        }
}

inline void mix(int color, float* out, const Buffers& b, int64_t rows, int64_t width, int64_t pitch) {
    switch (color) {
        case SMN_WHITE:
        case SMN_RED:
            return mix_rows(out, b, rows, width, pitch, [](vf v, vf, vf) { return v; });
        case SMN_BLUE:
        case SMN_GREEN:
            return mix_rows(out, b, rows, width, pitch, [](vf v, vf g, vf) { return v - g; });
        default:
            return mix_rows(out, b, rows, width, pitch, [](vf w, vf g1, vf g2) { return w - (g1 - g2); });
    }
}

inline int use_filters(const smn_plan& p, const int index[2], Filter* filters) {
    int count = 0;
    auto white = [&] {
        filters[count++] = {{IDENTITY, IDENTITY, IDENTITY}, {0, 0, 0}};
    };
    auto low_pass = [&](int bank) {
        Filter& f = filters[count++];
        for (int axis = 0; axis < 3; ++axis) {
            int64_t row = ((int64_t)bank * SMN_BANK + index[bank]) * 3 + axis;
            f.taps[axis] = p.taps + row * p.taps_stride;
            f.radius[axis] = p.radius[row];
        }
    };
    if (p.color == SMN_WHITE || p.color == SMN_BLUE || p.color == SMN_PURPLE) white();
    if (p.color != SMN_WHITE) low_pass(0);
    if (p.color == SMN_GREEN || p.color == SMN_PURPLE) low_pass(1);
    return count;
}

inline size_t color_bytes(const smn_plan* p) {
    const size_t tokens = (size_t)p->grid[0] * p->grid[1] * p->grid[2];
    return lay_out(*p, nullptr, nullptr) + sizeof(float) * (tokens + 2 * W) + threshold_bytes(&p->ranking) + 128;
}

inline void color(const smn_plan* plan, uint64_t seed, uint64_t sample, const int64_t* sigma_table,
                  const smn_outputs* out, void* workspace) {
    const smn_plan& p = *plan;
    Buffers b;
    char* rest = (char*)workspace;
    rest += lay_out(p, &b, rest);

    int index[2];
    Filter filters[3];
    smn_sigma_draw(seed, sample, p.first, (const smn_i64*)sigma_table, index);
    const int count = use_filters(p, index, filters);

    Axis reach = {0, 0, 0};
    for (int f = 0; f < count && !p.wrap; ++f) {
        if (filters[f].radius[0] > reach.t) reach.t = filters[f].radius[0];
        if (filters[f].radius[1] > reach.y) reach.y = filters[f].radius[1];
        if (filters[f].radius[2] > reach.x) reach.x = filters[f].radius[2];
    }
    const Axis grid = {p.grid[0], p.grid[1], p.grid[2]};
    const int64_t pitch = pitch_of(grid.x);
    const Color c = {p, grid, reach, b, filters, count, pitch};
    c.clear_beyond_rows();
    const Keys keys(seed);
    const int64_t per_time = grid.y + 2 * reach.y, rows = (grid.t + 2 * reach.t) * per_time;
    int t = -reach.t, y = -reach.y, whole = -reach.t;  // whole: times before it have all their rows
    for (int64_t row = 0; row < rows; row += W) {
        c.rows(row, t, y, sample, keys);
        for (; whole < grid.t + reach.t && whole < t; ++whole)
            for (int f = 0; f < count; ++f)
                if (p.wrap || filters[f].reads(whole, whole, grid)) c.plane(f, whole);
    }
    for (int f = 0; f < count; ++f) c.volume(f);

    const int64_t tokens = (int64_t)grid.t * grid.y * grid.x;
    float* scores = (float*)rest;
    rest += (sizeof(float) * (size_t)(tokens + 2 * W) + 63) / 64 * 64;
    mix(p.color, scores, b, (int64_t)grid.t * grid.y, grid.x, pitch);
    if (out->noise) memcpy(out->noise, scores, sizeof(float) * tokens);
    if (out->mask || out->ids_keep || out->ids_mask || out->ids_restore)
        threshold(&p.ranking, scores, out, rest);
}

}  // namespace
