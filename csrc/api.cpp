// SPDX-License-Identifier: Apache-2.0
// The C ABI that smnoise/backends/cpu.py calls.
#include <string.h>

#include "api.h"
#include "contract.h"
#include "jobs.h"
#include "optim_blue.h"
#include "ragged.h"

struct Color : Job {
    const smn_plan* plan;
    uint64_t seed;
    Samples samples;
    const int64_t *sigma_table, *origin;
    int32_t times;  // > 1: the grid is one frame, whose mask is that of so many; extension 6
    smn_outputs out;
    int64_t tokens() const { return (int64_t)plan->ranking.groups * plan->ranking.tokens; }
    int64_t visible() const { return (int64_t)plan->ranking.groups * plan->ranking.visible; }
    size_t mask_bytes() const { return times > 1 ? ((size_t)(tokens() * times) + 63) / 64 * 64 : 0; }
    static void some(const Job& base, int64_t from, int64_t to, void* scratch) {
        const Color& job = (const Color&)base;
        const int64_t all = job.tokens() * job.times;
        for (int64_t i = from; i < to; ++i) {
            const smn_outputs out = row_of(job.out, i, all, job.visible() * job.times);
            smn_plan moved;  // extension 13: the plan, at this sample's origin
            if (job.origin) {
                moved = *job.plan;
                for (int axis = 0; axis < 3; ++axis) moved.origin[axis] += smn_place(job.origin[3 * i + axis], axis);
            }
            const smn_plan* plan = job.origin ? &moved : job.plan;
            if (job.times == 1)
                job.kernels->color(plan, job.seed, job.samples[i], job.sigma_table, &out, scratch);
            else
                job.repeated(plan, i, out, out.mask ? out.mask : (uint8_t*)scratch, (char*)scratch + job.mask_bytes());
        }
    }
    void repeated(const smn_plan* at, int64_t i, const smn_outputs& out, uint8_t* mask, void* scratch) const {
        const smn_outputs of_frame = {nullptr, mask, nullptr, nullptr, nullptr};
        kernels->color(at, seed, samples[i], sigma_table, &of_frame, scratch);
        for (int t = 1; t < times; ++t) memcpy(mask + t * tokens(), mask, (size_t)tokens());
        if (out.ids_keep || out.ids_mask || out.ids_restore)
            kernels->mask_ids(mask, tokens() * times, visible() * times, &out);
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

struct AddBias : Job {
    const float *scores, *bias;
    float weight;
    int64_t tokens;
    float* out;
    static void some(const Job& base, int64_t from, int64_t to, void*) {
        const AddBias& job = (const AddBias&)base;
        const int64_t first = from * job.tokens;
        job.kernels->add_bias(job.scores + first, job.bias + first, job.weight, (to - from) * job.tokens,
                              job.out + first);
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

// Rows of several lengths, extension 14.
struct RaggedThreshold : Job {
    const smn_ragged* ragged;
    const int64_t *lengths, *visible;
    const float* scores;
    smn_outputs out;
    static void some(const Job& base, int64_t from, int64_t to, void* scratch) {
        const RaggedThreshold& job = (const RaggedThreshold&)base;
        const smn_ragged& r = *job.ragged;
        for (int64_t i = from; i < to; ++i) {
            const smn_slot slot = smn_ragged_slot(r, job.lengths[i], job.visible[i]);
            const int32_t length = smn_ragged_length(r, job.lengths[i]);
            const smn_slots one = {1, length, slot.visible, &slot};
            const smn_outputs out = {nullptr, row(job.out.mask, i, r.tokens), row(job.out.ids_keep, i, r.keep),
                                     row(job.out.ids_mask, i, r.hide), row(job.out.ids_restore, i, r.tokens)};
            job.kernels->slot_threshold(&one, nullptr, job.scores + i * r.tokens, &out, scratch);
            if (out.ids_restore)  // the hidden tokens stand behind the padded columns of ids_keep
                for (int32_t p = 0; p < length; ++p)
                    if (out.ids_restore[p] >= slot.visible) out.ids_restore[p] += r.keep - slot.visible;
        }
    }
};

// Noise at points, extension 15.
struct NoiseAt : Job {
    const smn_points* points;
    uint64_t seed;
    const int64_t* samples;
    const int32_t* places;  // [B, N, 3] sixteenths
    int64_t number;         // N
    const int64_t* sigma_table;
    float* out;
    static void some(const Job& base, int64_t from, int64_t to, void* scratch) {
        const NoiseAt& job = (const NoiseAt&)base;
        for (int64_t i = from; i < to; ++i)
            job.kernels->noise_at(job.points, job.seed, (uint64_t)job.samples[i], job.sigma_table,
                                  job.places + 3 * job.number * i, job.number, job.out + job.number * i, scratch);
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
    Samples samples;
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
        auto partition = [&](int64_t i) { return smn_partition_of(&p, job.samples[i]); };
        for (int64_t i = from; i < to; ++i) {
            const uint64_t number = partition(i);
            if (i > 0 && partition(i - 1) == number) continue;
            job.kernels->optim_blue(&p, job.seed, number, label, rest);
            for (int64_t j = i; j < job.batch && partition(j) == number; ++j)
                if (p.rows == SMN_VIEWS)
                    for (int32_t k = 0; k < p.masks; ++k) write(j * p.masks + k, k);
                else
                    write(j, smn_mask_of(&p, job.samples[j]));
        }
    }
};

struct Strategy : Job {
    const smn_strategy* plan;
    uint64_t seed;
    Samples samples;
    smn_outputs out;
    static void some(const Job& base, int64_t from, int64_t to, void* scratch) {
        const Strategy& job = (const Strategy&)base;
        const smn_ranking& r = job.plan->ranking;
        for (int64_t i = from; i < to; ++i) {
            smn_outputs out = row_of(job.out, i, r.tokens, r.visible);
            job.kernels->strategy(job.plan, job.seed, job.samples[i], &out, scratch);
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

static uint64_t seed_of(const smn_masks_call& call) { return call.seed_at ? (uint64_t)*call.seed_at : call.seed; }

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

SMN_API void smn_sigma_draws(const int32_t* first, const int64_t* table, uint64_t seed, const int64_t* samples,
                             int64_t n, int32_t* index) {
    for (int64_t i = 0; i < n; ++i)
        smn_sigma_draw(seed, (uint64_t)samples[i], first, (const smn_i64*)table, index + 2 * i);
}

// Masks of samples[0 .. batch - 1], or, where that is null, of first .. first + batch - 1; outputs that are null are not
// written. One pointer, since each argument of a foreign function costs Python what a mask of a small grid does.
SMN_API int smn_color(const smn_masks_call* call) {
    const smn_kernels* kernels = kernels_of(call->isa);
    if (!kernels) return SMN_NO_SUCH_ISA;
    const smn_plan* plan = (const smn_plan*)call->plan;
    Color job = {{Color::some, kernels, 0, call->batch}, plan, seed_of(*call), {call->samples, call->first},
                 call->sigma_table, call->origin, call->times, call->out};
    job.bytes = job.mask_bytes() + kernels->color_bytes(plan);
    return run(job, call->threads, (parallel_fn)call->parallel);
}

SMN_API int smn_threshold(const smn_ranking* ranking, int isa, int threads, parallel_fn parallel,
                          const float* scores, int64_t batch, const smn_outputs* out) {
    const smn_kernels* kernels = kernels_of(isa);
    if (!kernels) return SMN_NO_SUCH_ISA;
    Threshold job = {{Threshold::some, kernels, kernels->threshold_bytes(ranking), batch}, ranking, scores, *out};
    return run(job, threads, parallel);
}

SMN_API int smn_add_bias(int isa, int threads, parallel_fn parallel, const float* scores, const float* bias,
                         float weight, int64_t batch, int64_t tokens, float* out) {
    const smn_kernels* kernels = kernels_of(isa);
    if (!kernels) return SMN_NO_SUCH_ISA;
    AddBias job = {{AddBias::some, kernels, 64, batch}, scores, bias, weight, tokens, out};
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

SMN_API int smn_ragged_threshold(const smn_ragged* ragged, int isa, int threads, parallel_fn parallel,
                                 const int64_t* lengths, const int64_t* visible, const float* scores, int64_t batch,
                                 const smn_outputs* out) {
    const smn_kernels* kernels = kernels_of(isa);
    if (!kernels) return SMN_NO_SUCH_ISA;
    const smn_ranking ranking = {1, ragged->tokens, 0, 0, 0};
    RaggedThreshold job = {{RaggedThreshold::some, kernels, kernels->threshold_bytes(&ranking), batch}, ragged, lengths,
                           visible, scores, *out};
    return run(job, threads, parallel);
}

SMN_API int smn_noise_at(const smn_points* points, int isa, int threads, parallel_fn parallel, const int64_t* seed,
                         const int64_t* samples, const int32_t* places, int64_t batch, int64_t number,
                         const int64_t* sigma_table, float* out) {
    const smn_kernels* kernels = kernels_of(isa);
    if (!kernels) return SMN_NO_SUCH_ISA;
    NoiseAt job = {{NoiseAt::some, kernels, kernels->noise_at_bytes(points), batch}, points, (uint64_t)*seed, samples,
                   places, number, sigma_table, out};
    return run(job, threads, parallel);
}

SMN_API int smn_gaussian_filter(const smn_gaussian* gaussian, int isa, int threads, parallel_fn parallel,
                                const float* volume, int64_t batch, float* out) {
    const smn_kernels* kernels = kernels_of(isa);
    if (!kernels) return SMN_NO_SUCH_ISA;
    Filter job = {{Filter::some, kernels, kernels->gaussian_bytes(gaussian), batch}, gaussian, volume, out};
    return run(job, threads, parallel);
}

SMN_API int smn_optim_blue_masks(const smn_masks_call* call) {
    const smn_kernels* kernels = kernels_of(call->isa);
    if (!kernels) return SMN_NO_SUCH_ISA;
    const smn_optim_blue* plan = (const smn_optim_blue*)call->plan;
    OptimBlue job = {{OptimBlue::some, kernels, 0, call->batch}, plan, seed_of(*call), {call->samples, call->first},
                     call->out};
    job.bytes = job.label_bytes() + job.mask_bytes() + kernels->optim_blue_bytes(plan);
    return run(job, call->threads, (parallel_fn)call->parallel);
}

SMN_API int smn_strategy_mask(const smn_masks_call* call) {
    const smn_kernels* kernels = kernels_of(call->isa);
    if (!kernels) return SMN_NO_SUCH_ISA;
    const smn_strategy* plan = (const smn_strategy*)call->plan;
    Strategy job = {{Strategy::some, kernels, kernels->strategy_bytes(plan), call->batch}, plan, seed_of(*call),
                    {call->samples, call->first}, call->out};
    return run(job, call->threads, (parallel_fn)call->parallel);
}

SMN_API int smn_random_words(int isa, int threads, parallel_fn parallel, const int64_t* seed, const int64_t* samples,
                             int64_t batch, int purpose, int64_t count, int64_t* out) {
    const smn_kernels* kernels = kernels_of(isa);
    if (!kernels) return SMN_NO_SUCH_ISA;
    RandomWords job = {{RandomWords::some, kernels, 64, batch}, (uint64_t)*seed, samples, purpose, count, out};
    return run(job, threads, parallel);
}
