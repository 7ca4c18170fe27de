// SPDX-License-Identifier: Apache-2.0
// The CUDA entry points: one block a sample. Compiled by NVRTC at first use (backends/cuda.py); nvcc will do too.
// Every pointer is a device pointer; nothing is allocated, nothing waits.
#include "clip_block.h"
#include "gaussian_block.h"
#include "optim_blue_block.h"
#include "points_block.h"
#include "ragged_block.h"
#include "strategy_block.h"
#include "words_block.h"

// What changes from call to call.
typedef struct {
    const int64_t* seed;     // [1]
    const int64_t* samples;  // [B], or null: first, first + 1, ...
    uint64_t first;
    const int64_t* sigma_table;  // [31] of extension 12, or null; of the colours only
    const int64_t* origin;   // [B, 3] of extension 13, or null; of the colours only
    float* scores;           // [B, L], written where a sample's scores do not fit into shared memory
    smn_outputs out;         // [B, ...] each; null: not wanted
} smn_call;

template <class Call>
__device__ __forceinline__ smn_u64 sample_of(const Call& call, long long row) {
    return call.samples ? (smn_u64)call.samples[row] : (smn_u64)call.first + (smn_u64)row;
}

// Counts have 32 bits, so that each place is one product.
__device__ __forceinline__ smn_outputs rows_of(const smn_outputs& out, smn_u64 row, smn_u32 tokens, smn_u32 visible) {
    const smn_u64 all = row * tokens, keep = row * visible;
    smn_outputs o;
    o.noise = out.noise ? out.noise + all : nullptr;
    o.mask = out.mask ? out.mask + all : nullptr;
    o.ids_keep = out.ids_keep ? out.ids_keep + keep : nullptr;
    o.ids_mask = out.ids_mask ? out.ids_mask + (all - keep) : nullptr;
    o.ids_restore = out.ids_restore ? out.ids_restore + all : nullptr;
    return o;
}
__device__ __forceinline__ smn_outputs rows_of(const smn_outputs& out, smn_u64 row, const smn_ranking& r) {
    return rows_of(out, row, (smn_u32)(r.groups * r.tokens), (smn_u32)(r.groups * r.visible));
}

// Grid: (samples, 1) if fused, else (samples, tiles).
template <bool TORUS, bool TWO>
__device__ __forceinline__ void color(const smn_plan& plan, const smn_call& call) {
    extern __shared__ float4 memory[];
    char* shared = (char*)memory;
    Block block = {(int)blockDim.x, (BlockScratch*)shared, 0};
    const long long row = blockIdx.x, tokens = (long long)plan.ranking.groups * plan.ranking.tokens;
    const smn_outputs out = rows_of(call.out, row, plan.ranking);
    float* held = (float*)(shared + SMN_SCRATCH_BYTES);
    float* scores = plan.layout.fused ? held : call.scores + row * tokens;
    ColorBlock c = color_block(block, plan, (smn_u64)*call.seed, sample_of(call, row), call.sigma_table,
                               plan.layout.fused ? held + tokens : held);
    if (call.origin) color_at(c, call.origin + 3 * row);
    if (!plan.layout.fused) {
        color_field<TORUS, TWO>(block, c, blockIdx.y, scores);
        return;
    }
    for (int tile = 0; tile < color_tiles(plan); ++tile) color_field<TORUS, TWO>(block, c, tile, scores);
    if (out.noise) block.tasks((int)tokens, [=](int i) { out.noise[i] = scores[i]; });
    if (out.mask || out.ids_keep || out.ids_mask || out.ids_restore)
        threshold_block<true>(block, plan.ranking, scores, out);
}

// The same of clips that clip_block.h is for. Grid: (samples, 1).
template <bool TORUS, bool TWO>
__device__ __forceinline__ void clip(const smn_plan& plan, const smn_call& call) {
    extern __shared__ float4 memory[];
    char* shared = (char*)memory;
    Block block = {(int)blockDim.x, (BlockScratch*)shared, 0};
    const smn_outputs out = rows_of(call.out, blockIdx.x, plan.ranking);
    ColorBlock c = color_block(block, plan, (smn_u64)*call.seed, sample_of(call, blockIdx.x), call.sigma_table,
                               (float*)(shared + SMN_SCRATCH_BYTES));
    if (call.origin) color_at(c, call.origin + 3 * (long long)blockIdx.x);
    const float* scores = TORUS ? clip_torus<TWO>(block, c, c.noise) : clip_window<TWO>(block, c, c.noise);
    if (out.noise) block.tasks(plan.ranking.groups * plan.ranking.tokens, [=](int i) { out.noise[i] = scores[i]; });
    if (out.mask || out.ids_keep || out.ids_mask || out.ids_restore)
        threshold_block<true>(block, plan.ranking, scores, out);
}

