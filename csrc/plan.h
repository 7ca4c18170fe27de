// SPDX-License-Identifier: Apache-2.0
// What Python hands to the CPU library: one sampler's static parameters, its tables, and one call's outputs.
// smnoise/backends/plan.py mirrors these structs field by field; SMN_ABI guards the pair.
#pragma once
#ifdef __CUDACC_RTC__  // NVRTC has no headers
typedef unsigned char uint8_t;
typedef int int32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#else
#include <stddef.h>
#include <stdint.h>
#endif

#define SMN_ABI 14

enum smn_color { SMN_WHITE = 0, SMN_RED = 1, SMN_BLUE = 2, SMN_GREEN = 3, SMN_PURPLE = 4 };

typedef struct {
    int32_t groups;   // rankings per sample: 1 (per clip) or T (per frame)
    int32_t tokens;   // tokens in each ranking
    int32_t visible;  // visible tokens in each ranking
    float quantile;   // the threshold in standard deviations of the scores, guessed: where the search for it starts
    float slope;      // tokens per standard deviation there; both are guesses and cannot change a mask
} smn_ranking;

// Slots of equal size, each with a count of its own, extension 9.
typedef struct {
    int32_t visible;        // 0 .. tokens
    float quantile, slope;  // as above, where 0 < visible < tokens
} smn_slot;
typedef struct {
    int32_t slots;          // of a sample
    int32_t tokens;         // in each slot
    int32_t visible;        // in all slots together
    const smn_slot* table;  // [slots], by the rank of a slot
} smn_slots;

// Rows of several lengths, extension 14.
typedef struct {
    int32_t tokens;        // of a row, its padding included
    int32_t keep, hide;    // columns of ids_keep and ids_mask
    const float* starts;   // [65][2]: quantile, and slope for one token, where so many 64ths of a row are visible
} smn_ragged;

// Noise at points, extension 15. A row of taps has side floats: g[0..r] at phase 0, else those at -r .. r + 1.
typedef struct {
    int32_t color;         // smn_color
    int32_t side;          // 2 * largest radius + 2
    const float* taps;     // [2 banks][32][3 axes t, y, x][16 phases][side]
    const int32_t* radius; // [2][32][3]
    const int32_t* first;  // [32]; null for colours of one sigma
} smn_points;

// How a block of threads (color_block.h) cuts the grid to fit its shared memory: backends/layout.py decides.
typedef struct {
    int32_t threads;    // of a block
    int32_t torus;      // 1: one tile, the whole grid, filtered in place with wrapping indices
    int32_t tile[3];    // t, y, x: tokens filtered at a time
    int32_t slices;     // noise slices made and filtered along x and y at a time
    int32_t halo[2][3]; // [2 banks] largest radius along t, y, x; zero for a torus
    int32_t pitch;      // floats of a row of noise, odd: rows side by side then lie in different memory banks
    int32_t clip;       // 1: of clip_block.h, whose tile is the whole grid
    int32_t fused;      // 1: the scores of a sample fit beside the rest, so that one launch does everything
    int32_t bytes;      // shared memory of the block that filters
} smn_layout;

typedef struct {
    int32_t grid[3];        // T, Y, X
    int32_t origin[3];      // t, y, x
    int32_t color;          // smn_color
    int32_t wrap;           // 0 field, 1 wrap
    int32_t max_radius[3];  // largest radius along t, y, x over both banks: sizes the workspace
    int32_t taps_stride;    // floats per row of taps
    const float* taps;      // [2 banks][32][3 axes t, y, x][taps_stride], g[0..r]
    const int32_t* radius;  // [2][32][3]
    const int32_t* first;   // [32]; null for colours of one sigma
    smn_ranking ranking;
    smn_layout layout;      // of the block algorithms only
} smn_plan;

// One sample's rows of the outputs; a null pointer means not wanted.
typedef struct {
    float* noise;         // [L] the field before the threshold
    uint8_t* mask;        // [L] 1 = masked
    int64_t* ids_keep;    // [groups * visible]
    int64_t* ids_mask;    // [L - groups * visible]
    int64_t* ids_restore; // [L]
} smn_outputs;

// A call of the CPU library for masks.
typedef struct {
    const void* plan;       // smn_plan, smn_optim_blue or smn_strategy, by the function
    const void* parallel;   // GOMP_parallel of torch's own OpenMP runtime, or null
    const int64_t* seed_at; // [1], or null: seed is it
    uint64_t seed;
    const int64_t* samples; // [batch], or null: first, first + 1, ...
    uint64_t first;
    int64_t batch;
    const int64_t* sigma_table;  // [31] of extension 12, or null; of the colours only
    const int64_t* origin;       // [batch, 3] of extension 13, or null; of the colours only
    smn_outputs out;        // [rows, ...] each
    int32_t isa;
    int32_t threads;
    int32_t times;          // > 1: the grid of a colour is one frame, whose mask is that of so many; extension 6
} smn_masks_call;

// A filter of a volume that is given: x, then y, then t.
typedef struct {
    int32_t size[3];      // T, Y, X of the input; the output is smaller by twice the radius unless wrap
    int32_t radius[3];
    int32_t wrap;
    int32_t taps_stride;
    const float* taps;    // [3 axes t, y, x][taps_stride]
} smn_gaussian;

