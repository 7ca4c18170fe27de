# SPDX-License-Identifier: Apache-2.0
"""Where masks are made, and from what: torch's default device does not move them, and what cannot be used is refused
in the package's own words."""

import copy
import pickle
from dataclasses import is_dataclass

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset, default_collate, default_convert
from torch.utils.data._utils.pin_memory import pin_memory

import smnoise
from smnoise import BackendError, Green3D, MaskBatch, MaskStream, OptimBlue, conformance, ops, pools, strategy
from smnoise.adapters import arrays, dataloader, huggingface, videomae
from smnoise.compat import import_timm
from smnoise.data.audio import augment
from smnoise.data.audio.fbank import LogMel
from smnoise.dual import dual
from smnoise.measures import spectra as measures
from smnoise.measures.diversity import diversity
from smnoise.measures.spread import radial_spectrum, spread
from smnoise.probes import metrics

SAMPLER = Green3D((2, 4, 4), 0.75)
FLAT = OptimBlue((6, 6), 0.75)
MASKS = SAMPLER([0, 1])
CLIPS = torch.randint(0, 256, (2, 3, 4, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
IDS = torch.tensor([[5, 0, 3], [1, 2, 7]])
NOISE = pools.build_noise(SAMPLER, 8, size=(3, 5, 5))
SEED, SAMPLES, ONE = torch.tensor(0), torch.arange(3), torch.ones(3)
SCORES = torch.tensor([[0.9, 0.2], [0.8, 0.3]])


def collated():
    items = dataloader.Numbered(TensorDataset(torch.ones(4, 2, device="cpu")))
    return dataloader.MaskCollate(SAMPLER)([items[i] for i in (1, 6)])


# Each gives something whose documentation says, or whose arguments show, that it is on the CPU.
PUBLIC = {
    "list": lambda: SAMPLER([3, 1]),
    "no samples": lambda: SAMPLER([]),
    "range": lambda: SAMPLER(range(3)),
    "empty range": lambda: SAMPLER(range(0)),
    "range of one": lambda: SAMPLER(range(7, 8)),
    "array": lambda: SAMPLER(np.arange(3)),
    "step": lambda: SAMPLER(batch_size=2, step=1, rank=1, world_size=2),
    "step tensor": lambda: SAMPLER(batch_size=2, step=SEED),
    "seed": lambda: SAMPLER(SAMPLES, seed=5),
    "outputs": lambda: SAMPLER([3, 1], outputs="mask"),
    "frames": lambda: Green3D((2, 4, 4), 0.75, per="frame")([1]),
    "reference": lambda: SAMPLER([1], backend="reference"),
    "Optim Blue": lambda: FLAT([1]),
    "Optim Blue, independent": lambda: OptimBlue((6, 6), 0.75, masks="independent")([1]),
    "tube": lambda: strategy("green-2d-tube", (2, 4, 4), 0.75)([1]),
    "block": lambda: strategy("block", (2, 4, 4), 0.75)([1]),
    "noise": lambda: SAMPLER.noise([1]),
    "sample_indices": lambda: smnoise.sample_indices(3, 2),
    "stream": lambda: MaskStream(SAMPLER, 2)(),
    "collate": collated,
    "generator": lambda: videomae.MaskingGenerator((2, 4, 4), 0.75)(3),
    "from_array": lambda: arrays.from_array(np.arange(3)),
    "pool": lambda: pools.PoolSampler(NOISE, (2, 4, 4), 0.75)([1]),
    "pool of masks": lambda: pools.PoolSampler(pools.build_masks(SAMPLER, 4))([1]),
    "dual": lambda: dual(MASKS, SAMPLER([0, 1], seed=9), 5),
    "diversity": lambda: diversity(SAMPLER, 6, device=None),
    "spread": lambda: spread(FLAT([0, 1])),
    "radial spectrum": lambda: radial_spectrum(FLAT([0, 1]), 3),
    "measures": lambda: measures.measure(SAMPLER, 4),
    "mAP": lambda: metrics.mean_average_precision(SCORES, torch.eye(2, device="cpu")).per_class,
    "accuracy": lambda: metrics.accuracy(SCORES, SAMPLES[:2]),
    "mixup": lambda: augment.mixup(
        torch.ones(2, 5, device="cpu"), SAMPLES[:2], torch.eye(2, device="cpu"), SAMPLES[:2], seed=1, chance=1.0
    ),
    "token dropping": lambda: augment.token_dropping(SAMPLES, (4, 4), seed=1, drop_time=0.5, drop_freq=0.5),
    "known answers": lambda: list(conformance.run(conformance.shipped(["philox", "white"]), "cpu")),
    "color_mask": lambda: ops.color_mask(SEED, SAMPLES, SAMPLER.spec.to_json(), outputs="mask"),
    "gaussian_filter": lambda: ops.gaussian_filter(torch.ones(1, 3, 5, 5, device="cpu"), (0.5, 0.4, 0.3)),
    "gather_patches": lambda: ops.gather_patches(CLIPS, IDS, (2, 4, 4), ONE, ONE),
    "patch_loss": lambda: ops.patch_loss(torch.ones(2, 3, 96, device="cpu"), CLIPS, IDS, (2, 4, 4)),
    "decoder_tokens": lambda: ops.decoder_tokens(
        torch.ones(2, 3, 3, device="cpu"), ONE, torch.ones(9, 3, device="cpu"), IDS, 8 - IDS, in_grid=False
    ),
    "random_words": lambda: ops.random_words(SEED, SAMPLES, 5, 7),
    "threshold": lambda: ops.threshold(SCORES, 1),
}  # fmt: skip


def leaves(value) -> list:
    found = torch.utils._pytree.tree_leaves(vars(value) if is_dataclass(value) else value)
    flat = (leaves(v) if is_dataclass(v) else [v] for v in found if v is not None)
    return [v for several in flat for v in several]


@pytest.mark.parametrize("name", PUBLIC)
def test_the_default_device_of_torch_moves_no_mask(name):
    want = leaves(PUBLIC[name]())
    torch.set_default_device("meta")
    try:
        got = leaves(PUBLIC[name]())
    finally:
        torch.set_default_device(None)
    assert len(got) == len(want) > 0
    for g, w in zip(got, want, strict=True):
        if isinstance(w, torch.Tensor):
            assert g.device.type == "cpu"
            torch.testing.assert_close(g, w, rtol=0, atol=0, equal_nan=True)
        else:
            assert np.array_equal(g, w), (g, w)


def test_features_are_made_where_modules_are_made_and_have_the_same_weights():
    torch.set_default_device("meta")
    try:
        assert LogMel(16000).weights.device.type == "meta"
    finally:
        torch.set_default_device(None)


@pytest.mark.parametrize(
    ("device", "error", "words"),
    [
        ("nonsense", ValueError, "one that torch knows.*'nonsense'"),
        ("cuda:x", ValueError, "one that torch knows"),
        ("", ValueError, "one that torch knows"),
        (3.5, TypeError, r"torch\.device or a text.*3\.5"),
        (["cpu"], TypeError, r"torch\.device or a text"),
        (True, TypeError, r"torch\.device or a text"),
        ("mps", BackendError, r"CPU and on GPUs.*\.to\(device\)"),
        (torch.device("xpu", 0), BackendError, "CPU and on GPUs"),
        ("cuda:97", BackendError, "finds"),
    ],
)
def test_a_device_that_there_is_not(device, error, words):
    for call in (
        lambda: SAMPLER([0], device=device),
        lambda: SAMPLER(batch_size=2, step=0, device=device),
        lambda: SAMPLER.noise([0], device=device),
        lambda: FLAT([0], device=device),
        lambda: smnoise.sample_indices(0, 2, device=device),
        lambda: MaskStream(SAMPLER, 2, device=device),
        lambda: diversity(SAMPLER, 4, device=device),
        lambda: pools.build_masks(SAMPLER, 4, device=device),
        lambda: pools.build_noise(SAMPLER, 4, device=device),
    ):
        with pytest.raises(error, match=words):
            call()
    if error in (TypeError, ValueError):
        with pytest.raises(error, match=words):
            MASKS.to(device)


x = torch.arange(4)
STRANGE = {
    "sparse": (x.to_sparse, r"got a torch.sparse_coo one; convert with \w+.to_dense\(\)"),
    "nested": (
        lambda: torch.nested.nested_tensor([x, x]),
        r"got a nested one; convert with \w+.to_padded_tensor",
    ),
    "jagged": (lambda: torch.nested.nested_tensor([x, x], layout=torch.jagged), "got a nested one"),
    "quantized": (lambda: torch.quantize_per_tensor(x.float(), 1.0, 0, torch.quint8), "quantized|quint8"),
    "complex": (x.cfloat, "complex64"),
    "bits": (lambda: x.to(torch.uint8).view(torch.bits8), "bits8"),
    "float8": (lambda: x.float().to(torch.float8_e4m3fn), "float8"),
    "object": (object, "got a object|tensor, an array, a list"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's own, of nested and quantized tensors
@pytest.mark.parametrize("name", STRANGE)
def test_tensors_that_cannot_be_used_are_refused(name):
    make, words = STRANGE[name]
    value = make()
    for call in (
        lambda: SAMPLER(value),
        lambda: FLAT(value),
        lambda: SAMPLER.noise(value),
        lambda: pools.PoolSampler(NOISE, (2, 4, 4), 0.75)(value),
        lambda: ops.color_mask(SEED, value, SAMPLER.spec.to_json()),
        lambda: ops.color_mask(value, SAMPLES, SAMPLER.spec.to_json()),
        lambda: ops.random_words(SEED, value, 5, 7),
        lambda: ops.threshold(value, 1),
        lambda: ops.gaussian_filter(value, (1, 1, 1)),
        lambda: ops.gather_patches(CLIPS, value, (2, 4, 4), ONE, ONE),
    ):
        with pytest.raises(TypeError, match=words):
            call()


@pytest.mark.parametrize(
    ("odd", "plain"),
    [
        (torch._neg_view(x), [0, -1, -2, -3]),
        (torch.tensor([3]).expand(4), [3] * 4),
        (torch.arange(8)[1::2], [1, 3, 5, 7]),
        (torch.arange(8).view(4, 2).t()[1], [1, 3, 5, 7]),
        (x.to(torch.uint64), [0, 1, 2, 3]),
        (x.to(torch.uint8), [0, 1, 2, 3]),
    ],
    ids=["negated", "expanded", "every second", "column", "uint64", "uint8"],
)
def test_tensors_of_odd_strides_and_views_give_the_masks_of_their_numbers(odd, plain):
    assert torch.equal(SAMPLER(odd).ids_restore, SAMPLER(plain).ids_restore)


def test_a_numpy_array_is_named_and_the_way_out_too():
    config = pytest.importorskip("transformers").VideoMAEConfig(image_size=8, patch_size=4, num_frames=4)
    for call in (
        lambda: huggingface.checked(np.ones((2, 8), bool), config),
        lambda: ops.threshold(np.ones((2, 8), np.float32), 1),
        lambda: metrics.accuracy(np.ones((2, 3)), np.ones(2)),
        lambda: LogMel(16000)(np.zeros((1, 16000), np.float32)),
        lambda: pools.NoisePool(np.ones((2, 2, 2, 2), np.float32)),
    ):
        with pytest.raises(TypeError, match=r"got a NumPy array of \w+; convert with torch.from_numpy"):
            call()
    with pytest.raises(TypeError, match=r"got a Python list; convert with torch.tensor"):
        ops.threshold([[0.5, 0.2]], 1)  # type: ignore[arg-type]


REBUILT = {
    "default_convert": default_convert,
    "pin_memory": lambda m: pin_memory(m, "cuda") if torch.cuda.is_available() else type(m)(*[
        list(v) if isinstance(v, tuple) else v for v in m]),
    "tree_map": lambda m: torch.utils._pytree.tree_map(lambda v: v, m),
    "pickle": lambda m: pickle.loads(pickle.dumps(m)),
    "copy": copy.deepcopy,
    "torch.Size": lambda m: MaskBatch(*m[:4], torch.Size(m.grid), m.num_visible),
    "replace": lambda m: m._replace(grid=list(m.grid)),
    "make": lambda m: MaskBatch._make([*m[:4], list(m.grid), m.num_visible]),
}  # fmt: skip


@pytest.mark.parametrize("name", REBUILT)
def test_containers_that_are_rebuilt_keep_their_grid_a_tuple(name):
    rebuilt = REBUILT[name](MASKS)
    assert type(rebuilt) is MaskBatch
    assert type(rebuilt.grid) is tuple
    assert rebuilt.grid == (2, 4, 4)
    assert torch.equal(rebuilt.volume(), MASKS.volume())
    assert (rebuilt.num_visible, rebuilt.batch_size) == (MASKS.num_visible, 2)
    dual(rebuilt, SAMPLER([0, 1], seed=9), 5)  # compares grids


def test_masks_that_were_collated_are_told_what_they_are():
    """A data set that returns a MaskBatch of one per item: default_collate stacks its numbers too."""
    with pytest.raises(TypeError, match=r"already a batch.*MaskCollate"):
        default_collate([SAMPLER([0]), SAMPLER([1])])


def test_trees_of_masks_may_hold_other_things():
    """As torch.export's dynamic shapes do."""
    shapes = MaskBatch({0: "batch"}, None, None, None, None, None)
    assert shapes.mask == {0: "batch"}
    assert torch.utils._pytree.tree_map(lambda v: "spec", MASKS).grid == ("spec",) * 3


def test_a_rebuilt_batch_goes_through_lightning():
    import_timm()  # Lightning's metrics import torchvision, which needs the same care
    lightning = pytest.importorskip("lightning.fabric.utilities.apply_func", reason="lightning is optional")
    moved = lightning.move_data_to_device(MASKS, torch.device("cpu"))
    assert type(moved) is MaskBatch
    assert moved.grid == (2, 4, 4)


def test_compiled_code_makes_and_takes_them():
    torch._dynamo.reset()

    @torch.compile(fullgraph=True)
    def step(number, given):
        masks = SAMPLER(batch_size=2, step=number, device="cpu")
        return masks, masks.volume() & given.volume()

    masks, both = step(torch.tensor(1), default_convert(MASKS))
    assert type(masks) is MaskBatch
    assert masks.grid == (2, 4, 4)
    assert torch.equal(both, SAMPLER([2, 3]).volume() & MASKS.volume())