#define SMN_THREADS 256
// Two blocks a multiprocessor: more is not what shared memory allows, and to make room for it registers would spill.
// A clip's block may have twice the threads, where shared memory allows one block.
#define SMN_CLIP_KERNEL extern "C" __global__ void __launch_bounds__(2 * SMN_THREADS, 1)
#define SMN_KERNEL extern "C" __global__ void __launch_bounds__(SMN_THREADS, 2)
// backends/nvrtc.py compiles one kernel at a time: with SMN_ONE defined, that of which SMN_ONE_<name> is defined.

#if !defined(SMN_ONE) || defined(SMN_ONE_color_window_one)
SMN_KERNEL color_window_one(const __grid_constant__ smn_plan plan, const __grid_constant__ smn_call call) {
    color<false, false>(plan, call);
}
#endif
#if !defined(SMN_ONE) || defined(SMN_ONE_color_window_two)
SMN_KERNEL color_window_two(const __grid_constant__ smn_plan plan, const __grid_constant__ smn_call call) {
    color<false, true>(plan, call);
}
#endif
#if !defined(SMN_ONE) || defined(SMN_ONE_color_torus_one)
SMN_KERNEL color_torus_one(const __grid_constant__ smn_plan plan, const __grid_constant__ smn_call call) {
    color<true, false>(plan, call);
}
#endif
#if !defined(SMN_ONE) || defined(SMN_ONE_color_torus_two)
SMN_KERNEL color_torus_two(const __grid_constant__ smn_plan plan, const __grid_constant__ smn_call call) {
    color<true, true>(plan, call);
}
#endif

#if !defined(SMN_ONE) || defined(SMN_ONE_clip_window_one)
SMN_CLIP_KERNEL clip_window_one(const __grid_constant__ smn_plan plan, const __grid_constant__ smn_call call) {
    clip<false, false>(plan, call);
}
#endif
#if !defined(SMN_ONE) || defined(SMN_ONE_clip_window_two)
SMN_CLIP_KERNEL clip_window_two(const __grid_constant__ smn_plan plan, const __grid_constant__ smn_call call) {
    clip<false, true>(plan, call);
}
#endif
#if !defined(SMN_ONE) || defined(SMN_ONE_clip_torus_one)
SMN_CLIP_KERNEL clip_torus_one(const __grid_constant__ smn_plan plan, const __grid_constant__ smn_call call) {
    clip<true, false>(plan, call);
}
#endif
#if !defined(SMN_ONE) || defined(SMN_ONE_clip_torus_two)
SMN_CLIP_KERNEL clip_torus_two(const __grid_constant__ smn_plan plan, const __grid_constant__ smn_call call) {
    clip<true, true>(plan, call);
}
#endif

#if !defined(SMN_ONE) || defined(SMN_ONE_threshold)
SMN_KERNEL threshold(const __grid_constant__ smn_ranking ranking, const __grid_constant__ smn_call call) {
    __shared__ BlockScratch scratch;
    Block block = {(int)blockDim.x, &scratch, 0};
    const long long row = blockIdx.x, tokens = (long long)ranking.groups * ranking.tokens;
    threshold_block<false>(block, ranking, call.scores + row * tokens, rows_of(call.out, row, ranking));
}
#endif

#if !defined(SMN_ONE) || defined(SMN_ONE_add_bias)
SMN_KERNEL add_bias(const float* scores, const float* bias, float* out, float weight, int64_t count) {
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = smn_biased(scores[i], bias[i], weight);
}
#endif

