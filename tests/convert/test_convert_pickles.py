# SPDX-License-Identifier: Apache-2.0
"""Pickles of others: what official programs write beside the weights, and what means harm."""

import argparse
import builtins
import collections
import dataclasses
import datetime
import decimal
import enum
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import threading
import types
import typing
import uuid
import warnings
import zipfile

import numpy as np
import pytest
import torch

from smnoise.convert import convert_files, read
from smnoise.errors import CheckpointError

from .official import official_video, same_bits, save_official

STATE = official_video()
FORMATS = {"zip": {}, "before 1.6": {"_use_new_zipfile_serialization": False}}


class Mode(enum.Enum):
    TUBE = "tube"


class Level(enum.IntFlag):
    LOW, HIGH = 1, 2


@dataclasses.dataclass
class Settings:
    lr: float = 1e-3
    out: pathlib.PurePath | None = None


class Nested(dict):
    """As EasyDict, yacs and OmegaConf are: a dict with attributes."""

    def __init__(self, **values):
        super().__init__(values)
        self.frozen = True


class Steps(list):
    pass


Pair = collections.namedtuple("Pair", "a b")

# What argument parsers, schedules, loaders and loggers leave in checkpoints.
BESIDE = {
    "numbers": [np.float64(1e-3), np.float32(2), np.int64(3), np.bool_(True), np.str_("a"), np.complex64(1j)],
    "dates of NumPy": [np.datetime64("2020-01-01"), np.timedelta64(3, "s")],
    "a record": np.zeros(1, [("a", "f4")])[0],
    "arrays": [np.arange(5), np.asfortranarray(np.ones((2, 3))), np.array([1, "a", None], dtype=object)],
    "dtypes": [np.dtype("int64"), type(np.dtype("i8")), np.float32],
    "generators": [np.random.RandomState(0), np.random.default_rng(0), np.random.SeedSequence(1)],
    "their states": [np.random.RandomState(0).get_state(), random.getstate(), torch.get_rng_state()],
    "paths": [pathlib.PosixPath("/a"), pathlib.PureWindowsPath("c:/x"), pathlib.PurePosixPath("x")],
    "arguments": argparse.Namespace(output_dir=pathlib.PosixPath("/a"), lr=np.float64(1)),
    "dates": [datetime.datetime.now(datetime.timezone.utc), datetime.date.today(), datetime.timedelta(1)],
    "enums": {Mode.TUBE: Level.LOW | Level.HIGH},
    "containers": [
        collections.defaultdict(list, a=[1]),
        collections.deque([1, 2]),
        collections.Counter("ab"),
    ],
    "configs": [
        Settings(out=pathlib.PurePosixPath("a")),
        Nested(a=Nested(b=1)),
        types.SimpleNamespace(a=1),
        Steps([1, 2]),
        Pair(1, 2),
    ],
    "types": [int, dict, type(None), typing.Any, typing.Optional[int], typing.Dict[str, int]],  # noqa: UP006, UP045
    "others": [
        decimal.Decimal("1.5"),
        uuid.uuid4(),
        range(3),
        slice(1),
        frozenset([1]),
        1j,
        2**90,
        ...,
        b"a",
    ],
    "of torch": [torch.float32, torch.device("cuda"), torch.Size([1])],
}


def with_beside(path, value, **options):
    groups = [{"lr": value, "weight_decay": value}]
    beside = {"optimizer": {"state": {}, "param_groups": groups}, "args": value, "epoch": 799}
    torch.save({"model": STATE, **beside}, path, **options)
    return path


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("what", BESIDE)
def test_what_programs_save_beside_the_weights_is_in_nobodys_way(tmp_path, what, form):
    path = with_beside(tmp_path / "checkpoint.pth", BESIDE[what], **FORMATS[form])
    known = set(torch.serialization.get_safe_globals())
    assert same_bits(read(path).state, STATE)
    assert set(torch.serialization.get_safe_globals()) == known


