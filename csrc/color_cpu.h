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
#include "noise_cpu.h"
#include "white_cpu.h"

namespace {

// One low-pass filter, or, with all radii 0 and all taps 1, the white noise itself.
struct Filter {
    const float* taps[3];
    int radius[3];
    Taps along_x() const { return {taps[2], radius[2]}; }
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
    float *tile, *wrapped, *filtered_x[2], *rows[3], *planes[3], *field[3], *padded;
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
    for (float*& filtered : out.filtered_x) filtered = take((X + W) * W);
    for (int f = 0; f < 3; ++f) {
        out.rows[f] = take((rows + W) * pitch);
        out.planes[f] = take(times * Y * pitch);
        out.field[f] = take(T * Y * pitch);
    }
    out.padded = take(p.wrap ? (Y + 2 * ry) * pitch : 0);
    if (b) *b = out;
    return bytes;
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
        for (float* filtered : b.filtered_x) memset(filtered + (int64_t)grid.x * W, 0, sizeof(float) * W * W);
    }

    // W rows of the slab from row0 on, filtered along x, into b.rows.
    void rows(int64_t row0, const Rows& of_lanes, uint64_t sample, const Keys& keys) const {
        const int first_t = of_lanes.t[0], last_t = of_lanes.t[W - 1];
        const RowWords words(of_lanes, p.origin);
        NoiseTile<AsFloat>(words, sample, keys).write(b.tile, first_x() >> 3, blocks());
        const float* noise = b.tile + (first_x() & 7) * W;
        const float* centre = noise + (int64_t)reach.x * W;
        auto wrapped = [&](int radius) -> const float* {
            if (!p.wrap || radius == 0) return centre;
            wrap_rows(b.wrapped, noise, grid.x, radius, W);
            return b.wrapped + (int64_t)radius * W;
        };
        auto keep = [&](int f, const float* result) {
            store_transposed(result, b.rows[f] + row0 * pitch, grid.x, pitch);
        };
        const int64_t values = (int64_t)grid.x * W;
        for (int f = 0; f < count; ++f) {
            if (!p.wrap && !filters[f].reads(first_t, last_t, grid)) continue;
            const Taps taps[2] = {filters[f].along_x(), filters[f + 1].along_x()};
            if (taps[0].radius == 0) {
                keep(f, centre);
            } else if (f + 1 < count) {  // two low-pass filters, the wider one last
                filter_twice(b.filtered_x, wrapped(taps[1].radius), values, W, taps);
                keep(f, b.filtered_x[0]);
                keep(f + 1, b.filtered_x[1]);
                break;
            } else {
                filter(b.filtered_x[0], wrapped(taps[0].radius), values, W, taps[0].g, taps[0].radius);
                keep(f, b.filtered_x[0]);
            }
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
        const float *in = b.planes[f] + reach.t * size, *g = filters[f].taps[0];
        if (!p.wrap) return filter(b.field[f], in, grid.t * size, size, g, radius);
        const Ring ring = {(ptrdiff_t)size, in, in + (grid.t - 1) * size};
        for (int64_t t = 0; t < grid.t; ++t) filter_by(b.field[f] + t * size, in + t * size, size, ring, g, radius);
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
    if (p.color == SMN_WHITE && !out->noise)
        return white_masks(p, seed, sample, *out, (int32_t*)b.tile, (int32_t*)b.rows[0], rest);

    int index[2];
    Filter filters[4] = {};  // and one that is not used
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
    Rows of_lanes(grid, reach);
    const int64_t rows = (int64_t)(grid.t + 2 * reach.t) * of_lanes.per_time;
    int whole = -reach.t;  // times before it have all their rows
    for (int64_t row = 0; row < rows; row += W) {
        c.rows(row, of_lanes, sample, keys);
        of_lanes.advance();
        for (const int next = of_lanes.t[0]; whole < grid.t + reach.t && whole < next; ++whole)
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