// rank: [B, slots], or null where every slot has the entry of its own number.
#if !defined(SMN_ONE) || defined(SMN_ONE_slot_threshold)
SMN_KERNEL slot_threshold(const __grid_constant__ smn_slots slots, const int32_t* rank,
                          const __grid_constant__ smn_call call) {
    __shared__ BlockScratch scratch;
    Block block = {(int)blockDim.x, &scratch, 0};
    const long long row = blockIdx.x, tokens = (long long)slots.slots * slots.tokens;
    slot_threshold_block(block, slots, rank ? rank + row * slots.slots : nullptr, call.scores + row * tokens,
                         rows_of(call.out, row, tokens, slots.visible));
}
#endif

// lengths, visible: [B], extension 14.
#if !defined(SMN_ONE) || defined(SMN_ONE_ragged_threshold)
SMN_KERNEL ragged_threshold(const __grid_constant__ smn_ragged ragged, const int64_t* lengths, const int64_t* visible,
                            const __grid_constant__ smn_call call) {
    __shared__ BlockScratch scratch;
    Block block = {(int)blockDim.x, &scratch, 0};
    const long long row = blockIdx.x;
    smn_outputs o = {nullptr, nullptr, nullptr, nullptr, nullptr};
    if (call.out.mask) o.mask = call.out.mask + row * ragged.tokens;
    if (call.out.ids_keep) o.ids_keep = call.out.ids_keep + row * ragged.keep;
    if (call.out.ids_mask) o.ids_mask = call.out.ids_mask + row * ragged.hide;
    if (call.out.ids_restore) o.ids_restore = call.out.ids_restore + row * ragged.tokens;
    ragged_threshold_block(block, ragged, lengths[row], visible[row], call.scores + row * ragged.tokens, o);
}
#endif

// One block a point; places: int32 [B, number, 3], out: float32 [B, number].
#if !defined(SMN_ONE) || defined(SMN_ONE_noise_at)
SMN_KERNEL noise_at(const __grid_constant__ smn_points points, const int64_t* seed, const int64_t* samples,
                    const int64_t* sigma_table, const int32_t* places, int64_t number, float* out) {
    extern __shared__ float4 memory[];
    __shared__ BlockScratch scratch;
    Block block = {(int)blockDim.x, &scratch, 0};
    const int64_t i = blockIdx.x;
    const float value = noise_at_block(block, points, (smn_u64)*seed, (smn_u64)samples[i / number], sigma_table,
                                       places + 3 * i, (float*)memory);
    if (threadIdx.x == 0) out[i] = value;
}
#endif

// For the conformance check: words [4], counter in, answer out.
#if !defined(SMN_ONE) || defined(SMN_ONE_philox)
SMN_KERNEL philox(smn_u32* words, const int64_t* seed) {
    if (threadIdx.x == 0) smn_philox(words, (smn_u64)*seed);
}
#endif

// For the conformance check: index[2] of one sample.
#if !defined(SMN_ONE) || defined(SMN_ONE_sigmas)
SMN_KERNEL sigmas(const int64_t* seed, const int64_t* sample, const int32_t* first, const int64_t* table, int* index) {
    if (threadIdx.x == 0) smn_sigma_draw((smn_u64)*seed, (smn_u64)*sample, first, (const smn_i64*)table, index);
}
#endif

// out: [batch, count]. A thread takes Philox calls, of four words each.
#if !defined(SMN_ONE) || defined(SMN_ONE_random_words)
SMN_KERNEL random_words(const int64_t* seed, const int64_t* samples, int64_t* out, int64_t batch, int64_t count,
                        int32_t purpose) {
    const int64_t calls = (count + 3) / 4, step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < batch * calls; i += step)
        write_words((smn_u64)*seed, (smn_u64)samples[i / calls], (smn_u32)purpose, i % calls, count,
                    out + i / calls * count);
}
#endif

// One axis of a Gaussian filter of a given volume.
#if !defined(SMN_ONE) || defined(SMN_ONE_gaussian)
SMN_KERNEL gaussian(const __grid_constant__ smn_axis axis) {
    const int64_t tasks = gaussian_tasks(axis), step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < tasks; i += step) gaussian_task(axis, i);
}
#endif

// Optim Blue: what changes from call to call.
typedef struct {
    const int64_t* seed;     // [1]
    const int64_t* samples;  // [batch], or null: first, first + 1, ...
    uint64_t first;
    int64_t batch;
    char* workspace;         // [blocks][plan.bytes], aligned to 8, where that does not fit into shared memory
    smn_outputs out;         // [rows, ...] each; null: not wanted
} smn_blue_call;

