# SPDX-License-Identifier: Apache-2.0
"""A mask is named once: what `sampler_of` takes, functions of scores, and masks that come from elsewhere."""

import json
import sys

import pytest
import torch

import smnoise
from smnoise import MaskBatch, pools, sampler_of
from smnoise.samplers import custom

GRID = (4, 6, 6)


@pytest.fixture(autouse=True)
def functions_of_this_test_only(monkeypatch):
    monkeypatch.setattr(custom, "FUNCTIONS", {})
    for module in ("strategies", "samplers.named"):
        monkeypatch.setattr(f"smnoise.{module}.FUNCTIONS", custom.FUNCTIONS)


@pytest.mark.parametrize("name", smnoise.STRATEGIES)
def test_every_strategy_is_named(name):
    grid = (
        (36,) if name.endswith("-1d") else (6, 6) if name in ("bars", "time-bars", "frequency-bars") else GRID
    )
    assert sampler_of(name, grid, num_visible=12, seed=5) == smnoise.strategy(
        name, grid, num_visible=12, seed=5
    )


@pytest.mark.parametrize("name", smnoise.presets)
def test_every_preset_is_named(name):
    assert sampler_of(name, seed=5) == smnoise.presets[name](seed=5)


def test_ratio_by_grid():
    assert [sampler_of("random", grid).mask_ratio for grid in (GRID, (1, 8, 8), (8, 8), (64,))] == [
        0.9,
        0.8,
        0.8,
        0.8,
    ]


def test_parameters_of_the_sampler():
    want = smnoise.Green3D(GRID, 0.75, sigma1=(0.5, 1.0), boundary="wrap", per="frame", seed=2)
    given = {"sigma1": (0.5, 1.0), "sigma2": None, "boundary": "wrap", "per": "frame"}
    assert sampler_of("green-3d", GRID, 0.75, seed=2, **given) == want
    with pytest.raises(ValueError, match="Tube has no sigma1; its parameters are grid"):
        sampler_of("tube", GRID, 0.75, sigma1=(0.5, 1.0))
    with pytest.raises(ValueError, match="Tube has no sigma1"):
        sampler_of('{"sampler": "Tube"}', GRID, sigma1=(0.5, 1.0))


class TestJson:
    SAMPLER = smnoise.Green3D(GRID, num_visible=20, boundary="wrap", seed=7)

    def test_whole(self, tmp_path):
        text = self.SAMPLER.to_json()
        (tmp_path / "mask.json").write_text(text)
        for named in (text, f"@{tmp_path / 'mask.json'}", str(tmp_path / "mask.json")):
            assert sampler_of(named) == sampler_of(named, GRID, seed=99) == self.SAMPLER

    def test_what_it_leaves_out_is_given(self):
        text = '{"sampler": "Green3D", "boundary": "wrap"}'
        assert sampler_of(text, GRID, num_visible=20, seed=7) == self.SAMPLER
        assert sampler_of(text, usual_grid=GRID).mask_ratio == 0.9
        bars = sampler_of('{"sampler": "TimeFrequencyBars", "kept": [3, 2]}', (6, 6))
        assert bars.visible_per_sample == 6

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"grid": (4, 6, 5)}, r"is for grid \(4, 6, 6\), but \(4, 6, 5\) is asked for"),
            ({"grid": GRID, "mask_ratio": 0.5}, "has its num_visible; leave out mask_ratio"),
            ({"grid": GRID, "num_visible": 21}, "says num_visible 20, but 21 is asked for"),
            ({"grid": GRID, "boundary": "field"}, "says boundary wrap, but field"),
        ],
    )
    def test_two_answers_are_one_too_many(self, given, words):
        with pytest.raises(ValueError, match=words):
            sampler_of(self.SAMPLER.to_json(), **given)

    def test_a_plane_is_a_clip_of_one_frame(self):
        text = smnoise.OptimBlue((6, 6), 0.75).to_json()
        assert sampler_of(text, (1, 6, 6)) == smnoise.OptimBlue((6, 6), 0.75)


