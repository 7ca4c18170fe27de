// SPDX-License-Identifier: Apache-2.0
// A block of threads, on a GPU or on the host. The algorithms in *_block.h are written as phases between
// barriers: nothing but uniform values, and PerThread's, lives from one phase to the next. So the host can run a
// block as a loop over its threads, and tests see the very code that the GPU runs.
#pragma once

#ifdef __CUDACC__
#define SMN_FN static __device__ __forceinline__
#define SMN_METHOD __device__ __forceinline__
#define SMN_UNROLL_DEVICE _Pragma("unroll")
#define SMN_ONCE_DEVICE _Pragma("unroll 1")
#define SMN_TWICE_DEVICE _Pragma("unroll 2")
#else
#define SMN_METHOD inline
#define SMN_UNROLL_DEVICE
#define SMN_ONCE_DEVICE
#define SMN_TWICE_DEVICE
#endif
#include "contract.h"
#include "plan.h"

enum { SMN_LANES_OF_WARP = 32, SMN_MAX_WARPS = 32, SMN_CANDIDATES = 32 };

// Two sums at once.
struct BlockSums {
    float first, second;
};

// A warp's part of a result.
union BlockPart {
    int sum;
    BlockSums roughly;
    smn_u64 wide;
    SMN_METHOD void put(smn_u64 key) { wide = key; }
    SMN_METHOD void put(smn_u32 key) { wide = key; }  // all of it: loads may be of several parts at once
    SMN_METHOD smn_u64 get(smn_u64) const { return wide; }
    SMN_METHOD smn_u32 get(smn_u32) const { return (smn_u32)wide; }
};

// What collectives need of shared memory.
struct BlockScratch {
    BlockPart partial[2][SMN_MAX_WARPS];  // by turns: one barrier each is enough
    int kept[2 * SMN_MAX_WARPS];  // visible tokens of each warp; or boxes of strategy_block.h
    unsigned candidates[SMN_CANDIDATES];
    int found;
    unsigned cut_key;
    int cut_above, cut_whole;
};

enum { SMN_SCRATCH_BYTES = 1024 };
static_assert(sizeof(BlockScratch) <= SMN_SCRATCH_BYTES, "backends/layout.py counts on it");

#ifdef __CUDACC__
// Over the lanes of a warp, on every lane.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
SMN_FN int warp_sum(int value) { return __reduce_add_sync(0xFFFFFFFFu, value); }
SMN_FN unsigned warp_least(unsigned value) { return __reduce_min_sync(0xFFFFFFFFu, value); }
#else  // before sm_80 without an instruction of their own
SMN_FN int warp_sum(int value) {
    for (int lane = SMN_LANES_OF_WARP / 2; lane; lane /= 2) value += __shfl_xor_sync(0xFFFFFFFFu, value, lane);
    return value;
}
SMN_FN unsigned warp_least(unsigned value) {
    for (int lane = SMN_LANES_OF_WARP / 2; lane; lane /= 2) {
        const unsigned other = __shfl_xor_sync(0xFFFFFFFFu, value, lane);
        value = other < value ? other : value;
    }
    return value;
}
#endif
SMN_FN smn_u64 warp_least(smn_u64 value) {
    // The upper halves first: of those that tie there, the lower halves.
    const unsigned high = (unsigned)(value >> 32), low = (unsigned)value;
    const unsigned least_high = warp_least(high);
    return (smn_u64)least_high << 32 | warp_least(high == least_high ? low : 0xFFFFFFFFu);
}
#endif

// N values of each thread, which outlive a phase: in registers, or on the host in an array for all threads.
template <class T, int N> struct PerThread {
#ifdef __CUDACC__
    T values[N];
    SMN_METHOD T* of(int) { return values; }
    SMN_METHOD const T* of(int) const { return values; }
#else
    T values[SMN_LANES_OF_WARP * SMN_MAX_WARPS][N];
    T* of(int thread) { return values[thread]; }
    const T* of(int thread) const { return values[thread]; }
#endif
};

