# SPDX-License-Identifier: Apache-2.0
"""What goes around masks, with any arguments: features of sounds, measures, checks of adapters."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

import smnoise
from smnoise.adapters.huggingface import checked
from smnoise.data.audio import fbank
from smnoise.measures.spread import radial_spectrum, spread

from .examples import CALL, arguments, attempt, fuzz, junk, mostly, sizes, tensors


@fuzz
@given(
    arguments({"sample_rate": st.integers(200, 1500), "num_mels": st.integers(1, 30),
               "window_ms": st.integers(5, 30), "shift_ms": st.integers(3, 15)}),
    tensors(torch.float32, torch.float16, torch.int16, rank=2, largest=200),
    st.none() | tensors(torch.int64, rank=1, largest=4),
)  # fmt: skip
def test_log_mel(parameters, waves, lengths):
    log_mel = attempt("LogMel", fbank.LogMel, **parameters)
    if log_mel is None:
        return
    features = attempt("LogMel call", log_mel, waves, lengths)
    if features is None:
        return
    frames = log_mel.num_frames(waves.shape[1])
    assert features.shape == (len(waves), frames, log_mel.num_mels)
    assert features.dtype == torch.float32
    if (waves.abs() < 1e4).all():
        assert features.isfinite().all()
    if lengths is not None:
        for row, length in zip(features, lengths.tolist(), strict=True):
            assert not row[log_mel.num_frames(length) :].any()
    for fitted in (frames + 2, max(0, frames - 1)):
        assert fbank.fit_length(features, fitted).shape == (len(waves), fitted, log_mel.num_mels)


@fuzz
@given(
    st.tuples(st.integers(1, 3), sizes, sizes), st.integers(0, 20), st.integers(0, 3), CALL["outputs"],
    mostly(st.integers(1, 20)),
)  # fmt: skip
def test_measures(grid, visible, rows, outputs, bins):
    sampler = attempt("White3D", smnoise.White3D, grid, num_visible=visible)
    if sampler is None:
        return
    masks = sampler(range(rows), outputs=outputs)
    found = attempt("spread", spread, masks)
    if found is not None:
        assert all(math.isfinite(v) for v in found)
        assert found.nearest >= 1
        assert 0 <= found.seen_least <= found.seen_most <= 1
    found = attempt("radial_spectrum", radial_spectrum, masks, bins)
    if found is not None:
        frequency, power = found
        assert frequency.shape == power.shape == (bins,)
        assert not (power < 0).any()
    for method in ("bool_masked_pos", "mae", "volume"):
        attempt(f"MaskBatch.{method}", getattr(masks, method))
    moved = attempt("MaskBatch.to", masks.to, "cpu")
    assert {f: v for f, v in moved._asdict().items() if f in ("grid", "num_visible")} == {
        "grid": masks.grid, "num_visible": masks.num_visible,
    }  # fmt: skip


class Clip(dict):
    """A model's config for `checked`: 4 frames of 12 x 16 pixels, grid (2, 3, 4)."""

    image_size, patch_size, num_frames, tubelet_size = (12, 16), 4, 4, 2


@fuzz
@given(
    mostly(
        st.tuples(st.integers(0, 3), st.integers(0, 24)).map(lambda v: torch.arange(24).expand(v[0], 24) < v[1]),
        junk, tensors(torch.bool, torch.uint8, rank=2, largest=24),
    ),
    mostly(st.none() | st.integers(0, 24)),
)  # fmt: skip
def test_checked(mask, num_masked):
    got = attempt("checked", checked, mask, Clip(), num_masked)
    if got is not None:
        assert got is mask
        counts = mask.sum(1)
        assert 0 < counts[0] < 24
        assert (counts == counts[0]).all()
        assert counts[0] == num_masked if num_masked is not None else counts[0] >= 12


entries = mostly(st.integers(0, 2**26))
STATE = {
    "reward": mostly(st.just("band")),
    "target": mostly(st.just(0.6)),
    "updates": mostly(st.integers(0, 9)),
    "first": st.none() | entries,
    **{
        name: mostly(st.lists(entries | st.none(), min_size=8, max_size=8))
        for name in ("averages", "sums", "counts")
    },
    "logs": mostly(st.lists(st.integers(-(2**26), 0), min_size=8, max_size=8)),
}


@fuzz
@given(
    arguments({"reward": st.sampled_from(["band", "hardest", "easiest"]), "target": st.floats(0.1, 4)}),
    st.lists(
        st.tuples(
            mostly(st.integers(-3, 5)),
            tensors(torch.int64, torch.int32, rank=1, largest=6) | junk,
            tensors(torch.float32, torch.float64, torch.bfloat16, rank=1, largest=6) | junk,
            st.booleans(),
        ),
        max_size=5,
    ),
    st.fixed_dictionaries(STATE) | junk,
)
def test_bandit(parameters, told, state):
    bandit = attempt("SigmaBandit", smnoise.SigmaBandit, **parameters)
    if bandit is None:
        return
    for seed, samples, losses, learns in told:
        attempt("observe", bandit.observe, seed, samples, losses)
        if learns:
            bandit.update()
    check_bandit(bandit)
    again = smnoise.SigmaBandit(bandit.reward, bandit.target)
    again.load_state_dict(bandit.state_dict())
    assert again.state_dict() == bandit.state_dict()
    assert torch.equal(again.table, bandit.table)
    before = bandit.state_dict()
    plain = smnoise.SigmaBandit()
    if attempt("bandit's state", plain.load_state_dict, state) is None and plain.updates == 0:
        plain.observe(0, torch.arange(9), torch.rand(9))
    plain.update()
    check_bandit(plain)
    assert bandit.state_dict() == before


def check_bandit(bandit):
    """A table that can be drawn from, and shares of which none dies out."""
    assert len(bandit.table) == 31
    assert (bandit.table.diff() >= 0).all()
    assert bandit.table[0] > 0
    assert bandit.table[-1] < 2**32
    assert sum(bandit.shares()) == 1 or abs(sum(bandit.shares()) - 1) < 1e-9
    assert min(bandit.shares()) >= 0.1 / 8 - 1e-9
    smnoise.sampler_of("green-3d", (2, 4, 4), 0.5)([0, 1], sigma_table=bandit.table)


@fuzz
@given(
    arguments(
        {"mask_ratio": st.floats(0.2, 0.9), "strategy": st.sampled_from(["random", "green-2d", "blue-3d"])}
    ),
    mostly(st.lists(st.integers(0, 7), min_size=2, max_size=2)),
    mostly(st.none() | st.integers(0, 7)),
)
def test_rows_of_several_lengths(parameters, lengths, longest):
    sampler = attempt("Ragged", smnoise.Ragged, (6, 3), **parameters)
    if sampler is None:
        return
    masks = attempt("Ragged call", sampler, [3, 4], lengths=lengths, longest=longest)
    if masks is None:
        return
    for row in range(2):
        tokens, visible = int(masks.tokens[row]), int(masks.num_visible[row])
        assert visible == sampler.counts[tokens // 3] > 0
        shown = masks.ids_keep[row, :visible].tolist()
        hidden = masks.ids_mask[row, : tokens - visible].tolist()
        assert sorted(shown + hidden) == list(range(tokens))
        alone = sampler([3 + row], lengths=[tokens // 3])
        assert alone.ids_keep[0, :visible].tolist() == shown
