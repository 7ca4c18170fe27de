# SPDX-License-Identifier: Apache-2.0
"""ColorMAE's stacks of noise as pools: any array that is one, and refusals of what is none."""

import io
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from smnoise import PoolError, PoolSampler, pools

from .drawn import check

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
