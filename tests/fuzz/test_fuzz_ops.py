# SPDX-License-Identifier: Apache-2.0
"""Ops with any arguments: the answer is right, or the documented error says what was expected."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import cut_out
from hypothesis import given
from hypothesis import strategies as st

import smnoise
from smnoise import ops

from .examples import CALL, attempt, fuzz, junk, mostly, tensors

OTHERS = (torch.float64, torch.bfloat16, torch.int64, torch.bool)


@fuzz
@given(
    mostly(tensors(torch.float32, rank=2, largest=40), tensors(*OTHERS, rank=2), junk),
    mostly(st.lists(st.integers(0, 9), min_size=1, max_size=4)), st.booleans(), junk, st.integers(0, 9),
    mostly(st.sampled_from(["auto", "cpu", "reference"])),
)  # fmt: skip
def test_slot_threshold(scores, counts, with_line, other, seed, backend):
    line = None
    if with_line and isinstance(scores, torch.Tensor) and scores.dim() == 2 and type(counts) is list:
        line = torch.randn(len(scores), len(counts), generator=torch.Generator().manual_seed(seed))
    elif with_line:
        line = other
    got = attempt("slot_threshold", ops.slot_threshold, scores, counts, line, backend)
    if got is None:
        return
    want = ops.slot_threshold(scores, counts, line, "reference")
    assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))
    shown = (~got[0]).view(len(scores), len(counts), -1).sum(2)
    for row in shown.tolist():
        assert row == list(counts) if line is None else sorted(row) == sorted(counts)


@fuzz
@given(
    mostly(tensors(torch.float32, rank=2, largest=40), tensors(*OTHERS, rank=2), junk),
    mostly(st.integers(1, 9)), mostly(st.integers(1, 3)), mostly(st.sampled_from(["auto", "cpu", "reference"])),
    mostly(CALL["outputs"]),
)  # fmt: skip
def test_threshold(scores, visible, groups, backend, outputs):
    got = attempt("threshold", ops.threshold, scores, visible, groups, backend, outputs)
    if got is None:
        return
    visible, groups = int(visible), int(groups)
    batch, tokens = scores.shape
    wanted = {n.strip() for n in outputs.split(",")}
    whole = ops.threshold(scores, visible, groups, "reference")
    masks = smnoise.MaskBatch(*whole, (groups, 1, tokens // groups), groups * visible)
    assert (masks.volume().flatten(2).sum(2) == tokens // groups - visible).all()
    assert masks.batch_size == batch
    for name, found, want in zip(masks._fields, got, whole, strict=False):
        assert torch.equal(found, want) if name in wanted else found.shape == (0,)


@fuzz
@given(
    mostly(tensors(torch.float32, rank=4), tensors(*OTHERS, rank=4), junk),
    mostly(st.lists(st.floats(0, 2), min_size=3, max_size=3)), mostly(st.floats(0.1, 5)),
    mostly(st.sampled_from(["wrap", "valid"])),
)  # fmt: skip
def test_gaussian_filter(volume, sigma, truncate, boundary):
    arguments = (volume, sigma, truncate, boundary)
    got = attempt("gaussian_filter", ops.gaussian_filter, *arguments, "cpu")
    if got is None:
        return
    want = ops.gaussian_filter(*arguments, "reference")
    assert got.shape == want.shape
    assert boundary == "valid" or got.shape == volume.shape
    assert torch.equal(got.nan_to_num(1.5), want.nan_to_num(1.5))


@st.composite
def clips(draw):
    """pixels, ids and patch that mostly fit."""
    patch = [draw(st.integers(1, 3)) for _ in range(3)]
    grid = [draw(st.integers(1, 3)) for _ in range(3)]
    batch, channels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    size = (batch, channels, *(p * g for p, g in zip(patch, grid, strict=True)))
    pixels = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    if draw(st.booleans()):
        pixels = pixels.float() / 7
    ids = torch.randint(0, math.prod(grid), (batch, draw(st.integers(1, 4))), generator=generator)
    if draw(st.integers(0, 7)) == 0:
        ids.view(-1)[0] = draw(st.sampled_from([-1, math.prod(grid), 2**62, -(2**63)]))
    return {"pixels": pixels, "ids": ids, "patch": tuple(patch)}


@st.composite
def changed(draw, case, strategies):
    """A case with some of its entries replaced."""
    values = draw(case)
    if not draw(st.integers(0, 2)):
        name = draw(st.sampled_from(sorted(strategies)))
        values[name] = draw(strategies[name])
    return values


CLIP_CHANGES = {
    "pixels": tensors(torch.uint8, torch.float32, torch.float64, torch.int64, rank=5, largest=4) | st.none(),
    "ids": tensors(torch.int64, torch.int32, torch.float32, rank=2) | st.none(),
    "patch": junk | st.lists(st.integers(-1, 3), max_size=4),
}


@fuzz
@given(changed(clips(), CLIP_CHANGES), tensors(torch.float32, rank=1, largest=3), st.data())
def test_gather_patches(clip, scale, data):
    channels = clip["pixels"].shape[1] if clip["pixels"] is not None and clip["pixels"].dim() > 1 else 1
    if data.draw(st.integers(0, 5)):
        scale = torch.linspace(0.5, 2, channels)
    shift = torch.linspace(-1, 1, channels)
    got = attempt("gather_patches", ops.gather_patches, scale=scale, shift=shift, **clip)
    if got is not None:
        want = (cut_out(**clip) * scale.double()[:, None] + shift.double()[:, None]).float().double()
        torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=1e-4, equal_nan=True)


@fuzz
@given(changed(clips(), CLIP_CHANGES), st.booleans(), st.booleans(), mostly(st.floats(0, 1)), st.data())
def test_patch_loss(clip, eps_inside, normalise, eps, data):
    prediction = torch.randn(2, 2, 8, generator=torch.Generator().manual_seed(0))
    whole = clip["pixels"] is not None and clip["pixels"].dim() == 5 and clip["ids"] is not None
    if data.draw(st.integers(0, 5)) and isinstance(clip["patch"], tuple) and whole:
        values = math.prod(clip["patch"]) if all(isinstance(p, int) for p in clip["patch"]) else 3
        if 0 < values < 100:
            prediction = torch.randn(
                *clip["ids"].shape,
                values * clip["pixels"].shape[1],
                generator=torch.Generator().manual_seed(1),
            )
    prediction = prediction.to(data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float64])))
    prediction.requires_grad_()
    loss = attempt(
        "patch_loss", ops.patch_loss, prediction, eps_inside=eps_inside, normalise=normalise, eps=eps, **clip
    )
    if loss is None:
        return
    loss.backward()
    unit = 255 if clip["pixels"].dtype == torch.uint8 else 1
    target = cut_out(**clip) / unit
    if normalise:
        variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
        eps = float(np.float32(float(eps)))  # which may be a tensor of one element
        target = (target - mean) / ((variance + eps).sqrt() if eps_inside else variance.sqrt() + eps)
    apart = prediction.detach().double() - target.transpose(2, 3).flatten(2)
    if not apart.isfinite().all() or target.abs().max() > 1e3:
        return  # next to flat patches divided by nothing, which rounding decides
    assert loss.item() == pytest.approx(apart.square().mean().item(), rel=2e-4, abs=1e-6)
    want = (2 * apart / apart.numel()).to(prediction.dtype).double()
    tolerance = 2e-2 if prediction.dtype == torch.bfloat16 else 1e-3
    torch.testing.assert_close(prediction.grad.double(), want, rtol=tolerance, atol=tolerance)


@st.composite
def decoders(draw):
    batch, tokens, width = draw(st.integers(1, 3)), draw(st.integers(2, 9)), draw(st.integers(1, 5))
    order = torch.stack(
        [torch.randperm(tokens, generator=torch.Generator().manual_seed(i)) for i in range(batch)]
    )
    visible = draw(st.integers(1, tokens - 1))
    generator = torch.Generator().manual_seed(9)
    return {
        "visible": torch.randn(batch, visible, width, generator=generator),
        "mask_token": torch.randn(width, generator=generator),
        "positions": torch.randn(tokens, width, generator=generator),
        "ids_keep": order[:, :visible].contiguous(), "ids_mask": order[:, visible:],
        "in_grid": draw(st.booleans()),
    }  # fmt: skip


DECODER_CHANGES = {
    "visible": tensors(torch.float32, torch.bfloat16, torch.int64, rank=3),
    "mask_token": tensors(torch.float32, rank=1) | st.none(),
    "positions": tensors(torch.float32, torch.float64, rank=2), "ids_keep": tensors(torch.int64, torch.int32, rank=2),
    "ids_mask": tensors(torch.int64, rank=2), "in_grid": st.booleans(),
}  # fmt: skip


@fuzz
@given(changed(decoders(), DECODER_CHANGES))
def test_decoder_tokens(case):
    got = attempt("decoder_tokens", ops.decoder_tokens, **case)
    if got is None:
        return
    rows = []
    for b, (keep, mask) in enumerate(zip(case["ids_keep"], case["ids_mask"], strict=True)):
        row = torch.cat([case["visible"][b].float(), case["mask_token"].expand(len(mask), -1)])
        ids = torch.cat([keep, mask])
        if case["in_grid"] and len(set(ids.tolist())) < len(ids):
            return  # tokens given twice, which the caller promises not to
        row = row + case["positions"][ids]
        rows.append(row[ids.argsort()] if case["in_grid"] else row)
    torch.testing.assert_close(got, torch.stack(rows), equal_nan=True)


@fuzz
@given(
    st.sampled_from(["color_mask", "optim_blue", "color_noise"]),
    mostly(st.just(torch.tensor(3)), tensors(torch.int64, torch.float32, rank=0), junk),
    mostly(st.just(torch.arange(3)), tensors(torch.int64, torch.int32, rank=1), junk),
    mostly(st.sampled_from([
        smnoise.Green3D((2, 3, 4), 0.75).spec.to_json(), smnoise.OptimBlue((4, 5), 0.75).spec.to_json(),
    ]), st.text(), junk, st.just('{"color": "green"}'), st.just("[]"), st.just("1e999")),
    mostly(CALL["backend"]),
)  # fmt: skip
def test_ops_of_masks(name, seed, samples, spec, backend):
    got = attempt(name, getattr(ops, name), seed, samples, spec, backend)
    if got is not None and name != "color_noise":
        mask, ids_keep, _, _ = got
        assert mask.shape == (len(samples), 24 if name == "color_mask" else 20)
        assert ((~mask).sum(1) == ids_keep.shape[1]).all()
