// SPDX-License-Identifier: Apache-2.0
// A block of threads, on a GPU or on the host. The algorithms in *_block.h are written as phases between
// barriers: nothing but uniform values lives in a variable from one phase to the next. So the host can run a
// block as a loop over its threads, and tests see the very code that the GPU runs.
#pragma once

#ifdef __CUDACC__
#define SMN_FN static __device__ __forceinline__
#define SMN_METHOD __device__ __forceinline__
#define SMN_UNROLL_DEVICE _Pragma("unroll")
#else
#define SMN_METHOD inline
#define SMN_UNROLL_DEVICE
#endif
#include "contract.h"
#include "plan.h"

enum { SMN_LANES_OF_WARP = 32, SMN_MAX_WARPS = 32, SMN_CANDIDATES = 32 };

// What collectives need of shared memory.
struct BlockScratch {
    int sums[2][SMN_MAX_WARPS];   // by turns, so that one barrier a sum is enough
    float floats[2][SMN_MAX_WARPS];
    int kept[SMN_MAX_WARPS], equal[SMN_MAX_WARPS];
    unsigned candidates[SMN_CANDIDATES];
    int found;
    unsigned cut_key;
    int cut_above;
};

enum { SMN_SCRATCH_BYTES = 1024 };
static_assert(sizeof(BlockScratch) <= SMN_SCRATCH_BYTES, "backends/layout.py counts on it");

struct Block {
    int threads;  // a multiple of 32
    BlockScratch* scratch;
    int turn;

    SMN_METHOD int warps() const { return threads / SMN_LANES_OF_WARP; }

#ifdef __CUDACC__
    // f(thread) on every thread, then a barrier.
    template <class F> SMN_METHOD void each(F f) {
        f((int)threadIdx.x);
        __syncthreads();
    }
    // f(warp) on every warp, all lanes together, then a barrier.
    template <class F> SMN_METHOD void each_warp(F f) {
        f((int)threadIdx.x / SMN_LANES_OF_WARP);
        __syncthreads();
    }
    // Within each_warp: bit l is f(l) of lane l.
    template <class F> SMN_METHOD unsigned ballot(F f) {
        return __ballot_sync(0xFFFFFFFFu, f((int)threadIdx.x % SMN_LANES_OF_WARP));
    }
    // Within each_warp: f(lane) on every lane.
    template <class F> SMN_METHOD void lanes(F f) { f((int)threadIdx.x % SMN_LANES_OF_WARP); }
    // The sum of f(thread) over the block, on every thread.
    template <class F> SMN_METHOD int sum(F f) {
        int* partial = scratch->sums[turn ^= 1];
        int value = __reduce_add_sync(0xFFFFFFFFu, f((int)threadIdx.x));
        if (threadIdx.x % SMN_LANES_OF_WARP == 0) partial[threadIdx.x / SMN_LANES_OF_WARP] = value;
        __syncthreads();
        int total = 0;
        for (int w = 0; w < warps(); ++w) total += partial[w];
        return total;
    }
    // The same for floats, in no promised order: for guesses only.
    template <class F> SMN_METHOD float roughly(F f) {
        float* partial = scratch->floats[turn ^= 1];
        float value = f((int)threadIdx.x);
        for (int lane = SMN_LANES_OF_WARP / 2; lane; lane /= 2) value += __shfl_xor_sync(0xFFFFFFFFu, value, lane);
        if (threadIdx.x % SMN_LANES_OF_WARP == 0) partial[threadIdx.x / SMN_LANES_OF_WARP] = value;
        __syncthreads();
        float total = 0;
        for (int w = 0; w < warps(); ++w) total += partial[w];
        return total;
    }
    SMN_METHOD static int take(int* counter) { return atomicAdd(counter, 1); }
    SMN_METHOD static int ones(unsigned bits) { return __popc(bits); }
    SMN_METHOD static unsigned bits_of(float value) { return __float_as_uint(value); }
    SMN_METHOD static float root(float value) { return __fsqrt_rn(value); }
#else
    template <class F> void each(F f) { for (int i = 0; i < threads; ++i) f(i); }
    template <class F> void each_warp(F f) { for (int w = 0; w < warps(); ++w) f(w); }
    template <class F> unsigned ballot(F f) {
        unsigned bits = 0;
        for (int lane = 0; lane < SMN_LANES_OF_WARP; ++lane) bits |= (f(lane) ? 1u : 0u) << lane;
        return bits;
    }
    template <class F> void lanes(F f) { for (int lane = 0; lane < SMN_LANES_OF_WARP; ++lane) f(lane); }
    template <class F> int sum(F f) {
        int total = 0;
        for (int i = 0; i < threads; ++i) total += f(i);
        return total;
    }
    template <class F> float roughly(F f) {
        float total = 0;
        for (int i = 0; i < threads; ++i) total += f(i);
        return total;
    }
    static int take(int* counter) { return (*counter)++; }
    static int ones(unsigned bits) { return __builtin_popcount(bits); }
    static unsigned bits_of(float value) {
        unsigned bits;
        __builtin_memcpy(&bits, &value, 4);
        return bits;
    }
    static float root(float value) { return __builtin_sqrtf(value); }
#endif

    // f(i) for i < n, spread over the threads, then a barrier.
    template <class F> SMN_METHOD void tasks(int n, F f) {
        const int step = threads;
        each([=](int thread) { for (int i = thread; i < n; i += step) f(i); });
    }
};
