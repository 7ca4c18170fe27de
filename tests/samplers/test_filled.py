# SPDX-License-Identifier: Apache-2.0
"""Sampler calls that write into given tensors (out), and ids of 32 bits (ids_dtype): the same masks."""

import pytest
import torch

import smnoise
from smnoise import MaskBatch, ops
from smnoise.dual import dual
from smnoise.models.audiomae import AudioMAE
from smnoise.models.videomae import VideoMAE

GRID = (2, 4, 4)
SAMPLERS = {
    "green": smnoise.Green3D(GRID, 0.75),
    "random": smnoise.Random(GRID, 0.75, per="frame"),
    "tube": smnoise.Tube(GRID, 0.75),
    "flat tube": smnoise.Green2D(GRID, 0.75, tube=True),
    "optim blue": smnoise.OptimBlue((6, 6), 0.75),
    "grid": smnoise.Grid(GRID, 0.75, cell=(1, 2, 2)),
    "counts": smnoise.FrameCounts(GRID, (3, 5), drawn=True),
    "context": smnoise.ContextTargets(GRID, num_context=8, num_target=8),
}
GREEN = SAMPLERS["green"]
SHARED = torch.zeros(64, dtype=torch.int64)


def equal(got: MaskBatch, want: MaskBatch) -> bool:
    pairs = zip(got[:4], want[:4], strict=True)
    return got[4:] == want[4:] and all(a is b is None or torch.equal(a.long(), b.long()) for a, b in pairs)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_masks_are_written_into_given_tensors(name, backend):
    sampler = SAMPLERS[name]
    for ids_dtype in (torch.int64, torch.int32):
        out = sampler(batch_size=3, step=0, ids_dtype=ids_dtype)
        places = [t.data_ptr() for t in out.tensors]
        for step in (4, 5):
            assert sampler(batch_size=3, step=step, out=out, backend=backend) is out
            assert equal(out, sampler(batch_size=3, step=step))
        assert places == [t.data_ptr() for t in out.tensors]
        assert {t.dtype for t in out[1:4]} == {ids_dtype}


@pytest.mark.parametrize("name", SAMPLERS)
def test_ids_of_32_bits_are_the_same(name):
    sampler = SAMPLERS[name]
    got, want = sampler([7, 2], ids_dtype=torch.int32), sampler([7, 2])
    assert [t.dtype for t in got[1:4]] == 3 * [torch.int32]
    assert equal(got, want)
    assert sampler([7, 2], outputs="ids_mask", ids_dtype=torch.int32).ids_mask.dtype == torch.int32
    assert sampler([7, 2], ids_dtype=torch.int64).ids_keep.dtype == torch.int64


def test_a_part_of_the_outputs_with_a_bias_and_a_table():
    out = GREEN([1, 2], outputs="mask,ids_keep")
    bias, table = (
        torch.rand(2, 32, generator=torch.Generator().manual_seed(0)),
        smnoise.sigma_table(32 * [1.0]),
    )
    for given in ({"bias": bias}, {"sigma_table": table}, {}):
        GREEN([8, 9], out=out, outputs="ids_keep,mask", **given)
        assert equal(out, GREEN([8, 9], outputs="mask,ids_keep", **given))


def test_in_compiled_code():
    torch._dynamo.reset()
    out = GREEN(batch_size=2, step=0, ids_dtype=torch.int32)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def step(number):
        masks = GREEN(batch_size=2, step=number, ids_dtype=torch.int32)
        GREEN(batch_size=2, step=number, out=out)
        return masks.ids_keep

    for number in (3, 4):
        want = GREEN(batch_size=2, step=number)
        assert torch.equal(step(torch.tensor(number)), want.ids_keep.int())
        assert equal(out, want)