// i / by for i below n: a product where that is exact, since a GPU has no division.
struct Divider {
    int by;
    unsigned reciprocal;
    SMN_METHOD static Divider of(int by, int n) {
        return {by, by > 1 && by <= 65536 && n <= 65536 ? 0xFFFFFFFFu / (unsigned)by + 1u : 0u};
    }
    SMN_METHOD int quotient(int i) const {
        return reciprocal ? (int)(smn_product((unsigned)i, reciprocal) >> 32) : i / by;
    }
};

struct Block {
    int threads;  // a multiple of 32
    BlockScratch* scratch;
    int turn;

    SMN_METHOD int warps() const { return threads / SMN_LANES_OF_WARP; }

#ifdef __CUDACC__
    SMN_METHOD void barrier() { __syncthreads(); }
    // f(thread) on every thread. Without a barrier, for what nobody touches before the next one.
    template <class F> SMN_METHOD void each_freely(F f) { f((int)threadIdx.x); }
    // f(warp) on every warp, all lanes together. Without a barrier.
    template <class F> SMN_METHOD void each_warp_freely(F f) { f((int)threadIdx.x / SMN_LANES_OF_WARP); }
    // Within each_warp: bit l is f(l) of lane l.
    template <class F> SMN_METHOD unsigned ballot(F f) {
        return __ballot_sync(0xFFFFFFFFu, f((int)threadIdx.x % SMN_LANES_OF_WARP));
    }
    // Within each_warp: f(lane) on every lane.
    template <class F> SMN_METHOD void lanes(F f) { f((int)threadIdx.x % SMN_LANES_OF_WARP); }
    // The sum of f(thread) over the block, on every thread.
    template <class F> SMN_METHOD int sum(F f) {
        auto* partial = scratch->partial[turn ^= 1];
        const int value = warp_sum(f((int)threadIdx.x));
        if (threadIdx.x % SMN_LANES_OF_WARP == 0) partial[threadIdx.x / SMN_LANES_OF_WARP].sum = value;
        __syncthreads();
        return sum_of_warp([=](int lane) { return lane < warps() ? partial[lane].sum : 0; });
    }
    // The same for two floats, in no promised order: for guesses only.
    template <class F> SMN_METHOD BlockSums roughly(F f) {
        auto* partial = scratch->partial[turn ^= 1];
        BlockSums value = f((int)threadIdx.x);
        for (int lane = SMN_LANES_OF_WARP / 2; lane; lane /= 2) value = added_across(value, lane);
        if (threadIdx.x % SMN_LANES_OF_WARP == 0) partial[threadIdx.x / SMN_LANES_OF_WARP].roughly = value;
        __syncthreads();
        BlockSums total = {0, 0};
        const int lane = (int)threadIdx.x % SMN_LANES_OF_WARP;
        if (lane < warps()) total = partial[lane].roughly;
        for (int across = 1; across < warps(); across *= 2) total = added_across(total, across);
        return {__shfl_sync(0xFFFFFFFFu, total.first, 0), __shfl_sync(0xFFFFFFFFu, total.second, 0)};
    }
    SMN_METHOD static BlockSums added_across(BlockSums a, int lane) {
        return {a.first + __shfl_xor_sync(0xFFFFFFFFu, a.first, lane),
                a.second + __shfl_xor_sync(0xFFFFFFFFu, a.second, lane)};
    }
    // Within each_warp: the sum of f(lane), on every lane.
    template <class F> SMN_METHOD int sum_of_warp(F f) {
        return warp_sum(f((int)threadIdx.x % SMN_LANES_OF_WARP));
    }
    // The least f(thread) of the block, on every thread; of 32 or 64 bits.
    template <class F> SMN_METHOD auto least(F f) {
        auto* partial = scratch->partial[turn ^= 1];
        const auto value = warp_least(f((int)threadIdx.x));
        if (threadIdx.x % SMN_LANES_OF_WARP == 0) partial[threadIdx.x / SMN_LANES_OF_WARP].put(value);
        __syncthreads();
        auto best = partial[0].get(value);
        for (int w = 1; w < warps(); ++w) {
            const auto other = partial[w].get(value);
            best = other < best ? other : best;
        }
        return best;
    }
    // Within each_warp: the least f(lane), on every lane.
    template <class F> SMN_METHOD auto least_of_warp(F f) {
        return warp_least(f((int)threadIdx.x % SMN_LANES_OF_WARP));
    }
    // Within each_warp: what lanes wrote before is there for the others.
    SMN_METHOD void barrier_of_warp() { __syncwarp(); }
    SMN_METHOD static int take(int* counter) { return atomicAdd(counter, 1); }
    SMN_METHOD static int ones(unsigned bits) { return __popc(bits); }
    SMN_METHOD static unsigned bits_of(float value) { return __float_as_uint(value); }
    SMN_METHOD static float float_of(unsigned bits) { return __uint_as_float(bits); }
    SMN_METHOD static float root(float value) { return __fsqrt_rn(value); }
    // The lower or the upper half of a word below the upper half of another.
    SMN_METHOD static unsigned low_below(unsigned word, unsigned upper) { return __byte_perm(word, upper, 0x7610); }
    SMN_METHOD static unsigned high_below(unsigned word, unsigned upper) { return __byte_perm(word, upper, 0x7632); }
    // Two floats side by side, aligned to 8 bytes.
    SMN_METHOD static void put_pair(float* to, float even, float odd) { *(float2*)to = make_float2(even, odd); }
#else
    void barrier() {}
    template <class F> void each_freely(F f) { for (int i = 0; i < threads; ++i) f(i); }
    template <class F> void each_warp_freely(F f) { for (int w = 0; w < warps(); ++w) f(w); }
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
    template <class F> BlockSums roughly(F f) {
        BlockSums total = {0, 0};
        for (int i = 0; i < threads; ++i) {
            const BlockSums value = f(i);
            total.first += value.first;
            total.second += value.second;
        }
        return total;
    }
    template <class F> int sum_of_warp(F f) {
        int total = 0;
        for (int lane = 0; lane < SMN_LANES_OF_WARP; ++lane) total += f(lane);
        return total;
    }
    template <class F> static auto least_of(int n, F f) {
        auto least = f(0);
        for (int i = 1; i < n; ++i) {
            const auto value = f(i);
            if (value < least) least = value;
        }
        return least;
    }
    template <class F> auto least(F f) { return least_of(threads, f); }
    template <class F> auto least_of_warp(F f) { return least_of(SMN_LANES_OF_WARP, f); }
    void barrier_of_warp() {}
    static int take(int* counter) { return (*counter)++; }
    static int ones(unsigned bits) { return __builtin_popcount(bits); }
    static unsigned bits_of(float value) {
        unsigned bits;
        __builtin_memcpy(&bits, &value, 4);
        return bits;
    }
    static float float_of(unsigned bits) {
        float value;
        __builtin_memcpy(&value, &bits, 4);
        return value;
    }
    static float root(float value) { return __builtin_sqrtf(value); }
    static unsigned low_below(unsigned word, unsigned upper) { return (word & 0xFFFFu) | (upper & 0xFFFF0000u); }
    static unsigned high_below(unsigned word, unsigned upper) { return word >> 16 | (upper & 0xFFFF0000u); }
    static void put_pair(float* to, float even, float odd) { to[0] = even; to[1] = odd; }
#endif

    // The same, then a barrier.
    template <class F> SMN_METHOD void each(F f) {
        each_freely(f);
        barrier();
    }
    template <class F> SMN_METHOD void each_warp(F f) {
        each_warp_freely(f);
        barrier();
    }
    // f(i) for i < n, spread over the threads. Without a barrier, or then one.
    template <class F> SMN_METHOD void tasks_freely(int n, F f) {
        const int step = threads;
        each_freely([=](int thread) { for (int i = thread; i < n; i += step) f(i); });
    }
    template <class F> SMN_METHOD void tasks(int n, F f) {
        tasks_freely(n, f);
        barrier();
    }
};
