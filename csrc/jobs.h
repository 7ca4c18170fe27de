// SPDX-License-Identifier: Apache-2.0
// How api.cpp and api_training.cpp spread a batch over torch's own OpenMP workers: a second pool beside them would fight
// their spinning threads for the cores.
#pragma once
#include <stdlib.h>

#include "plan.h"

#if defined(__x86_64__)
#include <immintrin.h>
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

// What a batch's masks are of: listed sample indices, or, where there is no list, first, first + 1, ... as uint64.
struct Samples {
    const int64_t* list;
    uint64_t first;
    uint64_t operator[](int64_t i) const { return list ? (uint64_t)list[i] : first + (uint64_t)i; }
};

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

static inline int run(Job& job, int threads, parallel_fn parallel) {
    // A sample of a small grid takes microseconds: hand out several at once in a large batch, but
    // leave every thread sixteen turns, since samples with wide filters take longer.
    job.chunk = job.batch / (16 * (int64_t)(threads > 0 ? threads : 1));
    if (job.chunk < 1) job.chunk = 1;
    if (job.chunk > 8) job.chunk = 8;
    return launch(job, threads, parallel);
}

// Rows of the training ops: at least 64 at a time, so that the counter is not what threads wait for.
static inline int run_rows(Job& job, int threads, parallel_fn parallel) {
    job.chunk = 64;
    return launch(job, threads, parallel);
}

template <class T>
static T* row(T* base, int64_t index, int64_t width) { return base ? base + index * width : nullptr; }

static inline smn_outputs row_of(const smn_outputs& out, int64_t i, int64_t tokens, int64_t visible) {
    return {row(out.noise, i, tokens), row(out.mask, i, tokens), row(out.ids_keep, i, visible),
            row(out.ids_mask, i, tokens - visible), row(out.ids_restore, i, tokens)};
}