def test_pools(tmp_path):
    masks, noise = tmp_path / "masks.safetensors", tmp_path / "noise.safetensors"
    pools.save(pools.build_masks(smnoise.Green3D(GRID, num_visible=20), 8), masks)
    pools.save(pools.build_noise(smnoise.Green3D(GRID, 0.9), 8, size=(6, 8, 8)), noise)
    assert sampler_of(str(masks), GRID).visible_per_sample == 20
    assert sampler_of(str(noise), GRID).grid == GRID
    assert sampler_of(str(noise), GRID).mask_ratio == 0.9
    assert sampler_of(str(noise), usual_grid=GRID, num_visible=20).visible_per_sample == 20
    assert sampler_of(str(noise)).grid == (6, 8, 8)
    with pytest.raises(ValueError, match="must fit into"):
        sampler_of(str(noise), (9, 9, 9))


@pytest.mark.parametrize(
    ("text", "words"),
    [("gren-3d", "did you mean green-3d"), ("random", "needs a grid"), ("no_module_of_that_name:f", "No module"),
     ("json:absent", "absent"), (":f", "Empty module name"), ("{", "not the JSON"),
     ('{"sampler": "Nothing"}', "one of"), ("no_module_of_that_name:f", "PYTHONPATH"),
     ("json:__name__", "names no function"), ('{"sampler": "Green3D", "grid": 5}', "must be a list such as"),
     ('{"sampler": "Green3D", "grid": null}', "needs grid"),
     ('{"sampler": "Tube", "seed": 1, "sampler": "Random"}', "has 'sampler' twice")],
)  # fmt: skip
def test_what_names_nothing(text, words):
    with pytest.raises(ValueError, match=words):
        sampler_of(text)


def test_bytes_that_are_no_json(tmp_path):
    (tmp_path / "film.mp4").write_bytes(b"\xda\xff\0")
    with pytest.raises(ValueError, match=r"film\.mp4 does not hold the JSON of a sampler"):
        sampler_of(f"@{tmp_path / 'film.mp4'}", GRID)


def test_a_range_in_json_is_the_same_as_a_pair():
    text = '{"sampler": "Green3D", "sigma1": [0.5, 1.0]}'
    assert sampler_of(text, GRID, sigma1=(0.5, 1.0)) == smnoise.Green3D(GRID, 0.9, sigma1=(0.5, 1.0))


