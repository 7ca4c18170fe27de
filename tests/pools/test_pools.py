# SPDX-License-Identifier: Apache-2.0
"""Pools of masks: what is drawn from them, by a plain NumPy reference; their files, whole and damaged."""

import hashlib
import io
import json
import math
import pickle
import signal
import struct
import subprocess
import sys
import zipfile
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

import smnoise
from smnoise import PoolError, PoolSampler, ops, pools, reference
from smnoise.pools.pool import canonical

GRID = (3, 5, 6)
GREEN = smnoise.Green3D(GRID, num_visible=17, seed=5)
MASKS = pools.build_masks(GREEN, 20)
NOISE = pools.build_noise(GREEN, 7, (4, 9, 8))
TORUS = pools.build_noise(smnoise.Green3D(GRID, num_visible=17, boundary="wrap"), 7, (4, 9, 8))
AXES = "tyx"
SUBSETS = ["".join(c) for n in range(4) for c in combinations(AXES, n)]


def choices(sampler, seed: int, sample: int):
    """Pattern, window, flips and roll of a sample, word by word."""
    words = [int(w) for w in reference.random_words(seed, sample, 5, 8)]
    rooms = [s - n + 1 for s, n in zip(sampler.pool.size, sampler.grid, strict=True)]
    window = [
        w * r >> 32 if a in sampler.crop else 0 for a, w, r in zip(AXES, words[1:4], rooms, strict=True)
    ]
    flips = [bool(words[4] >> 31 - i & 1) and a in sampler.flip for i, a in enumerate(AXES)]
    rolls = zip(AXES, words[5:8], sampler.pool.size, strict=True)
    roll = [w * s >> 32 if a in sampler.roll else 0 for a, w, s in rolls]
    return words[0] * len(sampler.pool) >> 32, window, flips, roll


def window_of(volume: np.ndarray, sampler, seed: int, sample: int) -> np.ndarray:
    """What a sample sees of its pattern, by NumPy's own roll, slices and flip."""
    _, window, flips, roll = choices(sampler, seed, sample)
    volume = np.roll(volume, [-r for r in roll], axis=(0, 1, 2))
    volume = volume[tuple(slice(at, at + n) for at, n in zip(window, sampler.grid, strict=True))]
    return np.flip(volume, [i for i, f in enumerate(flips) if f])


def wanted(sampler, seed: int, sample: int) -> reference.Outputs:
    pattern = choices(sampler, seed, sample)[0]
    if isinstance(sampler.pool, pools.MaskPool):
        masks = sampler.pool.masks().numpy().reshape(-1, *sampler.grid)
        return reference.outputs_of(window_of(masks[pattern], sampler, seed, sample).reshape(-1))
    scores = window_of(sampler.pool.data[pattern].numpy(), sampler, seed, sample)
    groups = sampler.grid[0] if sampler.per == "frame" else 1
    return reference.threshold(scores.reshape(groups, -1), sampler.visible_per_sample // groups)


def check(sampler, seed: int, samples) -> None:
    found = sampler(samples, seed=seed)
    for i, sample in enumerate(samples):
        want = wanted(sampler, seed, sample)
        for name in ("mask", "ids_keep", "ids_mask", "ids_restore"):
            np.testing.assert_array_equal(getattr(found, name)[i].numpy(), getattr(want, name), err_msg=name)


@pytest.mark.parametrize("axes", SUBSETS)
@pytest.mark.parametrize("what", ["crop", "flip", "roll"])
def test_each_augmentation_is_numpys(what, axes):
    others = dict.fromkeys({"crop", "flip", "roll"} - {what}, "")
    check(PoolSampler(NOISE, GRID, num_visible=17, **{**others, what: axes}), 3, range(12))
    if what != "crop":
        check(PoolSampler(MASKS, **{**others, what: axes}), 3, range(12))


@settings(max_examples=40)
@given(st.data())
def test_all_together_are_numpys(data):
    size = tuple(data.draw(st.integers(1, n)) for n in (4, 9, 17))
    size = (1, 1, 2) if math.prod(size) == 1 else size
    grid = tuple(data.draw(st.integers(1, n)) for n in size)
    grid = size if math.prod(grid) == 1 else grid
    per = data.draw(st.sampled_from(("clip", "frame"))) if grid[1] * grid[2] > 1 else "clip"
    visible = data.draw(st.integers(1, math.prod(grid[per == "frame" :]) - 1))
    crop, flip, roll = (data.draw(st.sampled_from(SUBSETS)) for _ in range(3))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    noise = torch.randint(
        -3, 4, (data.draw(st.integers(1, 5)), *size), generator=generator
    ).float()  # with ties
    seed = data.draw(st.integers(0, 2**64 - 1))
    samples = data.draw(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=6))
    sampler = PoolSampler(
        pools.NoisePool(noise), grid, num_visible=visible, per=per, crop=crop, flip=flip, roll=roll
    )
    check(sampler, seed, samples)
    if per == "clip":
        scores = noise[:, : grid[0], : grid[1], : grid[2]].flatten(1)
        masks = pools.MaskPool.of_masks(ops.threshold(scores, visible, outputs="mask")[0], grid)
        check(PoolSampler(masks, flip=flip, roll=roll), seed, samples)