// Optim Blue, contract section 7.
enum smn_rows { SMN_COMPLEMENTARY = 0, SMN_INDEPENDENT = 1, SMN_VIEWS = 2 };
typedef struct {
    int32_t grid[3];       // T, Y, X
    int32_t tokens;        // L
    int32_t visible;       // V
    int32_t masks;         // K
    int32_t steps;
    int32_t rows;          // smn_rows: which masks of which partition a sample's rows are
    int32_t entries;
    int32_t bytes;         // of the arrays of optim_blue_block.h; this, shared and narrow are for block algorithms only
    int32_t shared;        // 1: they fit into shared memory
    int32_t narrow;        // 1: a change of energy above a rank fits into 32 bits
    int32_t rings;
    const int32_t* stamp;  // [entries][4]: displacement t, y, x and its crowding weight S
    const int32_t* ring;   // [L] 0 .. rings - 1, equal where the contract's R is: who may change places with the rest
    const int32_t* table;  // S as [2T - 1][2Y - 1][2X - 1], displacement 0 in the middle; not for block algorithms
} smn_optim_blue;

// Frames, bars, blocks and cells, extension 5.
enum smn_placement { SMN_INSIDE = 0, SMN_OVERHANG = 1, SMN_CENTRE = 2 };
enum smn_strategy_kind { SMN_AXIS = 0, SMN_BARS = 1, SMN_BLOCKS = 2, SMN_CELLS = 3, SMN_RUNNING = 4 };
typedef struct {
    int32_t grid[3];      // T, Y, X
    int32_t kind;         // smn_strategy_kind
    int32_t axis;
    int32_t pace[2];
    int32_t cell[3];      // t, y, x
    int32_t placement;    // smn_placement
    int32_t boxes;        // how many are laid; 0: as many as are needed
    int32_t inverse;
    int32_t n_durations, n_sizes;
    int32_t lasting;      // 1: every box lasts from the first time step to the last
    int32_t bytes;        // of the arrays of strategy_block.h but for the scores; this and
    int32_t shared;       // whether the scores fit into shared memory beside them (1) are for block algorithms only
    smn_ranking ranking;
    const int32_t* durations;
    const int32_t* sizes; // [n_sizes][2]: y, x
} smn_strategy;

#ifndef __CUDACC__
// The training ops, a row (patch or token) at a time (patches_cpu.h); null where an instruction set has none.
struct smn_patches_;
struct smn_patch_loss_;
typedef struct {
    void (*gather_patch)(const struct smn_patches_*, const float* scale, const float* shift, int64_t row, float* out);
    double (*patch_loss)(const struct smn_patch_loss_*, int64_t row, float* target);
    void (*patch_loss_gradient)(const struct smn_patch_loss_*, float scale, int64_t row, float* target, float* gradient);
    void (*add_rows)(const float* values, const float* position, int64_t width, float* out);
} smn_training;

// What each instruction set provides (isa_*.cpp).
typedef struct {
    size_t (*color_bytes)(const smn_plan*);
    // sigma_table: [31], extension 12; or null.
    void (*color)(const smn_plan*, uint64_t seed, uint64_t sample, const int64_t* sigma_table, const smn_outputs*,
                  void* workspace);
    size_t (*threshold_bytes)(const smn_ranking*);
    void (*threshold)(const smn_ranking*, const float* scores, const smn_outputs*, void* workspace);
    // out[i] = scores[i] + weight * bias[i], extension 11.
    void (*add_bias)(const float* scores, const float* bias, float weight, int64_t count, float* out);
    // rank: [slots], which entry of the table each slot has; null: its own number. workspace: threshold_bytes.
    void (*slot_threshold)(const smn_slots*, const int32_t* rank, const float* scores, const smn_outputs*, void* workspace);
    // The ids of a mask that is given, whatever made it: [tokens], of which `visible` are 0.
    void (*mask_ids)(const uint8_t* mask, int64_t tokens, int64_t visible, const smn_outputs*);
    size_t (*gaussian_bytes)(const smn_gaussian*);
    void (*gaussian)(const smn_gaussian*, const float* in, float* out, void* workspace);
    size_t (*optim_blue_bytes)(const smn_optim_blue*);
    // label: int32 [L], the mask that reveals each token, -1 for the rest.
    void (*optim_blue)(const smn_optim_blue*, uint64_t seed, uint64_t partition, int32_t* label, void* workspace);
    void (*optim_blue_mask)(const smn_optim_blue*, const int32_t* label, int32_t mask, const smn_outputs*, uint8_t* scratch);  // scratch: [L]
    size_t (*strategy_bytes)(const smn_strategy*);
    void (*strategy)(const smn_strategy*, uint64_t seed, uint64_t sample, const smn_outputs*, void* workspace);
    void (*random_words)(uint64_t seed, uint64_t sample, int32_t purpose, int64_t count, int64_t* out);
    size_t (*noise_at_bytes)(const smn_points*);
    // places: int32 [number][3] sixteenths; sigma_table as above.
    void (*noise_at)(const smn_points*, uint64_t seed, uint64_t sample, const int64_t* sigma_table,
                     const int32_t* places, int64_t number, float* out, void* workspace);
    const smn_training* training;
} smn_kernels;
#endif
