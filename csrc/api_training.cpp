// SPDX-License-Identifier: Apache-2.0
// The C ABI of the training ops; that of masks is api.cpp.
#include "api.h"
#include "jobs.h"
#include "patches.h"

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