SAMPLERS = {
    "masks": PoolSampler(MASKS),
    "masks as they are": PoolSampler(MASKS, flip=""),
    "noise": PoolSampler(NOISE, GRID, 0.8),
    "noise per frame": PoolSampler(NOISE, GRID, num_visible=7, per="frame", flip="tyx"),
    "torus": PoolSampler(TORUS, GRID, 0.8),
}


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_a_mask_is_a_pure_function_of_seed_and_sample(sampler):
    samples = [0, 5, 2**63, 5, 2**64 - 1, 77]
    whole = sampler(samples)
    assert (~whole.mask).sum(1).tolist() == [sampler.visible_per_sample] * 6 == [whole.num_visible] * 6
    for i, sample in enumerate(samples):
        assert torch.equal(sampler([sample]).ids_restore[0], whole.ids_restore[i])
    assert torch.equal(sampler(batch_size=3, step=5, rank=1, world_size=2).mask, sampler(range(33, 36)).mask)
    assert not torch.equal(sampler(range(9), seed=1).mask, sampler(range(9)).mask)
    assert sampler([]).mask.shape == (0, math.prod(GRID))
    only = sampler(samples, outputs="ids_keep")
    assert only.mask is None
    assert torch.equal(only.ids_keep, whole.ids_keep)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_json_names_the_pool(sampler):
    text = sampler.to_json()
    assert smnoise.from_json(text, pool=sampler.pool) == sampler
    with pytest.raises(ValueError, match=f"{sampler.pool.sha256}: load it"):
        smnoise.from_json(text)
    other = MASKS if sampler.pool is NOISE else NOISE
    with pytest.raises(ValueError, match=f"not of {other.sha256}"):
        smnoise.from_json(text, pool=other)
    with pytest.raises(ValueError, match="not drawn from a pool"):
        smnoise.from_json(GREEN.to_json(), pool=other)


def test_a_compiled_step_draws_new_masks_each_time():
    torch._dynamo.reset()
    graphs_before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    samplers = SAMPLERS["masks"], SAMPLERS["torus"]
    streams = [smnoise.MaskStream(sampler, 4) for sampler in samplers]

    @torch.compile(fullgraph=True)
    def step():
        return [stream().ids_restore + 0 for stream in streams]

    for number in range(3):
        for found, sampler in zip(step(), samplers, strict=True):
            assert torch.equal(found, sampler(batch_size=4, step=number).ids_restore)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs_before + 1


