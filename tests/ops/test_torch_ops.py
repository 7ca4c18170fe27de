# SPDX-License-Identifier: Apache-2.0
"""The ops as torch knows them: opcheck, torch.compile, torch.export, and what they refuse."""

import pytest
import torch

import smnoise
from smnoise import ops
from smnoise.spec import ColorSpec, OptimBlueSpec, StrategySpec

SPEC = ColorSpec("green", (2, 4, 4), 3).to_json()
POINTS = ColorSpec("green", (1, 1, 2), 1, sigma1=(0.4, 0.6), sigma2=(0.7, 0.9)).to_json()
SEED, SAMPLES = torch.tensor(5), torch.arange(3)
CLIPS = torch.arange(2 * 2 * 4 * 6 * 6, dtype=torch.uint8).reshape(2, 2, 4, 6, 6)
IDS = torch.tensor([[0, 5, 7], [1, 2, 6]])
OPS = {
    "add_bias": (torch.ones(3, 20), torch.arange(60.0).view(3, 20), 0.1),
    "color_mask": (SEED, SAMPLES, SPEC),
    "color_noise": (SEED, SAMPLES, SPEC),
    "decoder_tokens": (torch.ones(2, 3, 5), torch.ones(5), torch.ones(8, 5), IDS, 7 - IDS, False),
    "gather_patches": (CLIPS, IDS, [2, 3, 3], torch.ones(2), torch.zeros(2)),
    "gaussian_filter": (torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(1)), [0.3, 0.0, 0.5]),
    "noise_at": (SEED, SAMPLES, torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(2)), POINTS),
    "optim_blue": (SEED, SAMPLES, OptimBlueSpec((1, 4, 4), 3, steps=8).to_json()),
    "patch_loss": (torch.ones(2, 3, 36), CLIPS, IDS, [2, 3, 3], 1e-6, False, True),
    "ragged_threshold": (
        torch.randn(3, 20, generator=torch.Generator().manual_seed(0)),
        torch.tensor([20, 0, 7]),
        torch.tensor([4, 0, 7]),
        8,
        16,
    ),
    "random_words": (SEED, SAMPLES, 5, 7),
    "slot_threshold": (
        torch.randn(3, 20, generator=torch.Generator().manual_seed(0)),
        [5, 0, 1, 3],
        torch.ones(3, 4),
    ),
    "strategy_mask": (SEED, SAMPLES, StrategySpec("blocks", (2, 4, 4), 5).to_json()),
    "threshold": (torch.randn(3, 20, generator=torch.Generator().manual_seed(0)), 4, 2),
}


@pytest.mark.parametrize("name", OPS)
def test_opcheck(target, name):
    if name in ("decoder_tokens", "gather_patches", "patch_loss") and (
        target.isa == "block" or target.backend == "cuda"
    ):
        pytest.skip("GPUs have the Triton kernels")
    arguments = [a.to(target.device) if isinstance(a, torch.Tensor) else a for a in OPS[name]]
    torch.library.opcheck(
        getattr(torch.ops.smnoise, name).default, tuple(arguments), {"backend": target.backend}
    )


@pytest.mark.parametrize("name", OPS)
def test_every_op_is_in_the_status_table(name):
    from smnoise.cli.doctor import status

    assert set(status()["ops"]) == set(OPS)
    assert name in ops.__all__


SAMPLER = smnoise.Green3D((2, 4, 4), 0.75)


def test_a_compiled_step_makes_new_masks_each_time():
    torch._dynamo.reset()
    graphs_before = torch._dynamo.utils.counters["stats"]["unique_graphs"]

    @torch.compile(fullgraph=True)
    def step(seed, number):
        masks = SAMPLER(batch_size=4, step=number, seed=seed)
        return masks.mask.float().mean(), masks.ids_keep + 0, masks.bool_masked_pos()

    for seed in (0, 1):
        for number in range(3):
            want = SAMPLER(batch_size=4, step=number, seed=seed)
            share, keep, mask = step(torch.tensor(seed), torch.tensor(number))
            assert share.item() == 0.75
            assert torch.equal(keep, want.ids_keep)
            assert torch.equal(mask, want.mask)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs_before + 1


def test_export_with_a_dynamic_batch():
    class Module(torch.nn.Module):
        def forward(self, seed, samples):
            return SAMPLER(samples, seed=seed).ids_restore

    batch = torch.export.Dim("batch", min=2, max=1024)
    program = torch.export.export(Module(), (SEED, SAMPLES), dynamic_shapes=(None, {0: batch}))
    samples = torch.arange(100, 117)
    assert torch.equal(program.module()(SEED, samples), SAMPLER(samples, seed=SEED).ids_restore)


def test_fake_tensors_have_the_real_shapes():
    with torch._subclasses.FakeTensorMode() as mode:
        fake = ops.color_mask(mode.from_tensor(SEED), mode.from_tensor(SAMPLES), SPEC)
    real = ops.color_mask(SEED, SAMPLES, SPEC)
    assert [(f.shape, f.dtype) for f in fake] == [(r.shape, r.dtype) for r in real]


@pytest.mark.parametrize(
    ("seed", "samples", "spec", "error", "words"),
    [
        (SEED.int(), SAMPLES, SPEC, TypeError, "seed must be an int64"),
        (SEED, SAMPLES.float(), SPEC, TypeError, "samples must be an int64"),
        (SEED, SAMPLES[None], SPEC, ValueError, r"\[B\]"),
        (SAMPLES, SAMPLES, SPEC, ValueError, "one element"),
        (SEED, SAMPLES.to("meta"), SPEC, ValueError, "seed is on cpu but samples are on meta"),
        (SEED, SAMPLES, "{", ValueError, "JSON"),
        (SEED, SAMPLES, "[]", ValueError, "object"),
        (SEED, SAMPLES, '{"color": "green"}', ValueError, "lacks"),
        (SEED, SAMPLES, '{"colour": "green"}', ValueError, "colour"),
    ],
)
def test_rejects(seed, samples, spec, error, words):
    with pytest.raises(error, match=words):
        ops.color_mask(seed, samples, spec)
    with pytest.raises(error, match=words):
        ops.color_noise(seed, samples, spec)


def test_unknown_outputs_are_refused():
    with pytest.raises(ValueError, match="ids_kept"):
        ops.color_mask(SEED, SAMPLES, SPEC, outputs="mask,ids_kept")
