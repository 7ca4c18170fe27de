// SPDX-License-Identifier: Apache-2.0
// The C ABI that smnoise/backends/cpu.py calls. Batches are spread over torch's own OpenMP workers: a second pool
// beside them would fight their spinning threads for the cores.
#include <stdlib.h>

#include "optim_blue.h"
#include "patches.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(_WIN32)
#define SMN_API extern "C" __declspec(dllexport)
#else
#define SMN_API extern "C" __attribute__((visibility("default")))
#endif

extern "C" const smn_kernels smn_kernels_portable, smn_kernels_block;
#if defined(SMN_X86)
extern "C" const smn_kernels smn_kernels_avx2, smn_kernels_avx512;
#endif

enum { SMN_OK = 0, SMN_OUT_OF_MEMORY = 1, SMN_NO_SUCH_ISA = 2 };
enum { ISA_PORTABLE = 1, ISA_AVX2 = 2, ISA_AVX512 = 3, ISA_BLOCK = 4 };

static const smn_kernels* kernels_of(int isa) {
#if defined(SMN_X86)
    __builtin_cpu_init();
    if (isa == ISA_AVX512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return &smn_kernels_avx512;
    if (isa == ISA_AVX2 && __builtin_cpu_supports("avx2")) return &smn_kernels_avx2;
#endif
    if (isa == ISA_BLOCK) return &smn_kernels_block;
    return isa == ISA_PORTABLE ? &smn_kernels_portable : nullptr;
}

// Results must not depend on a caller's flush-to-zero or rounding mode (torch.set_flush_denormal sets one).
struct IeeeFloats {
#if defined(__x86_64__)
    unsigned saved = _mm_getcsr();
    IeeeFloats() { _mm_setcsr(0x1F80); }
    ~IeeeFloats() { _mm_setcsr(saved); }
#elif defined(__aarch64__)
    uint64_t saved;
    IeeeFloats() {
        __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
        __asm__ volatile("msr fpcr, %0" ::"r"((uint64_t)0));
    }
    ~IeeeFloats() { __asm__ volatile("msr fpcr, %0" ::"r"(saved)); }
#endif
};

// Each thread keeps its workspace between calls, unless it is large: fresh pages cost more than a mask.
static const size_t KEEP_BYTES = (size_t)16 << 20;
struct Workspace {
    void* data = nullptr;
    size_t bytes = 0;
    void* reserve(size_t wanted) {
        if (wanted > bytes) {
            free(data);
            data = nullptr;
            bytes = 0;
            size_t rounded = (wanted + 63) / 64 * 64;
            data = aligned_alloc(64, rounded);
            if (!data) return nullptr;
            bytes = rounded;
        }
        return data;
    }
    void trim() {
        if (bytes > KEEP_BYTES) { free(data); data = nullptr; bytes = 0; }
    }
    ~Workspace() { free(data); }
};
static thread_local Workspace workspace;

typedef void (*parallel_fn)(void (*)(void*), void*, unsigned threads, unsigned flags);  // GOMP_parallel

// One call: `rows` does rows from .. to of the batch.
struct Job {
    void (*rows)(const Job&, int64_t from, int64_t to, void* scratch);
    const smn_kernels* kernels;
    size_t bytes;
    int64_t batch, chunk = 1, next = 0;
    int status = SMN_OK;
};

static void work(void* argument) {
    Job& job = *(Job*)argument;
    IeeeFloats ieee;
    void* scratch = workspace.reserve(job.bytes);
    if (!scratch) {
        __atomic_store_n(&job.status, SMN_OUT_OF_MEMORY, __ATOMIC_RELAXED);
        return;
    }
    for (int64_t from; (from = __atomic_fetch_add(&job.next, job.chunk, __ATOMIC_RELAXED)) < job.batch;)
        job.rows(job, from, from + job.chunk < job.batch ? from + job.chunk : job.batch, scratch);
    workspace.trim();
}

// Rows are handed out job.chunk at a time; a thread that would get none is not started.
static int launch(Job& job, int threads, parallel_fn parallel) {
    const int64_t turns = (job.batch + job.chunk - 1) / job.chunk;
    if (threads > turns) threads = (int)turns;
    if (parallel && threads > 1)
        parallel(work, &job, (unsigned)threads, 0);
    else
        work(&job);
    return job.status;
}

static int run(Job& job, int threads, parallel_fn parallel) {
    // A sample of a small grid takes microseconds: hand out several at once in a large batch, but
    // leave every thread sixteen turns, since samples with wide filters take longer.
    job.chunk = job.batch / (16 * (int64_t)(threads > 0 ? threads : 1));
    if (job.chunk < 1) job.chunk = 1;
    if (job.chunk > 8) job.chunk = 8;
    return launch(job, threads, parallel);
}

// Rows of the training ops: at least 64 at a time, so that the counter is not what threads wait for.
static int run_rows(Job& job, int threads, parallel_fn parallel) {
    job.chunk = 64;
    return launch(job, threads, parallel);
}

template <class T>
static T* row(T* base, int64_t index, int64_t width) { return base ? base + index * width : nullptr; }

static smn_outputs row_of(const smn_outputs& out, int64_t i, int64_t tokens, int64_t visible) {
    return {row(out.noise, i, tokens), row(out.mask, i, tokens), row(out.ids_keep, i, visible),
            row(out.ids_mask, i, tokens - visible), row(out.ids_restore, i, tokens)};
}

struct Color : Job {
    const smn_plan* plan;
    uint64_t seed;
    const int64_t* samples;
    smn_outputs out;
    static void some(const Job& base, int64_t from, int64_t to, void* scratch) {
        const Color& job = (const Color&)base;
        const smn_ranking& r = job.plan->ranking;
        for (int64_t i = from; i < to; ++i) {
            smn_outputs out = row_of(job.out, i, (int64_t)r.groups * r.tokens, (int64_t)r.groups * r.visible);
            job.kernels->color(job.plan, job.seed, (uint64_t)job.samples[i], &out, scratch);
        }
    }
};

struct Threshold : Job {
    const smn_ranking* ranking;
    const float* scores;
    smn_outputs out;
    static void some(const Job& base, int64_t from, int64_t to, void* scratch) {
        const Threshold& job = (const Threshold&)base;
        const smn_ranking& r = *job.ranking;
        const int64_t tokens = (int64_t)r.groups * r.tokens;
        for (int64_t i = from; i < to; ++i) {
            smn_outputs out = row_of(job.out, i, tokens, (int64_t)r.groups * r.visible);
            job.kernels->threshold(&r, job.scores + i * tokens, &out, scratch);
        }
    }
};

struct SlotThreshold : Job {
    const smn_slots* slots;
    const int32_t* rank;
    const float* scores;
    smn_outputs out;
    static void some(const Job& base, int64_t from, int64_t to, void* scratch) {
        const SlotThreshold& job = (const SlotThreshold&)base;
        const smn_slots& s = *job.slots;
        const int64_t tokens = (int64_t)s.slots * s.tokens;
        for (int64_t i = from; i < to; ++i) {
            smn_outputs out = row_of(job.out, i, tokens, s.visible);
            job.kernels->slot_threshold(&s, row(job.rank, i, s.slots), job.scores + i * tokens, &out, scratch);
        }
    }
};

struct Filter : Job {
    const smn_gaussian* gaussian;
    const float* volume;
    float* out;
    static void some(const Job& base, int64_t from, int64_t to, void* scratch) {
        const Filter& job = (const Filter&)base;
        const smn_gaussian* p = job.gaussian;
        int64_t in = 1, out = 1;
        for (int axis = 0; axis < 3; ++axis) {
            in *= p->size[axis];
            out *= p->size[axis] - (p->wrap ? 0 : 2 * p->radius[axis]);
        }
        for (int64_t i = from; i < to; ++i) job.kernels->gaussian(p, job.volume + i * in, job.out + i * out, scratch);
    }
};

struct OptimBlue : Job {
    const smn_optim_blue* plan;
    uint64_t seed;
    const int64_t* samples;
    smn_outputs out;
    size_t label_bytes() const { return (sizeof(int32_t) * (size_t)plan->tokens + 63) / 64 * 64; }
    size_t mask_bytes() const { return ((size_t)plan->tokens + 63) / 64 * 64; }
    static void some(const Job& base, int64_t from, int64_t to, void* scratch) {
        const OptimBlue& job = (const OptimBlue&)base;
        const smn_optim_blue& p = *job.plan;
        int32_t* label = (int32_t*)scratch;
        uint8_t* mask = (uint8_t*)scratch + job.label_bytes();
        void* rest = mask + job.mask_bytes();
        auto write = [&](int64_t row, int32_t k) {
            smn_outputs out = row_of(job.out, row, p.tokens, p.visible);
            job.kernels->optim_blue_mask(&p, label, k, &out, mask);
        };
        // Rows side by side that share a partition are done by whoever is given the first of them.
        auto partition = [&](int64_t i) { return smn_partition_of(&p, (uint64_t)job.samples[i]); };
        for (int64_t i = from; i < to; ++i) {
            const uint64_t number = partition(i);
            if (i > 0 && partition(i - 1) == number) continue;
            job.kernels->optim_blue(&p, job.seed, number, label, rest);
            for (int64_t j = i; j < job.batch && partition(j) == number; ++j)
                if (p.rows == SMN_VIEWS)
                    for (int32_t k = 0; k < p.masks; ++k) write(j * p.masks + k, k);
                else
                    write(j, smn_mask_of(&p, (uint64_t)job.samples[j]));
        }
    }
};

struct Strategy : Job {
    const smn_strategy* plan;
    uint64_t seed;
    const int64_t* samples;
    smn_outputs out;
    static void some(const Job& base, int64_t from, int64_t to, void* scratch) {
        const Strategy& job = (const Strategy&)base;
        const smn_ranking& r = job.plan->ranking;
        for (int64_t i = from; i < to; ++i) {
            smn_outputs out = row_of(job.out, i, r.tokens, r.visible);
            job.kernels->strategy(job.plan, job.seed, (uint64_t)job.samples[i], &out, scratch);
        }
    }
};

struct RandomWords : Job {
    uint64_t seed;
    const int64_t* samples;
    int32_t purpose;
    int64_t count;
    int64_t* out;
    static void some(const Job& base, int64_t from, int64_t to, void*) {
        const RandomWords& job = (const RandomWords&)base;
        for (int64_t i = from; i < to; ++i)
            job.kernels->random_words(job.seed, (uint64_t)job.samples[i], job.purpose, job.count,
                                      job.out + i * job.count);
    }
};

static int64_t values_of(const smn_patches& p) {  // of a patch
    return (int64_t)p.channels * p.patch[0] * p.patch[1] * p.patch[2];
}

// Patches are handed out many at a time: one takes less than a microsecond.
struct Patches : Job {
    const smn_patches* patches;
    const float *scale, *shift;
    float* out;
    static void some(const Job& base, int64_t from, int64_t to, void*) {
        const Patches& job = (const Patches&)base;
        const int64_t width = values_of(*job.patches);
        for (int64_t i = from; i < to; ++i)
            job.kernels->training->gather_patch(job.patches, job.scale, job.shift, i, job.out + i * width);
    }
};

struct PatchLoss : Job {
    const smn_patch_loss* loss;
    double* sums;       // [rows]; or null, for the gradient
    float scale;
    float* gradient;    // [rows, P * C]
    int64_t width() const { return values_of(loss->patches); }
    static void some(const Job& base, int64_t from, int64_t to, void* scratch) {
        const PatchLoss& job = (const PatchLoss&)base;
        const smn_training* training = job.kernels->training;
        for (int64_t i = from; i < to; ++i)
            if (job.sums)
                job.sums[i] = training->patch_loss(job.loss, i, (float*)scratch);
            else
                training->patch_loss_gradient(job.loss, job.scale, i, (float*)scratch,
                                              job.gradient + i * job.width());
    }
};

struct DecoderTokens : Job {
    const float *visible, *mask_token, *positions;
    const int64_t *ids_keep, *ids_mask;
    int64_t kept, hidden, width;
    int32_t in_grid;
    float* out;
    static void some(const Job& base, int64_t from, int64_t to, void*) {
        const DecoderTokens& job = (const DecoderTokens&)base;
        const int64_t all = job.kept + job.hidden, width = job.width;
        for (int64_t i = from; i < to; ++i) {
            const int64_t b = i / all, place = i % all;
            const bool shown = place < job.kept;
            const int64_t token = shown ? job.ids_keep[b * job.kept + place]
                                        : job.ids_mask[b * job.hidden + place - job.kept];
            const float* values = shown ? job.visible + (b * job.kept + place) * width : job.mask_token;
            float* out = job.out + (b * all + (job.in_grid ? token : place)) * width;
            job.kernels->training->add_rows(values, job.positions + token * width, width, out);
        }
    }
};

SMN_API int smn_abi(void) { return SMN_ABI; }

SMN_API int smn_has_isa(int isa) { return kernels_of(isa) != nullptr; }

SMN_API void smn_philox_words(const uint32_t counter[4], uint64_t seed, uint32_t words[4]) {
    for (int i = 0; i < 4; ++i) words[i] = counter[i];
    smn_philox(words, seed);
}

SMN_API void smn_white_values(uint64_t seed, uint64_t sample, const int64_t* t, const int64_t* y,
                              const int64_t* x, int64_t n, float* values) {
    for (int64_t i = 0; i < n; ++i) values[i] = smn_white(seed, sample, t[i], y[i], x[i]);
}

SMN_API void smn_sigma_draws(const int32_t* first, uint64_t seed, const int64_t* samples, int64_t n,
                             int32_t* index) {
    for (int64_t i = 0; i < n; ++i) smn_sigma_draw(seed, (uint64_t)samples[i], first, index + 2 * i);
}

SMN_API int smn_color(const smn_plan* plan, int isa, int threads, parallel_fn parallel, const int64_t* seed,
                      const int64_t* samples, int64_t batch, const smn_outputs* out) {
    const smn_kernels* kernels = kernels_of(isa);
    if (!kernels) return SMN_NO_SUCH_ISA;
    Color job = {{Color::some, kernels, kernels->color_bytes(plan), batch}, plan, (uint64_t)*seed, samples, *out};
    return run(job, threads, parallel);
}

SMN_API int smn_threshold(const smn_ranking* ranking, int isa, int threads, parallel_fn parallel,
                          const float* scores, int64_t batch, const smn_outputs* out) {
    const smn_kernels* kernels = kernels_of(isa);
    if (!kernels) return SMN_NO_SUCH_ISA;
    Threshold job = {{Threshold::some, kernels, kernels->threshold_bytes(ranking), batch}, ranking, scores, *out};
    return run(job, threads, parallel);
}

// rank: [batch][slots], or null where every slot has the entry of its own number.
SMN_API int smn_slot_threshold(const smn_slots* slots, int isa, int threads, parallel_fn parallel,
                               const int32_t* rank, const float* scores, int64_t batch, const smn_outputs* out) {
    const smn_kernels* kernels = kernels_of(isa);
    if (!kernels) return SMN_NO_SUCH_ISA;
    const smn_ranking ranking = {slots->slots, slots->tokens, 0, 0, 0};
    SlotThreshold job = {{SlotThreshold::some, kernels, kernels->threshold_bytes(&ranking), batch}, slots, rank, scores,
                         *out};
    return run(job, threads, parallel);
}

SMN_API int smn_gaussian_filter(const smn_gaussian* gaussian, int isa, int threads, parallel_fn parallel,
                                const float* volume, int64_t batch, float* out) {
    const smn_kernels* kernels = kernels_of(isa);
    if (!kernels) return SMN_NO_SUCH_ISA;
    Filter job = {{Filter::some, kernels, kernels->gaussian_bytes(gaussian), batch}, gaussian, volume, out};
    return run(job, threads, parallel);
}

SMN_API int smn_optim_blue_masks(const smn_optim_blue* plan, int isa, int threads, parallel_fn parallel,
                                 const int64_t* seed, const int64_t* samples, int64_t batch, const smn_outputs* out) {
    const smn_kernels* kernels = kernels_of(isa);
    if (!kernels) return SMN_NO_SUCH_ISA;
    OptimBlue job = {{OptimBlue::some, kernels, 0, batch}, plan, (uint64_t)*seed, samples, *out};
    job.bytes = job.label_bytes() + job.mask_bytes() + kernels->optim_blue_bytes(plan);
    return run(job, threads, parallel);
}

SMN_API int smn_strategy_mask(const smn_strategy* plan, int isa, int threads, parallel_fn parallel,
                              const int64_t* seed, const int64_t* samples, int64_t batch, const smn_outputs* out) {
    const smn_kernels* kernels = kernels_of(isa);
    if (!kernels) return SMN_NO_SUCH_ISA;
    Strategy job = {{Strategy::some, kernels, kernels->strategy_bytes(plan), batch}, plan, (uint64_t)*seed, samples,
                    *out};
    return run(job, threads, parallel);
}

SMN_API int smn_random_words(int isa, int threads, parallel_fn parallel, const int64_t* seed, const int64_t* samples,
                             int64_t batch, int purpose, int64_t count, int64_t* out) {
    const smn_kernels* kernels = kernels_of(isa);
    if (!kernels) return SMN_NO_SUCH_ISA;
    RandomWords job = {{RandomWords::some, kernels, 64, batch}, (uint64_t)*seed, samples, purpose, count, out};
    return run(job, threads, parallel);
}

SMN_API int smn_gather_patches(const smn_patches* patches, int isa, int threads, parallel_fn parallel, int64_t rows,
                               const float* scale, const float* shift, float* out) {
    const smn_kernels* kernels = kernels_of(isa);
    if (!kernels || !kernels->training) return SMN_NO_SUCH_ISA;
    Patches job = {{Patches::some, kernels, 64, rows}, patches, scale, shift, out};
    return run_rows(job, threads, parallel);
}

// sums: [rows] squared errors, or null for the gradient, scale * (prediction - target).
SMN_API int smn_patch_loss_rows(const smn_patch_loss* loss, int isa, int threads, parallel_fn parallel, int64_t rows,
                                double* sums, float scale, float* gradient) {
    const smn_kernels* kernels = kernels_of(isa);
    if (!kernels || !kernels->training) return SMN_NO_SUCH_ISA;
    PatchLoss job = {{PatchLoss::some, kernels, 0, rows}, loss, sums, scale, gradient};
    job.bytes = sizeof(float) * (size_t)job.width();
    return run_rows(job, threads, parallel);
}

SMN_API int smn_decoder_tokens(int isa, int threads, parallel_fn parallel, const float* visible,
                               const float* mask_token, const float* positions, const int64_t* ids_keep,
                               const int64_t* ids_mask, int64_t batch, int64_t kept, int64_t hidden, int64_t width,
                               int in_grid, float* out) {
    const smn_kernels* kernels = kernels_of(isa);
    if (!kernels || !kernels->training) return SMN_NO_SUCH_ISA;
    DecoderTokens job = {{DecoderTokens::some, kernels, 64, batch * (kept + hidden)}, visible, mask_token, positions,
                         ids_keep, ids_mask, kept, hidden, width, in_grid, out};
    return run_rows(job, threads, parallel);
}