@pytest.mark.parametrize("name", ["masks", "torus"])
def test_export_with_a_dynamic_batch(name):
    class Module(torch.nn.Module):
        def forward(self, seed, samples):
            return SAMPLERS[name](samples, seed=seed).ids_restore

    batch = torch.export.Dim("batch", min=2, max=1024)
    seed, samples = torch.tensor(5), torch.arange(100, 117)
    program = torch.export.export(Module(), (seed, samples[:3]), dynamic_shapes=(None, {0: batch}))
    assert torch.equal(program.module()(seed, samples), SAMPLERS[name](samples, seed=5).ids_restore)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_a_pickled_sampler_leaves_other_devices_behind(sampler):
    """As for the workers of a data loader."""
    sampler._on(torch.device("meta"))
    sampler.pool.on(torch.device("meta"))
    found = pickle.loads(pickle.dumps(sampler))
    assert found == sampler
    assert list(found.pool._copies) == [torch.device("cpu")]
    assert not found._tables
    assert torch.equal(found(range(5)).mask, sampler(range(5)).mask)


def test_masks_come_from_every_pattern_window_and_mirror_image():
    """A volume of distinct numbers tells where each of its values came from."""
    volume = torch.arange(2 * 4 * 5, dtype=torch.float32).view(2, 1, 4, 5)
    sampler = PoolSampler(pools.NoisePool(volume), (1, 3, 3), num_visible=1)
    scores = sampler.scores(torch.tensor(0), torch.arange(2000))
    found = {tuple(row) for row in scores.int().tolist()}
    assert len(found) == 2 * (2 * 3) * 4  # patterns, windows, flips
    counts = torch.unique(scores, dim=0, return_counts=True)[1]
    assert counts.min() > 2000 / 48 / 2.5


def test_a_roll_needs_no_seam_on_a_torus():
    assert PoolSampler(TORUS, GRID, 0.8).roll == "tyx"
    assert PoolSampler(NOISE, GRID, 0.8).roll == ""
    assert pools.build_masks(smnoise.Green3D(GRID, 0.8, boundary="wrap"), 2).periodic


def test_patterns_are_the_samplers_own():
    assert torch.equal(MASKS.masks(), GREEN(range(20)).mask)
    large = smnoise.Green3D((4, 9, 8), 0.5, seed=5)
    assert torch.equal(NOISE.data, large.noise(range(7)))
    assert pools.build_noise(GREEN, 1).size == (5, 8, 9)
    assert MASKS.source == {"sampler": json.loads(GREEN.to_json())}
    blue = smnoise.OptimBlue((8, 6), num_visible=12)
    assert torch.equal(pools.build_masks(blue, 9).masks(), blue(range(9)).mask)
    per_frame = smnoise.Green3D(GRID, 0.8, per="frame")
    assert torch.equal(pools.build_masks(per_frame, 3).masks(), per_frame(range(3)).mask)


@pytest.mark.parametrize("name", smnoise.STRATEGIES)
def test_a_pool_of_any_strategy(name):
    grid = (30,) if name.endswith("1d") else (6, 8) if "bars" in name else (4, 6, 8)
    sampler = smnoise.strategy(name, grid, 0.75)
    pool = pools.build_masks(sampler, 9)
    assert torch.equal(pool.masks(), sampler(range(9)).mask)
    check(PoolSampler(pool), 1, range(4))


def test_many_patterns_are_made_in_parts(monkeypatch, capfd):
    monkeypatch.setattr(pools.build, "CHUNK", 8 * math.prod(GRID))
    told = []
    assert pools.build_masks(GREEN, 20, progress=lambda *made: told.append(made)) == MASKS
    assert told == [(8, 20), (16, 20), (20, 20)]
    pools.build_noise(GREEN, 3, progress=True)
    assert "3/3" in capfd.readouterr().out