def renamed(path, old, new):
    """The file with a global of its pickle under another name, as another version of a package writes it."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            assert not name.endswith("data.pkl") or old in data
            archive.writestr(name, data.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("value", "old", "new"),
    [
        (np.float64(1), b"cnumpy._core.multiarray\nscalar", b"cnumpy.core.multiarray\nscalar"),
        (np.arange(3), b"cnumpy._core.multiarray\n_reconstruct", b"cnumpy.core.multiarray\n_reconstruct"),
        (pathlib.PosixPath("/a"), b"cpathlib\nPosixPath", b"cpathlib._local\nPosixPath"),
        (pathlib.PosixPath("/a"), b"cpathlib\nPosixPath", b"cpathlib\nWindowsPath"),
        (Settings(), Settings.__module__.encode() + b"\nSettings", b"absent.package\nTrainConfig"),
        (Nested(a=1), Nested.__module__.encode() + b"\nNested", b"omegaconf.dictconfig\nDictConfig"),
    ],
)
def test_names_of_other_versions_and_of_packages_that_are_not_here(tmp_path, value, old, new):
    path = with_beside(tmp_path / "c.pth", value)
    if old.startswith(b"cnumpy._core") and np.lib.NumpyVersion(np.__version__) < "2.0.0":
        old = new
    assert same_bits(read(renamed(path, old, new)).state, STATE)


def test_a_stand_in_takes_the_place_of_what_the_process_allows_itself(tmp_path):
    path = with_beside(tmp_path / "c.pth", pathlib.PosixPath("/a"))
    own = [(os.system, "pathlib.PosixPath"), argparse.Namespace]
    with torch.serialization.safe_globals(own):
        assert same_bits(read(path).state, STATE)
        assert set(own) <= set(torch.serialization.get_safe_globals())


def test_threads_that_read_do_not_take_each_others_names_away(tmp_path):
    paths = [with_beside(tmp_path / f"{i}.pth", value) for i, value in enumerate(BESIDE.values())]
    found = {}
    threads = [
        threading.Thread(target=lambda path=path: found.update({path: same_bits(read(path).state, STATE)}))
        for path in paths
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(paths, True)


class Call:
    def __init__(self, function, *arguments):
        self.it = function, arguments

    def __reduce__(self):
        return self.it


EVIL = {
    "os.system": (os.system, "true"),
    "eval": (eval, "1"),
    "exec": (exec, "1"),
    "open": (open, "boom", "w"),
    "import": (builtins.__import__, "os"),
    "getattr": (getattr, "a", "upper"),
    "popen": (subprocess.Popen, ["true"]),
    "rmtree": (shutil.rmtree, "boom"),
    "unlink": (pathlib.Path.unlink, pathlib.PosixPath("boom")),
    "numpy.load": (np.load, "boom"),
    "numpy.save": (np.save, "boom", 1),
    "numpy.memmap": (np.memmap, "boom", "f4", "w+", 0, (1,)),
    "numpy.ones": (np.ones, 10**12),
    "numpy.fromfile": (np.fromfile, "boom"),
    "torch.load": (torch.load, "boom"),
    "torch.ones": (torch.ones, 10**12),
    "bytearray": (bytearray, 10**12),
    "partial": (__import__("functools").partial, print),
    "attrgetter": (__import__("operator").attrgetter, "a"),
    "ours": (convert_files, "boom", "bang"),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("what", EVIL)
def test_functions_are_refused_wherever_they_stand(tmp_path, monkeypatch, what, form):
    monkeypatch.chdir(tmp_path)
    path = with_beside(tmp_path / "evil.pth", Call(*EVIL[what]), **FORMATS[form])
    with pytest.raises(CheckpointError, match="nothing in it was run: it asks for"):
        read(path)
    assert os.listdir(tmp_path) == ["evil.pth"]


@pytest.mark.parametrize("protocol", [0, 1, 3, 4, 5])
@pytest.mark.parametrize("form", FORMATS)
def test_other_protocols_of_pickle_are_read_or_named(tmp_path, protocol, form):
    path = with_beside(tmp_path / "c.pth", "a", pickle_protocol=protocol, **FORMATS[form])
    try:
        assert same_bits(read(path).state, STATE)
    except CheckpointError as error:
        assert "pickle_protocol as it is" in str(error)  # noqa: PT017


def rewritten(path, change, compression=zipfile.ZIP_STORED):
    """The archive with each entry put through change(name, data), a list of pairs."""
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of two entries of one name
        for name, data in entries:
            for pair in change(name, data):
                archive.writestr(*pair)


def overlapping(data: bytes) -> bytes:
    """The archive whose second entry is said to be where the first one is."""
    directory = data.rindex(b"PK\x05\x06")
    start = struct.unpack("<L", data[directory + 16 : directory + 20])[0]
    second = data.index(b"PK\x01\x02", start + 4)
    return data[: second + 42] + bytes(4) + data[second + 46 :]


def another_directory(data: bytes) -> bytes:
    """A second archive behind the first: programs differ in which of two lists they read."""
    return data + data


DAMAGE = {
    "deflated": (lambda path: rewritten(path, lambda *e: [e], zipfile.ZIP_DEFLATED), "compressed entry"),
    "twice": (lambda path: rewritten(path, lambda *e: [e, e]), "two entries of one name"),
    "shorter": (lambda path: rewritten(path, lambda n, d: [(n, d[:-4] if "/data/3" in n else d)]), "size"),
    "no pickle": (lambda path: rewritten(path, lambda n, d: [] if "data.pkl" in n else [(n, d)]), "it holds"),
    "overlap": (lambda path: path.write_bytes(overlapping(path.read_bytes())), "overlap|checksum|whole"),
    "two lists": (lambda path: path.write_bytes(another_directory(path.read_bytes())), "two lists"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:-30]), "fetch it again"),
    "more behind": (lambda path: path.write_bytes(path.read_bytes() + bytes(22)), "fetch it again"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_archives_that_torch_does_not_write(tmp_path, what):
    damage, words = DAMAGE[what]
    damage(save_official(tmp_path / "a.pth"))
    with pytest.raises(CheckpointError, match=words):
        read(tmp_path / "a.pth")


def test_a_bomb_of_zeros_takes_no_memory(tmp_path):
    path = tmp_path / "bomb.pth"
    torch.save({"model": {"a": torch.zeros(1 << 26)}}, path)
    rewritten(path, lambda *entry: [entry], zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    code = (
        "import resource, sys; from smnoise.convert import read; from smnoise import CheckpointError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: read(sys.argv[1])\n"
        "except CheckpointError: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 32 << 10  # KiB, of 256 MiB


def test_every_bit_of_the_weights_is_under_a_checksum(tmp_path):
    path = save_official(tmp_path / "a.pth")
    whole, place = path.read_bytes(), random.Random(3)
    for _ in range(100):
        changed, at = bytearray(whole), place.randrange(len(whole))
        changed[at] ^= 1 << place.randrange(8)
        path.write_bytes(changed)
        try:
            assert same_bits(read(path).state, STATE)
        except CheckpointError:
            continue


def test_archives_without_checksums_are_read(tmp_path):
    try:
        torch.serialization.set_crc32_options(False)
        path = save_official(tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert same_bits(read(path).state, STATE)


class Claim:
    """A tensor of more numbers than its storage has."""

    def __init__(self, count):
        self.count, self.storage = count, torch.FloatTensor(4).untyped_storage()
        self.storage = torch.storage.TypedStorage(
            wrap_storage=self.storage, dtype=torch.float32, _internal=True
        )

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, (self.storage, 0, (self.count,), (1,), False, None)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("count", [5, 10**6, 10**9, -1, 2**62])
def test_no_number_comes_from_nowhere(tmp_path, form, count):
    state = STATE | {"mask_token": Claim(count)}
    torch.save({"model": state}, tmp_path / "a.pth", **FORMATS[form])
    with pytest.raises(CheckpointError):
        read(tmp_path / "a.pth")
