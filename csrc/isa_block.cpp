// SPDX-License-Identifier: Apache-2.0
// The GPU's block algorithms on the host, for tests: the same headers, a block as a loop over its threads.
#include <string.h>

#include "gaussian_block.h"
#include "optim_blue_block.h"
#include "points_block.h"
#include "strategy_block.h"
#include "words_block.h"

namespace {

template <bool TORUS, bool TWO>
void fields(Block& block, const ColorBlock& c, float* scores) {
    for (int tile = 0; tile < color_tiles(*c.plan); ++tile) color_field<TORUS, TWO>(block, c, tile, scores);
}

size_t color_bytes(const smn_plan* plan) {
    size_t tokens = (size_t)plan->ranking.groups * plan->ranking.tokens;
    return sizeof(float) * tokens + (size_t)plan->layout.bytes;
}

void color(const smn_plan* plan, uint64_t seed, uint64_t sample, const int64_t* sigma_table, const smn_outputs* out,
           void* workspace) {
    size_t tokens = (size_t)plan->ranking.groups * plan->ranking.tokens;
    char* shared = (char*)workspace;
    float* held = (float*)(shared + SMN_SCRATCH_BYTES);
    float* scores = plan->layout.fused ? held : (float*)(shared + plan->layout.bytes);
    Block block = {plan->layout.threads, (BlockScratch*)shared, 0};
    ColorBlock c = color_block(block, *plan, seed, sample, sigma_table,
                               plan->layout.fused ? held + tokens : held);
    const bool two = plan->first != nullptr;
    if (plan->layout.torus)
        two ? fields<true, true>(block, c, scores) : fields<true, false>(block, c, scores);
    else
        two ? fields<false, true>(block, c, scores) : fields<false, false>(block, c, scores);
    if (out->noise) memcpy(out->noise, scores, sizeof(float) * tokens);
    if (out->mask || out->ids_keep || out->ids_mask || out->ids_restore)
        threshold_block(block, plan->ranking, scores, *out);
}

size_t threshold_bytes(const smn_ranking*) { return SMN_SCRATCH_BYTES; }

void threshold(const smn_ranking* r, const float* scores, const smn_outputs* out, void* workspace) {
    Block block = {256, (BlockScratch*)workspace, 0};
    threshold_block(block, *r, scores, *out);
}

void add_bias(const float* scores, const float* bias, float weight, int64_t count, float* out) {
    for (int64_t i = 0; i < count; ++i) out[i] = smn_biased(scores[i], bias[i], weight);
}

void slot_threshold(const smn_slots* s, const int32_t* rank, const float* scores, const smn_outputs* out,
                    void* workspace) {
    Block block = {256, (BlockScratch*)workspace, 0};
    slot_threshold_block(block, *s, rank, scores, *out);
}

// No kernel of a GPU's: there torch repeats frames.
void mask_ids(const uint8_t* mask, int64_t tokens, int64_t visible, const smn_outputs* out) {
    int64_t kept = 0, hidden = 0;
    for (int64_t i = 0; i < tokens; ++i) {
        if (out->ids_restore) out->ids_restore[i] = mask[i] ? visible + hidden : kept;
        if (mask[i] && out->ids_mask) out->ids_mask[hidden] = i;
        if (!mask[i] && out->ids_keep) out->ids_keep[kept] = i;
        ++(mask[i] ? hidden : kept);
    }
}

size_t gaussian_bytes(const smn_gaussian* p) {
    return 2 * sizeof(float) * (size_t)p->size[0] * (size_t)p->size[1] * (size_t)p->size[2];
}

void gaussian(const smn_gaussian* p, const float* in, float* out, void* workspace) {
    int64_t size[3] = {p->size[0], p->size[1], p->size[2]};
    float* buffers[2] = {(float*)workspace, (float*)workspace + size[0] * size[1] * size[2]};
    for (int axis = 2; axis >= 0; --axis) {
        smn_axis a;
        a.in = axis == 2 ? in : buffers[axis];
        a.out = axis == 0 ? out : buffers[axis - 1];
        a.taps = p->taps + axis * p->taps_stride;
        a.radius = p->radius[axis];
        a.wrap = p->wrap;
        a.n = (int32_t)size[axis];
        a.n_out = p->wrap ? a.n : a.n - 2 * a.radius;
        a.outer = axis == 2 ? size[0] * size[1] : axis == 1 ? size[0] : 1;
        a.inner = (int32_t)(axis == 2 ? 1 : axis == 1 ? size[2] : size[1] * size[2]);
        size[axis] = a.n_out;
        for (int64_t task = 0; task < gaussian_tasks(a); ++task) gaussian_task(a, task);
    }
}

size_t optim_blue_bytes(const smn_optim_blue* p) { return (size_t)p->bytes; }

void optim_blue(const smn_optim_blue* p, uint64_t seed, uint64_t partition, int32_t* label, void* workspace) {
    BlockScratch scratch;
    Block block = {SMN_BLUE_THREADS, &scratch, 0};
    const BlueBlock b = blue_block(*p, (char*)workspace);
    const int* found = p->narrow ? blue_partition<true>(block, b, seed, partition)
                                 : blue_partition<false>(block, b, seed, partition);
    memcpy(label, found, sizeof(int32_t) * (size_t)p->tokens);
}

void optim_blue_mask(const smn_optim_blue* p, const int32_t* label, int32_t mask, const smn_outputs* out, uint8_t*) {
    BlockScratch scratch;
    Block block = {SMN_BLUE_THREADS, &scratch, 0};
    blue_mask(block, *p, label, mask, *out);
}

size_t strategy_bytes(const smn_strategy* p) {
    return SMN_SCRATCH_BYTES + (size_t)p->bytes + sizeof(int) * (size_t)p->ranking.tokens;
}

void strategy(const smn_strategy* p, uint64_t seed, uint64_t sample, const smn_outputs* out, void* workspace) {
    Block block = {256, (BlockScratch*)workspace, 0};
    int* steps = (int*)((char*)workspace + SMN_SCRATCH_BYTES);
    const int ranked = smn_ranked(*p);
    strategy_block(block, {p, seed, sample, steps, steps + ranked, steps + 2 * ranked}, *out);
}

void random_words(uint64_t seed, uint64_t sample, int32_t purpose, int64_t count, int64_t* out) {
    for (int64_t call = 0; 4 * call < count; ++call) write_words(seed, sample, (uint32_t)purpose, call, count, out);
}

size_t noise_at_bytes(const smn_points* p) { return (size_t)points_bytes(*p); }

void noise_at(const smn_points* p, uint64_t seed, uint64_t sample, const int64_t* sigma_table, const int32_t* places,
              int64_t number, float* out, void* workspace) {
    BlockScratch scratch;
    Block block = {256, &scratch, 0};
    for (int64_t i = 0; i < number; ++i)
        out[i] = noise_at_block(block, *p, seed, sample, sigma_table, places + 3 * i, (float*)workspace);
}

}  // namespace

extern "C" const smn_kernels smn_kernels_block = {color_bytes, color, threshold_bytes, threshold,
    add_bias, slot_threshold, mask_ids, gaussian_bytes, gaussian, optim_blue_bytes, optim_blue, optim_blue_mask,
    strategy_bytes, strategy, random_words, noise_at_bytes, noise_at, nullptr};