@pytest.mark.parametrize("pool", [MASKS, NOISE, TORUS], ids=["masks", "noise", "torus"])
def test_a_file_gives_the_same_pool_back(pool, tmp_path):
    path = tmp_path / "a.safetensors"
    pools.save(pool, path)
    found = pools.load(path)
    assert found == pool
    assert type(found) is type(pool)
    assert torch.equal(found.data, pool.data)
    assert found.header() == pool.header()
    told = pools.info(path)
    assert told == {**pool.header(), "sha256": pool.sha256, "bytes": path.stat().st_size}
    assert [f.name for f in tmp_path.iterdir()] == ["a.safetensors"]
    assert len({MASKS, NOISE, TORUS, found}) == 3


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.safetensors"
    pools.save(pools.build_masks(GREEN, 3), path)
    return path


def test_every_flipped_bit_is_refused(good):
    """In the data, in the header, in the numbers and texts of the metadata."""
    whole = good.read_bytes()
    bad = good.with_name("bad.safetensors")
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        bad.write_bytes(changed)
        with pytest.raises(PoolError, match="bad"):
            pools.load(bad)


def test_every_truncation_is_refused(good):
    whole = good.read_bytes()
    bad = good.with_name("bad.safetensors")
    for length in [*range(0, len(whole), 7), len(whole) - 1]:
        bad.write_bytes(whole[:length])
        for read in (pools.load, pools.info):
            with pytest.raises(PoolError, match="not a whole safetensors file"):
                read(bad)
    bad.write_bytes(whole + b"more")
    with pytest.raises(PoolError, match="not a whole safetensors file"):
        pools.load(bad)


def forged(good, tensors=None, **header):
    """The good file with some of its header changed, under a hash that fits, as a forger would."""
    with safe_open(good, framework="pt") as file:
        told, data = json.loads(file.metadata()["pool"]), file.get_tensor("data").clone()
    told = {k: v for k, v in {**told, **header}.items() if v is not ...}
    tensors = {"data": data} if tensors is None else tensors
    digest = hashlib.sha256(
        canonical(told).encode() + b"".join(t.numpy().tobytes() for t in tensors.values())
    )
    path = good.with_name("forged.safetensors")
    save_file(tensors, path, {"pool": canonical(told), "sha256": digest.hexdigest()})
    return path


def test_the_forger_can_write_a_good_file(good):
    assert pools.load(forged(good)) == pools.load(good)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"version": 2}, "pool of version 2, and this smnoise reads 1"),
        ({"version": True}, "pool of version True"),
        ({"contract": 2}, "pool of contract 2, and this smnoise reads 1"),
        ({"format": "another"}, "no pool of smnoise"),
        ({"format": ...}, "no pool of smnoise"),
        ({"kind": "noises"}, "no header has"),
        ({"kind": ["noise"]}, "no header has"),
        ({"kind": "noise"}, "F32"),
        ({"patterns": 4}, "4 patterns"),
        ({"size": [3, 5, 7]}, "14"),
        ({"size": [3, 6, 5, 1]}, "three integers"),
        ({"size": [2**40, 2**40, 2**40]}, "must be in"),
        ({"size": None}, "three integers"),
        ({"num_visible": 18}, "show 18 of 90"),
        ({"num_visible": None}, "num_visible must be an integer"),
        ({"num_visible": ...}, "no header has"),
        ({"periodic": 1}, "periodic"),
        ({"surplus": 1}, "no header has"),
    ],
)
def test_a_header_that_cannot_be_is_refused(good, header, words):
    with pytest.raises(PoolError, match=words):
        pools.load(forged(good, **header))


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({}, "must hold one tensor"),
        ({"data": torch.zeros(3, 12, dtype=torch.uint8), "more": torch.zeros(1)}, "must hold one tensor"),
        ({"data": torch.zeros(3, 12)}, "U8"),
        ({"data": torch.zeros(3, 12, dtype=torch.uint8)}, "must show 17 of 90 tokens"),
        ({"data": torch.full((3, 12), 255, dtype=torch.uint8)}, "must show 17 of 90 tokens"),
        ({"data": torch.zeros((), dtype=torch.uint8)}, "3 patterns"),
    ],
)
def test_data_that_cannot_be_is_refused(good, tensors, words):
    with pytest.raises(PoolError, match=words):
        pools.load(forged(good, tensors))