def parts(**other) -> MaskBatch:
    made = GREEN([0, 1])
    fields = {n: getattr(made, n) for n in MaskBatch._fields} | other
    return MaskBatch(**fields)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"out": torch.zeros(2, 32)}, TypeError, "out must be a MaskBatch"),
        ({"out": SAMPLERS["optim blue"]([0, 1])}, ValueError, r"out is for grid \(1, 6, 6\)"),
        ({"out": GREEN([0])}, ValueError, r"out.mask must have shape \(2, 32\), got \(1, 32\)"),
        (
            {"out": parts(ids_keep=torch.zeros(2, 8))},
            TypeError,
            "out.ids_keep must be torch.int64 or torch.int32",
        ),
        (
            {"out": parts(mask=torch.zeros(2, 32, dtype=torch.uint8))},
            TypeError,
            "out.mask must be torch.bool",
        ),
        (
            {"out": parts(mask=torch.zeros(32, 2, dtype=torch.bool).t())},
            ValueError,
            "out.mask must be contiguous",
        ),
        ({"out": parts(mask=torch.zeros(2, 32, dtype=torch.bool, device="meta"))}, ValueError, "is on meta"),
        ({"out": parts(ids_mask=parts().ids_restore[:, :24])}, ValueError, "contiguous"),
        (
            {"out": parts(ids_restore=SHARED[:64].view(2, 32), ids_mask=SHARED[:48].view(2, 24))},
            ValueError,
            "share",
        ),
        ({"out": parts(), "outputs": "mask"}, ValueError, "leave outputs out"),
        ({"out": parts(), "ids_dtype": torch.int32}, ValueError, "leave ids_dtype out"),
        ({"ids_dtype": torch.float32}, ValueError, "ids_dtype must be torch.int64 or torch.int32"),
        ({"ids_dtype": "int32"}, ValueError, "ids_dtype must be"),
    ],
)
def test_what_cannot_take_masks_is_refused(given, error, words):
    before = parts()
    with pytest.raises(error, match=words):
        GREEN([4, 5], **given)
    assert equal(before, GREEN([0, 1]))


def test_the_training_ops_take_ids_of_32_bits():
    clips = torch.randint(
        0, 256, (2, 3, 4, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(2)
    )
    wide, narrow = (GREEN([3, 4], ids_dtype=t) for t in (torch.int64, torch.int32))
    pixels = clips.float().requires_grad_()
    one, patch = torch.ones(3), (2, 2, 2)
    got, want = ([], [])
    for masks, found in ((wide, want), (narrow, got)):
        picked = ops.gather_patches(pixels, masks.ids_keep, patch, one, one)
        found += [picked, *torch.autograd.grad(picked.sum(), pixels)]
        prediction = torch.ones(2, 24, 24, requires_grad=True)
        loss = ops.patch_loss(prediction, clips, masks.ids_mask, patch)
        found += [loss, *torch.autograd.grad(loss, prediction)]
        for in_grid in (False, True):
            visible = torch.arange(2 * 8 * 5.0).view(2, 8, 5).requires_grad_()
            token = torch.ones(5, requires_grad=True)
            ids = masks.ids_keep, masks.ids_mask
            x = ops.decoder_tokens(visible, token, torch.ones(32, 5), *ids, in_grid=in_grid)
            found += [x, *torch.autograd.grad((x * x).sum(), (visible, token))]
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_the_models_take_ids_of_32_bits():
    torch.manual_seed(0)
    video, audio = VideoMAE("nano", GRID, patch=8), AudioMAE("tiny", (8, 4), patch=8)
    clips = torch.randint(0, 256, (2, 3, 4, 32, 32), dtype=torch.uint8)
    sounds, blue = torch.randn(2, 64, 32), smnoise.OptimBlue((8, 4), 0.75)
    for model, inputs, sampler in ((video, clips, GREEN), (audio, sounds, blue)):
        model.eval()  # the decoder of sounds drops paths at random in training
        wide, narrow = (model(inputs, sampler([3, 4], ids_dtype=t)) for t in (torch.int64, torch.int32))
        assert torch.equal(wide[0], narrow[0])
        assert torch.equal(wide[1], narrow[1])
    decode = smnoise.RunningCell(GRID, 0.5, seed=1)
    both = [dual(GREEN([3], ids_dtype=t), decode([3], ids_dtype=t), 9) for t in (torch.int64, torch.int32)]
    assert torch.equal(both[0].ids_decode, both[1].ids_decode)