class TestCustom:
    @staticmethod
    def first(seed, samples, grid, shift=0):
        tokens = grid[0] * grid[1] * grid[2]
        return smnoise.ops.random_words(seed, samples + shift, 15, tokens)

    def test_a_function_of_scores_is_a_strategy(self):
        smnoise.register("first", self.first)
        sampler = smnoise.strategy("first", GRID, num_visible=20, parameters={"shift": 3}, seed=4)
        masks = sampler([0, 5])
        assert masks.num_visible == 20
        assert masks.mask.logical_not().sum(dim=1).tolist() == [20, 20]
        assert torch.equal(masks.mask[1], sampler([5]).mask[0])
        words = smnoise.ops.random_words(torch.tensor(4), torch.tensor([8]), 15, 144)[0]
        shown = words.float().topk(20).indices.sort().values
        assert masks.ids_keep[1].tolist() == shown.tolist()
        assert smnoise.from_json(sampler.to_json()) == sampler == sampler_of(sampler.to_json(), GRID)
        assert len({sampler, sampler_of("first", GRID, 0.9)}) == 2

    def test_per_frame_counts_are_of_the_sample(self):
        smnoise.register("first", self.first)
        masks = sampler_of("first", GRID, num_visible=20, per="frame")([1])
        assert masks.volume().logical_not().sum(dim=(2, 3)).tolist() == [[5, 5, 5, 5]]
        with pytest.raises(ValueError, match="multiple"):
            sampler_of("first", GRID, num_visible=21, per="frame")

    def test_module_and_function(self, tmp_path, monkeypatch):
        (tmp_path / "my_masks_of_a_test.py").write_text(
            "import torch\ndef rows(seed, samples, grid):\n"
            "    return torch.arange(grid[1])[:, None].expand(len(samples), *grid)\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        sampler = sampler_of("my_masks_of_a_test:rows", GRID, num_visible=24)
        assert sampler([0]).volume()[0, :, 5].logical_not().all()
        assert json.loads(sampler.to_json())["name"] == "my_masks_of_a_test:rows"
        custom.FUNCTIONS.clear()
        with pytest.raises(ValueError, match="no strategy 'my_masks_of_a_test:rows' is registered"):
            smnoise.from_json(sampler.to_json())  # what a file says is not imported
        named = sampler_of('{"sampler": "Custom", "name": "my_masks_of_a_test:rows"}', GRID, num_visible=24)
        assert named == sampler  # what a person says is
        sys.modules.pop("my_masks_of_a_test")

    @pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.int32])
    def test_scores_that_float32_does_not_tell_apart(self, dtype):
        near = torch.arange(144).to(dtype) + (2**30 if dtype == torch.int32 else 2**40)
        assert (near.float()[1:] == near.float()[:-1]).float().mean() > 0.9
        smnoise.register("near", lambda seed, samples, grid: near.expand(len(samples), -1))
        sampler = smnoise.strategy("near", GRID, num_visible=20)
        assert sampler([3]).ids_keep.tolist() == [list(range(124, 144))]
        smnoise.register("tied", lambda seed, samples, grid: (near // 50 * 50).expand(len(samples), -1))
        want = near[None] // 50 * 50
        shown = smnoise.strategy("tied", GRID, num_visible=20)([3]).ids_keep[0]
        assert shown.tolist() == want[0].argsort(descending=True, stable=True)[:20].sort().values.tolist()

    def test_names_are_taken_once(self):
        smnoise.register("first", self.first)
        smnoise.register("first", self.first)
        with pytest.raises(ValueError, match="registered already"):
            smnoise.register("first", lambda *a: None)

        def again(seed, samples, grid, value=0.0):
            return torch.full((len(samples), *grid), value)

        def define():
            def anew(seed, samples, grid):
                return torch.zeros(len(samples), *grid)

            return anew

        smnoise.register("anew", define())
        smnoise.register("anew", define())  # as in a notebook's cell that is run again
        with pytest.raises(ValueError, match="registered already"):
            smnoise.register("anew", again)
        with pytest.raises(ValueError, match="smnoise's own"):
            smnoise.register("tube", self.first)
        with pytest.raises(TypeError, match="function of"):
            smnoise.register("other", 3)

    @pytest.mark.parametrize("scores", [
        torch.arange(8) + 2**40, -(torch.arange(8, dtype=torch.int32) + 2**24), 1 + torch.arange(8).double() * 1e-12,
        torch.tensor([3, 2**53 + 1, 2**53, 3, -1, 2**53, 2**62, 2**62 + 1]), torch.arange(8) % 2 == 0,
        torch.tensor([0.0, -0.0, 1, torch.inf, -torch.inf, torch.nan, 1 + 1e-9, 1], dtype=torch.float64),
    ])  # fmt: skip
    def test_scores_that_float32_cannot_tell_apart(self, scores):
        """Whole numbers and doubles rank as what they are, ties to the lower token."""
        smnoise.register("fine", lambda seed, samples, grid: scores.expand(len(samples), 8))
        order = sorted(range(8), key=lambda i: (not scores[i].isnan(), -scores[i].item(), i))
        for visible in range(1, 8):
            masks = smnoise.strategy("fine", (2, 2, 2), num_visible=visible)([0, 1])
            assert masks.ids_keep.tolist() == [sorted(order[:visible])] * 2

    @pytest.mark.parametrize(
        "seed", [torch.tensor(0.5), torch.tensor([1, 2]), torch.tensor(1, dtype=torch.int32)]
    )
    def test_a_seed_that_is_none(self, seed):
        smnoise.register("plain", lambda seed, samples, grid: torch.zeros(len(samples), 144))
        with pytest.raises((TypeError, ValueError), match="seed must"):
            sampler_of("plain", GRID)([0], seed=seed)

    def test_the_function_gets_a_seed_without_axes(self):
        seen = []

        def plain(seed, samples, grid):
            seen.append(seed)
            return torch.zeros(len(samples), 144)

        smnoise.register("plain", plain)
        sampler_of("plain", GRID)([0], seed=torch.tensor([7]))
        assert [tuple(s.shape) for s in seen] == [()]

    def test_parameters_are_what_json_holds(self):
        smnoise.register("first", self.first)
        sampler = smnoise.strategy("first", GRID, 0.9, parameters={"shift": (1, 2)})
        assert smnoise.from_json(sampler.to_json()) == sampler
        with pytest.raises(TypeError, match="JSON"):
            smnoise.strategy("first", GRID, 0.9, parameters={"shift": torch.zeros(1)})
        with pytest.raises(ValueError, match="no function"):
            sampler_of("os:sep", GRID)

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            (lambda seed, samples, grid: torch.zeros(1), "must give scores of shape"),
            (lambda seed, samples, grid: None, "gave NoneType"),
            (lambda seed, samples, grid: torch.zeros(2, 144, dtype=torch.complex64), "real scores"),
            (lambda seed, samples, grid: torch.zeros(2, 144, device="meta"), "on cpu"),
        ],
    )
    def test_scores_that_cannot_be(self, given, words):
        smnoise.register("wrong", given)
        smnoise.register("sparse", lambda seed, samples, grid: torch.zeros(2, 144).to_sparse())
        with pytest.raises(TypeError, match="dense"):
            sampler_of("sparse", GRID)([0, 1])
        with pytest.raises(ValueError, match=words):
            sampler_of("wrong", GRID)([0, 1])