def test_noise_that_is_not_finite_is_refused(tmp_path):
    path = tmp_path / "noise.safetensors"
    pools.save(NOISE, path)
    data = NOISE.data.clone()
    data[3, 0, 0, 0] = math.nan
    with pytest.raises(PoolError, match="volume 3 holds a NaN"):
        pools.load(forged(path, {"data": data}))


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(PoolError, match=r"no pool of smnoise; pools are written by pools\.save"):
        pools.load(path)
    save_file({"data": torch.zeros(3)}, path, {"pool": "[" * 100_000, "sha256": ""})
    with pytest.raises(PoolError, match="no pool of smnoise"):
        pools.load(path)
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(PoolError, match="not a whole safetensors file"):
        pools.load(path)
    claims = {"data": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}}
    text = json.dumps(claims).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(PoolError, match="not a whole safetensors file"):
        pools.load(path)
    pools.save(MASKS, path)
    with pytest.raises(PoolError, match="raise max_bytes"):
        pools.load(path, max_bytes=100)
    with pytest.raises(FileNotFoundError):
        pools.load(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        pools.load(tmp_path)


SAVE = """
import resource, signal, sys, torch
from smnoise import pools
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
if sys.argv[2] == "kill":
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # now the system kills who writes more
pools.save(pools.NoisePool(torch.ones(100, 4, 40, 40)), sys.argv[1])
"""


@pytest.mark.parametrize("how", ["fail", "kill"])
def test_a_save_that_stops_half_way_leaves_the_old_file(good, how):
    """A disk that is full after 100 kB, and a process that is killed there."""
    before = good.read_bytes()
    done = subprocess.run([sys.executable, "-c", SAVE, str(good), how], capture_output=True, text=True)
    if how == "kill":
        assert done.returncode == -signal.SIGXFSZ
    else:
        assert done.returncode == 1
        assert "PoolError: cannot write pool" in done.stderr
        assert [f.name for f in good.parent.iterdir()] == [good.name]
    assert good.read_bytes() == before
    assert len(pools.load(good)) == 3


def test_a_folder_that_is_missing_is_made_and_one_that_cannot_be_is_said(tmp_path):
    pools.save(MASKS, tmp_path / "missing" / "a.safetensors")
    assert pools.load(tmp_path / "missing" / "a.safetensors") == MASKS
    with pytest.raises(PoolError, match=r"cannot write pool .*a\.safetensors is a file"):
        pools.save(MASKS, tmp_path / "missing" / "a.safetensors" / "b.safetensors")


STACK = np.random.default_rng(0).standard_normal((6, 20, 30))


def npz(path, compress=True, **arrays):
    (np.savez_compressed if compress else np.savez)(path, **arrays)
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int16", ">f4"])
@pytest.mark.parametrize("compress", [True, False])
def test_a_stack_of_colormae_is_a_pool(tmp_path, dtype, compress):
    stack = (STACK * 30 + 90).astype(dtype)
    pool = pools.load_colormae(npz(tmp_path / "green_noise_data_6.npz", compress, anything=stack))
    assert pool.size == (1, 20, 30)
    np.testing.assert_array_equal(pool.data[:, 0].numpy(), stack.astype(np.float32))
    check(PoolSampler(pool, (1, 14, 14), 0.75), 0, range(8))
    pools.save(pool, tmp_path / "a.safetensors")
    assert pools.load(tmp_path / "a.safetensors") == pool
    assert pool.source == {
        "colormae": "green_noise_data_6.npz",
        "array": "anything",
        "dtype": stack.dtype.name,
    }


def test_a_named_array_and_columns_first(tmp_path):
    path = npz(tmp_path / "a.npz", x=np.asfortranarray(STACK), y=STACK[:2])
    np.testing.assert_array_equal(pools.load_colormae(path, "x").data[:, 0], STACK.astype(np.float32))
    assert len(pools.load_colormae(path, "y")) == 2
    with pytest.raises(PoolError, match="or give its name; it has: x, y"):
        pools.load_colormae(path)
    with pytest.raises(PoolError, match="no array 'z'; it has: x, y"):
        pools.load_colormae(path, "z")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (STACK[0], r"shape \[patterns, height, width\]"),
        (STACK[None], r"shape \[patterns, height, width\]"),
        (STACK[:0], r"shape \[patterns, height, width\]"),
        (STACK > 0, "not bool"),
        (STACK * 1j, "not complex128"),
        (STACK.astype(np.int64), "not int64"),
        (STACK.astype(str), "must hold floats"),
        (np.array([[[{}]]], dtype=object), "not object"),
        (np.zeros((2, 3, 3), [("a", "f4")]), "must hold floats"),
        (np.where(STACK > 2, np.nan, STACK), "NaN"),
        (STACK * 1e300, "an infinity"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_arrays_that_are_no_stack_are_refused(tmp_path, array, words):
    with pytest.raises(PoolError, match=words):
        pools.load_colormae(npz(tmp_path / "a.npz", a=array))


def archive(path, *entries: tuple[str, bytes]):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries:
            file.writestr(name, data)
    return path


def npy(shape, dtype, data: bytes = b"") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream,
        {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape},
    )
    return stream.getvalue() + data


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([], "it has: none"),
        ([("readme.txt", b"hello")], "it has: none"),
        ([("a.npy", b"")], "no array"),
        ([("a.npy", b"hello")], "no array"),
        ([("a.npy", b"\x93NUMPY\x09\x00" + b"x" * 100)], "no array"),
        ([("a.npy", b"\x93NUMPY\x01\x00\x10\x00" + b"{" * 16)], "no array"),
        ([("a.npy", npy((2**40, 2**20, 2**20), "f4"))], "claims"),
        ([("a.npy", npy((2, 3, 3), "f4", b"1234"))], "claims"),
        ([("a.npy", npy((-2, -3, 3), "f4", b"x" * 72))], "shape"),
        ([(f"{i}.npy", b"") for i in range(1001)], "1001 entries"),
    ],
)
def test_archives_that_hold_no_stack_are_refused(tmp_path, entries, words):
    with pytest.raises(PoolError, match=words):
        pools.load_colormae(archive(tmp_path / "a.npz", *entries))


