# SPDX-License-Identifier: Apache-2.0
"""Files of pools: the same pool back, and every damaged or forged file refused."""

import hashlib
import json
import math
import signal
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from smnoise import PoolError, pools
from smnoise.pools.pool import canonical

from .drawn import GREEN, MASKS, NOISE, TORUS


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