class TestOfElsewhere:
    def test_from_mask(self):
        want = smnoise.Green3D(GRID, 0.75)(range(3))
        for mask, grid in ((want.mask, GRID), (want.volume(), None)):
            got = MaskBatch.from_mask(mask, grid)
            assert got[4:] == want[4:]
            assert all(torch.equal(a, b) for a, b in zip(got.tensors, want.tensors, strict=True))

    def test_an_empty_batch(self):
        masks = MaskBatch.from_scores(torch.zeros(0, 2, 3), 0.5)
        assert (masks.mask.shape, masks.ids_keep.shape, masks.grid) == ((0, 6), (0, 3), (1, 2, 3))

    def test_a_grid_that_is_none(self):
        with pytest.raises((TypeError, ValueError), match="grid must be"):
            MaskBatch.from_scores(torch.zeros(2, 9), 0.5, grid=9)

    def test_only_dense_masks(self):
        with pytest.raises(TypeError, match="dense"):
            MaskBatch.from_mask(torch.eye(4).bool().to_sparse())

    def test_from_scores(self):
        sampler = smnoise.Green3D(GRID, 0.75, per="frame")
        scores, want = sampler.noise([0, 1]), sampler([0, 1])
        got = MaskBatch.from_scores(scores, 0.75, per="frame")
        assert all(torch.equal(a, b) for a, b in zip(got.tensors, want.tensors, strict=True))

    @pytest.mark.parametrize(
        ("mask", "error", "words"),
        [
            (torch.zeros(2, 4), TypeError, "bool tensor, True = masked; got a tensor of torch.float32"),
            ([[True, False]], TypeError, "got list"),
            (torch.tensor([[True, False], [True, True]]), ValueError, "show 0 to 1"),
            (torch.ones(2, 4, dtype=torch.bool), ValueError, "must be visible"),
            (torch.ones(4, dtype=torch.bool), ValueError, r"shape \[B, L\]"),
            (torch.ones(0, 4, dtype=torch.bool), ValueError, "B at least 1"),
        ],
    )
    def test_no_mask(self, mask, error, words):
        with pytest.raises(error, match=words):
            MaskBatch.from_mask(mask)

    def test_scores_and_counts_that_do_not_go_together(self):
        with pytest.raises(ValueError, match="just one"):
            MaskBatch.from_scores(torch.zeros(2, 9))
        with pytest.raises(ValueError, match="the scores have 9"):
            MaskBatch.from_scores(torch.zeros(2, 9), 0.5, grid=(2, 4))
        with pytest.raises(TypeError, match="float32"):
            MaskBatch.from_scores(torch.zeros(2, 9, dtype=torch.float64), 0.5)