def test_a_zip_bomb_is_refused_unread(tmp_path):
    bomb = archive(tmp_path / "a.npz", ("a.npy", npy((1, 2**11, 2**11), "f4", bytes(2**24))))
    assert bomb.stat().st_size < 2**16
    with pytest.raises(PoolError, match="raise max_bytes if you trust it"):
        pools.load_colormae(bomb, max_bytes=2**24)
    whole = bytearray(bomb.read_bytes())
    claim = struct.pack("<I", 2**24 + 128)  # its size, in the directory and at the entry
    assert whole.count(claim) == 2
    bomb.write_bytes(whole.replace(claim, struct.pack("<I", 2**10)))
    with pytest.raises(PoolError, match="Bad CRC"):
        pools.load_colormae(bomb, max_bytes=2**24)


MEASURE = """
import resource, sys
from smnoise import PoolError, pools
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try: print(len(pools.load_colormae(sys.argv[1], max_bytes=int(sys.argv[2]))), end=" ")
except PoolError: print("refused", end=" ")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float64"])
def test_a_limit_is_of_the_memory_that_a_pool_takes(tmp_path, dtype, order):
    """32 MiB as float32, whatever the file has; of that a quarter is more than all else that is needed on the way."""
    stack = np.ones((512, 128, 128), dtype, order)
    path, needed = npz(tmp_path / "a.npz", a=stack), 4 * stack.size
    limit = max(needed, stack.nbytes + 1024)
    for most, said in ((limit, "512"), (needed - 1, "refused")):
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(path), str(most)], capture_output=True, text=True, check=True
        )
        found, kibibytes = done.stdout.split()
        assert found == said
        assert int(kibibytes) < (1.25 * needed / 1024 if said == "512" else 4096)


def test_slices_of_any_order_and_size_are_the_array(tmp_path, monkeypatch):
    for most in (1, 100, 7777):
        monkeypatch.setattr("smnoise.pools.colormae.SLICE_BYTES", most)
        for order in (STACK, np.asfortranarray(STACK), STACK.astype(">f4")):
            pool = pools.load_colormae(npz(tmp_path / "a.npz", a=order))
            np.testing.assert_array_equal(pool.data[:, 0].numpy(), order.astype(np.float32))


def test_a_list_of_a_million_entries_is_not_read(tmp_path, monkeypatch):
    path = npz(tmp_path / "a.npz", a=STACK)
    monkeypatch.setattr("smnoise.pools.colormae.MOST_LIST_BYTES", 10)
    with pytest.raises(PoolError, match="lists entries in"):
        pools.load_colormae(path)


@pytest.mark.parametrize("at", [0, 5, 11])
def test_what_is_wrong_is_found_in_any_slice(monkeypatch, at):
    monkeypatch.setattr("smnoise.pools.pool.SLICE_BYTES", 100)
    noise = torch.zeros(12, 2, 3, 4)
    noise[at, 1, 2, 3] = math.nan
    with pytest.raises(ValueError, match=f"volume {at} holds"):
        pools.NoisePool(noise)
    masks = torch.zeros(12, 3, dtype=torch.uint8)
    masks[:, 0] = 7
    masks[at, 1] = 1
    with pytest.raises(ValueError, match=f"mask {at} has 4 bits"):
        pools.MaskPool(masks, (2, 3, 4), 21)


def test_every_damage_to_an_archive_is_refused(tmp_path):
    """Where nobody reads, such as in dates, a flipped bit may pass, with the same array."""
    path = npz(tmp_path / "good.npz", a=STACK[:2, :4, :5].astype(np.float32))
    whole, want = path.read_bytes(), pools.load_colormae(path).data
    bad, passed = tmp_path / "bad.npz", []
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        bad.write_bytes(changed)
        try:
            found = pools.load_colormae(bad).data
        except PoolError:
            continue
        assert torch.equal(found, want)
        passed.append(at)
    with zipfile.ZipFile(path) as file:
        (entry,) = file.infolist()
        data = range(file.start_dir - entry.compress_size, file.start_dir - 1)  # the last byte is padded
    assert not set(passed) & set(data)
    for length in range(0, len(whole), 5):
        bad.write_bytes(whole[:length])
        with pytest.raises(PoolError, match=r"no whole \.npz file"):
            pools.load_colormae(bad)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: pools.build_masks(GREEN, 0), ValueError, "number of patterns"),
        (lambda: pools.build_masks(GREEN, 2.0), TypeError, "integer"),
        (lambda: pools.build_masks("Green3D", 2), TypeError, "smnoise's"),
        (lambda: pools.build_noise(smnoise.OptimBlue((4, 4), 0.5), 2), TypeError, "use build_masks"),
        (lambda: pools.build_noise(GREEN, 2, (4, 4)), ValueError, "three integers"),
        (lambda: pools.build_noise(GREEN, 2, (1, 1, 1)), ValueError, "two tokens"),
        (lambda: pools.MaskPool(torch.zeros(2, 3), (2, 3, 4), 5), TypeError, "uint8"),
        (lambda: pools.MaskPool(torch.zeros(2, 4, dtype=torch.uint8), (2, 3, 4), 5), ValueError, r"\[K, 3\]"),
        (lambda: pools.MaskPool(torch.zeros(0, 3, dtype=torch.uint8), (2, 3, 4), 5), ValueError, "1 to"),
        (lambda: pools.MaskPool(MASKS.data, GRID, 16), ValueError, "mask 0 has 73 bits"),
        (lambda: pools.MaskPool(MASKS.data, GRID, 90), ValueError, "89 of the 90"),
        (lambda: pools.MaskPool.of_masks(torch.zeros(2, 90), GRID), TypeError, "bool"),
        (lambda: pools.MaskPool.of_masks(torch.eye(90).bool()[:2, :80], GRID), ValueError, r"\[K, 12\]"),
        (lambda: pools.NoisePool(torch.zeros(2, 3, 4)), ValueError, r"\[K, T, H, W\]"),
        (lambda: pools.NoisePool(torch.zeros(2, 3, 4, 4).double()), TypeError, "float32"),
        (lambda: pools.NoisePool(torch.full((2, 3, 4, 4), math.inf)), ValueError, "volume 0"),
        (lambda: pools.NoisePool(torch.zeros(2, 0, 4, 4)), ValueError, "grid T"),
        (lambda: pools.NoisePool(torch.zeros(2, 3, 4, 4), source={1, 2}), TypeError, "JSON"),
        (lambda: pools.MaskPool(MASKS.data.numpy(), GRID, 17), TypeError, "torch.from_numpy"),
        (
            lambda: pools.MaskPool.of_masks([[True, False]], GRID),
            TypeError,
            "must be a tensor, got a Python list",
        ),
        (lambda: pools.NoisePool(None), TypeError, "must be a tensor, got None"),
        (lambda: pools.save("pool", "a"), TypeError, "MaskPool"),
        (lambda: PoolSampler("pool", GRID, 0.9), TypeError, "MaskPool or a NoisePool"),
        (
            lambda: PoolSampler(NOISE, (5, 5, 6), 0.9),
            ValueError,
            r"fit into that of the pool's patterns, \(4, 9",
        ),
        (lambda: PoolSampler(MASKS, (3, 5, 5)), ValueError, "must be that"),
        (lambda: PoolSampler(NOISE, GRID), ValueError, "mask_ratio or num_visible"),
        (lambda: PoolSampler(NOISE, GRID, 0.9, num_visible=9), ValueError, "just one"),
        (lambda: PoolSampler(NOISE, GRID, num_visible=90), ValueError, "89 of the 90"),
        (lambda: PoolSampler(MASKS, num_visible=18), ValueError, "show 17 of 90"),
        (lambda: PoolSampler(MASKS, num_visible=17.0), TypeError, "num_visible must be an integer"),
        (lambda: PoolSampler(MASKS, mask_ratio=0.5), ValueError, "show 17 of 90"),
        (lambda: PoolSampler(MASKS, per="frame"), ValueError, "show 17 of 30"),
        (lambda: PoolSampler(NOISE, GRID, 0.9, per="row"), ValueError, "clip, frame"),
        (lambda: PoolSampler(MASKS, crop="x"), ValueError, "cannot be cropped"),
        (lambda: PoolSampler(MASKS, flip="z"), ValueError, "flip must be axes"),
        (lambda: PoolSampler(MASKS, flip="xx"), ValueError, "at most once"),
        (lambda: PoolSampler(MASKS, roll=True), TypeError, "roll must be axes"),
        (lambda: PoolSampler(MASKS, seed=-1), ValueError, "seed"),
    ],
)
def test_what_cannot_be_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_axes_in_any_order_are_the_same_sampler():
    assert PoolSampler(NOISE, GRID, 0.9, flip="xt") == PoolSampler(NOISE, GRID, 0.9, flip="tx")