// Any number of blocks. Rows side by side that share a partition are done by the block that meets the first of them;
// which rows those are is found out here, so that the host need not know the sample indices.
template <bool NARROW>
__device__ __forceinline__ void blue(const smn_optim_blue& plan, const smn_blue_call& call, char* scratch,
                                     char* arrays) {
    Block block = {SMN_BLUE_THREADS, (BlockScratch*)scratch, 0};
    const BlueBlock b = blue_block(plan, arrays);
    const smn_ranking ranking = {1, plan.tokens, plan.visible, 0, 0};
    for (int64_t i = blockIdx.x; i < call.batch; i += gridDim.x) {
        const smn_u64 number = smn_partition_of(&plan, sample_of(call, i));
        if (i > 0 && smn_partition_of(&plan, sample_of(call, i - 1)) == number) continue;
        const int* label = blue_partition<NARROW>(block, b, (smn_u64)*call.seed, number);
        for (int64_t j = i; j < call.batch && smn_partition_of(&plan, sample_of(call, j)) == number; ++j) {
            const int rows = plan.rows == SMN_VIEWS ? plan.masks : 1;
            for (int k = 0; k < rows; ++k) {
                const int mask = rows > 1 ? k : smn_mask_of(&plan, sample_of(call, j));
                blue_mask(block, plan, label, mask, rows_of(call.out, j * rows + k, ranking));
            }
        }
    }
}

// As many blocks a multiprocessor as do not make registers spill; shared memory allows about as many.
#define SMN_BLUE_KERNEL(BLOCKS) extern "C" __global__ void __launch_bounds__(SMN_BLUE_THREADS, BLOCKS)
// Arrays in shared memory, whose addresses have 32 bits: of plans that are narrow, and of the others.
#if !defined(SMN_ONE) || defined(SMN_ONE_optim_blue)
SMN_BLUE_KERNEL(8) optim_blue(const __grid_constant__ smn_optim_blue plan,
                              const __grid_constant__ smn_blue_call call) {
    extern __shared__ float4 memory[];
    char* shared = (char*)memory;
    blue<true>(plan, call, shared, shared + SMN_SCRATCH_BYTES);
}
#endif
#if !defined(SMN_ONE) || defined(SMN_ONE_optim_blue_wide)
SMN_BLUE_KERNEL(8) optim_blue_wide(const __grid_constant__ smn_optim_blue plan,
                                   const __grid_constant__ smn_blue_call call) {
    extern __shared__ float4 memory[];
    char* shared = (char*)memory;
    blue<false>(plan, call, shared, shared + SMN_SCRATCH_BYTES);
}
#endif
// Arrays in the workspace; of any plan.
#if !defined(SMN_ONE) || defined(SMN_ONE_optim_blue_global)
SMN_BLUE_KERNEL(5) optim_blue_global(const __grid_constant__ smn_optim_blue plan,
                                     const __grid_constant__ smn_blue_call call) {
    __shared__ BlockScratch scratch;
    blue<false>(plan, call, (char*)&scratch, call.workspace + (int64_t)blockIdx.x * plan.bytes);
}
#endif

// One block a sample. call.scores: [B, L], where a sample's scores do not fit into shared memory.
#if !defined(SMN_ONE) || defined(SMN_ONE_strategy_mask)
SMN_KERNEL strategy_mask(const __grid_constant__ smn_strategy plan, const __grid_constant__ smn_call call) {
    extern __shared__ float4 memory[];
    char* shared = (char*)memory;
    Block block = {(int)blockDim.x, (BlockScratch*)shared, 0};
    const long long row = blockIdx.x;
    int* steps = (int*)(shared + SMN_SCRATCH_BYTES);
    const int ranked = smn_ranked(plan);
    int* bits = plan.shared ? steps + 2 * ranked : (int*)call.scores + row * plan.ranking.tokens;
    const StrategyBlock b = {&plan, (smn_u64)*call.seed, sample_of(call, row), steps, steps + ranked, bits};
    strategy_block(block, b, rows_of(call.out, row, plan.ranking));
}
#endif
