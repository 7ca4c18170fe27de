# SPDX-License-Identifier: Apache-2.0
"""What must be true of a mask and of a sampler, whatever the arguments were."""

from __future__ import annotations

from dataclasses import asdict

import torch

import smnoise
from smnoise import ops

from .examples import LARGEST, attempt


def check_masks(masks: smnoise.MaskBatch, sampler, rows: int | None = None) -> None:
    tokens, visible = sampler.num_tokens, sampler.visible_per_sample
    assert (masks.num_tokens, masks.num_visible, masks.num_masked) == (tokens, visible, tokens - visible)
    assert 0 < visible < tokens
    assert rows is None or masks.batch_size == rows
    everything = torch.arange(tokens).expand(masks.batch_size, tokens)
    if masks.mask is not None:
        assert masks.mask.dtype == torch.bool
        assert (masks.mask.sum(1) == tokens - visible).all()
        if getattr(sampler, "per", "clip") == "frame":
            assert (masks.volume().flatten(2).sum(2) == (tokens - visible) // sampler.grid[0]).all()
    for ids, width in ((masks.ids_keep, visible), (masks.ids_mask, tokens - visible)):
        if ids is not None:
            assert ids.shape == (masks.batch_size, width)
            assert ids.dtype == torch.int64
            assert (ids.diff(dim=1) > 0).all()
            assert ((ids >= 0) & (ids < tokens)).all()
    if masks.mask is not None and masks.ids_keep is not None:
        assert not masks.mask.gather(1, masks.ids_keep).any()
    if masks.mask is not None and masks.ids_mask is not None:
        assert masks.mask.gather(1, masks.ids_mask).all()
    if masks.ids_restore is not None:
        assert torch.equal(masks.ids_restore.sort(1).values, everything)
        if masks.ids_keep is not None and masks.ids_mask is not None:
            both = torch.cat([masks.ids_keep, masks.ids_mask], 1)
            assert torch.equal(both.gather(1, masks.ids_restore), everything)


def check_sampler(sampler) -> None:
    again = smnoise.from_json(sampler.to_json())
    assert again == sampler
    assert hash(again) == hash(sampler)
    assert again._spec_json == sampler._spec_json
    assert type(sampler)(**asdict(sampler)) == sampler


def small(sampler) -> bool:
    return getattr(sampler._spec, "slab", 0) <= LARGEST and sampler.num_tokens <= LARGEST // 1000


def run_sampler(name: str, sampler, call: dict) -> None:
    check_sampler(sampler)
    if not small(sampler) or len(str(call.get("batch_size"))) > 2:
        return
    masks = attempt(f"{name} call", sampler, **call)
    if masks is None:
        return
    check_masks(masks, sampler)
    named = {n.strip() for n in call.get("outputs", ops.ALL_OUTPUTS).split(",")}
    assert {n for n in masks._fields[:4] if getattr(masks, n) is not None} == named
    reference = sampler(**{**call, "backend": "reference"})
    for got, want in zip(masks.tensors, reference.tensors, strict=True):
        assert torch.equal(got, want)
