# SPDX-License-Identifier: Apache-2.0
"""Files of others: what official programs write beside the weights, what is no weights, and what means harm."""

import argparse
import builtins
import collections
import dataclasses
import datetime
import decimal
import enum
import gzip
import io
import json
import os
import pathlib
import pickle
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
from official import GLOBAL, VIDEO, WIDTHS, official_audio, official_video, same_bits, save_official
from safetensors.torch import save_file

from smnoise.convert import convert_files, load_model, read
from smnoise.convert.states import unwrapped
from smnoise.errors import CheckpointError

STATE = official_video()
FORMATS = {"zip": {}, "before 1.6": {"_use_new_zipfile_serialization": False}}


class Mode(enum.Enum):
    TUBE = "tube"


class Level(enum.IntFlag):
    LOW, HIGH = 1, 2


@dataclasses.dataclass
class Settings:
    lr: float = 1e-3
    out: pathlib.PurePath = pathlib.PurePosixPath("a")


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
    "configs": [Settings(), Nested(a=Nested(b=1)), types.SimpleNamespace(a=1), Steps([1, 2]), Pair(1, 2)],
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


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=np.ones(3))
    return stream.getvalue()


LOOKS = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "git lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s3--00", "git annex get"),
    "page": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "web site"),
    "old page": (b"<HTML><HEAD>", "web site"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "web site"),
    "answer": (b'{"error": "not found"}', "JSON"),
    "text": (b"Access denied\n", "text"),
    "empty": (b"", "empty"),
    "zeros": (bytes(4096), "zeros"),
    "gzip": (gzip.compress(b"a"), "gzip"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(90), "HDF5"),
    "npy": (b"\x93NUMPY\x01\x00", "NumPy"),
    "npz": (npz(), "it holds a.npy"),
    "pickle": (pickle.dumps({"a": 1}, 2), "not of torch.save"),
    "noise": (b"\x07\x99\xfe\x01" * 20, "neither safetensors nor"),
}


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.ckpt"])
@pytest.mark.parametrize("what", LOOKS)
def test_files_that_are_something_else_are_named(tmp_path, what, name):
    content, words = LOOKS[what]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read(tmp_path / name)


def test_the_content_decides_not_the_name(tmp_path):
    save_file(STATE, tmp_path / "a.pth")
    torch.save({"state_dict": STATE}, tmp_path / "b.safetensors")
    torch.save({"model_state_dict": {"model": STATE}}, tmp_path / "c.pth.tar")
    for name in ("a.pth", "b.safetensors", "c.pth.tar"):
        assert same_bits(read(tmp_path / name).state, STATE)


def safetensors_of(header, data=bytes(16)) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        safetensors_of({"a": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}}),
        safetensors_of({n: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for n in "ab"}),
        safetensors_of({"a": {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}}),
        safetensors_of({"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}),
        safetensors_of({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 15]}}),
        safetensors_of({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(15)),
        safetensors_of({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(17)),
        safetensors_of({"a": 1}),
        struct.pack("<Q", 10**8) + b"{" + bytes(16),
        struct.pack("<Q", 2**33) + b"{" + bytes(16),
    ],
)
def test_headers_of_safetensors_that_lie(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        read(tmp_path / "a.safetensors")


def test_things_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    for path in (tmp_path / "pipe.pth", pathlib.Path("/dev/zero")):
        with pytest.raises(CheckpointError, match="must be a folder, or end in"):
            read(path)


def parts_of(folder, places, files=None):
    """A folder as transformers writes large models."""
    folder.mkdir()
    for name in set(places.values()) if files is None else files:
        save_file({key: STATE[key] for key, value in places.items() if value == name}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def test_a_folder_of_parts_is_read_and_what_its_index_lists_is_checked(tmp_path):
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    places = {key: names[i % 2] for i, key in enumerate(STATE)}
    folder = parts_of(tmp_path / "good", places)
    assert same_bits(read(folder).state, STATE)
    with pytest.raises(CheckpointError, match="more than the limit"):
        read(folder, max_bytes=10_000)
    (folder / names[1]).unlink()
    with pytest.raises(CheckpointError, match="are not there"):
        read(folder)
    save_file({"x": torch.ones(1)}, folder / names[1])
    with pytest.raises(CheckpointError, match="is not the file that"):
        read(folder)
    for number, where in enumerate(["../good/" + names[0], "/etc/passwd", "..", "", "a/b.safetensors"]):
        with pytest.raises(CheckpointError, match="no name of a file"):
            read(parts_of(tmp_path / f"bad {number}", dict.fromkeys(STATE, where), []))
    for text in ("{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', "[" * 100_000):
        (folder / "model.safetensors.index.json").write_text(text)
        with pytest.raises(CheckpointError, match="index"):
            read(folder)


def test_folders_of_other_programs_are_named(tmp_path):
    folders = {
        "mp_rank_00_model_states.pt": "DeepSpeed checkpoint: name .*mp_rank_00",
        "zero_pp_rank_0_mp_rank_00_model_states.pt": "ZeRO stage 3",
        "global_step10/latest": "DeepSpeed checkpoints: name .*global_step10",
        "__0_0.distcp": "dcp_to_torch",
        "shard-00001-model-00001-of-00001.safetensors": "without its manifest",
        "flax_model.msgpack": "another framework",
        "log.jsonl": "no checkpoint yet",
        "checkpoint-799.pth": "name a file of it, such as .*checkpoint-799.pth",
    }
    for number, (file, words) in enumerate(folders.items()):
        folder = tmp_path / str(number)
        (folder / file).parent.mkdir(parents=True)
        (folder / file).write_bytes(b"")
        with pytest.raises(CheckpointError, match=f"neither.*{words}"):
            read(folder)


def test_the_heads_of_our_own_small_models_come_along(tmp_path):
    """nano's 4 heads of 16 are no published ones, and an official file would be read with 1."""
    config = dataclasses.replace(VIDEO, size=dataclasses.replace(VIDEO.size, width=64, heads=4))
    torch.manual_seed(0)
    state = config.build().state_dict()
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps({"smnoise": 1, "model": "videomae", **dataclasses.asdict(config)})
    )
    convert_files(tmp_path, tmp_path / "official.pth", "official")
    assert load_model(tmp_path / "official.pth").size == config.size
    raw = torch.load(tmp_path / "official.pth", weights_only=True)
    assert set(raw) == {"model", "smnoise"}


def test_lightnings_prefix_is_cut_off(tmp_path):
    wrapped = {f"net.model.{name}": tensor for name, tensor in STATE.items()}
    hyper = Nested(model=Nested(lr=1e-3))
    torch.save({"pytorch-lightning_version": "2.5", "state_dict": wrapped, "hyper_parameters": hyper, "callbacks": {}},
               tmp_path / "last.ckpt")  # fmt: skip
    assert same_bits(unwrapped(read(tmp_path / "last.ckpt").state), STATE)
    assert load_model(tmp_path / "last.ckpt", grid=VIDEO.grid, **WIDTHS).grid == VIDEO.grid


def state_of(prefixes):
    return {name: tensor for name, tensor in STATE.items() if name.startswith(prefixes)}


def image(channels=3, **more):
    return {
        "patch_embed.proj.weight": torch.ones(8, channels, 4, 4),
        "blocks.0.norm1.weight": torch.ones(8),
        **more,
    }


def video(**more):
    return {
        "patch_embed.proj.weight": torch.ones(8, 3, 2, 4, 4),
        "blocks.0.norm1.weight": torch.ones(8),
        **more,
    }


HEAD = {"head.weight": torch.ones(5, 8), "fc_norm.weight": torch.ones(8)}
DECODER = {"decoder_embed.weight": torch.ones(4, 8), "decoder_pred.weight": torch.ones(48, 4)}
OURS = VIDEO.build().state_dict()
OTHERS = {
    "fine-tuned VideoMAE": (video(**HEAD), "fine-tuned VideoMAE.*with its decoder"),
    "its encoder": (video(), "encoder of a VideoMAE.*with its decoder"),
    "the encoder of pretraining": (state_of("encoder."), "encoder of a VideoMAE.*with its decoder"),
    "MAE-ST": (video(**DECODER), "MAE-ST"),
    "image MAE": (image(**DECODER), "an image MAE.*not of pictures"),
    "image MAE in VideoMAE's names": (
        STATE | {"encoder.patch_embed.proj.weight": torch.ones(8, 3, 4, 4)},
        "an image MAE",
    ),
    "ViT": (image(**HEAD), "image model.*not of pictures"),
    "fine-tuned AudioMAE": (image(1, **HEAD), "fine-tuned AudioMAE.*with its decoder"),
    "its encoder ": (image(1), "encoder of sounds alone"),
    "AST": ({"module.v.patch_embed.proj.weight": torch.ones(8, 1, 4, 4)}, "Audio Spectrogram Transformer"),
    "CAV-MAE": ({"patch_embed_a.proj.weight": torch.ones(8, 1, 4, 4)}, "CAV-MAE"),
    "EAT": ({"modality_encoders.IMAGE.local_encoder.proj.weight": torch.ones(1)}, "EAT"),
    "ViTMAE": ({"vit.embeddings.patch_embeddings.projection.weight": torch.ones(8, 3, 4, 4)}, "ViTMAE"),
    "fine-tuned HF": (
        {
            "videomae.embeddings.patch_embeddings.projection.weight": torch.ones(8, 3, 2, 4, 4),
            "classifier.weight": torch.ones(5, 8),
        },
        "fine-tuned VideoMAE",
    ),
    "HF encoder": (
        {"embeddings.patch_embeddings.projection.weight": torch.ones(8, 3, 2, 4, 4)},
        "encoder of a",
    ),
    "our classifier": (
        {"encoder.embed.weight": torch.ones(8, 96), "head.weight": torch.ones(5, 8)},
        "fine-tuned model of smnoise",
    ),
    "our encoder": (
        {n: t for n, t in OURS.items() if n.startswith(("embed", "encoder"))},
        "encoder of smnoise",
    ),
    "nothing known": ({"layers.0.weight": torch.ones(1)}, "begins with layers.0.weight"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_weights_of_other_models_are_named(tmp_path, what):
    state, words = OTHERS[what]
    torch.save({"model": state}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=words) as error:
        load_model(tmp_path / "a.pth")
    assert str(error.value).startswith(str(tmp_path / "a.pth"))


WITHOUT = {
    "optimiser": (torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))]).state_dict(), "of an optimiser"),
    "optimiser alone": ({"optimizer": {"state": {}, "param_groups": []}, "epoch": 3}, "but no model"),
    "ZeRO": ({"optimizer_state_dict": {}, "ds_version": "0.9"}, "DeepSpeed.*mp_rank_00"),
    "ZeRO 3": ({"module": {n: t.new_empty(0) for n, t in STATE.items()}}, "ZeRO stage 3"),
    "V-JEPA": ({"encoder": STATE, "predictor": STATE, "target_encoder": STATE}, "V-JEPA"),
    "meta": ({n: t.to("meta") for n, t in STATE.items()}, "without values"),
    "nothing": ({}, "it has nothing"),
    "a number": (3, "holds a int"),
    "a model": (torch.nn.Linear(1, 1), "whole pickled model"),
}


@pytest.mark.parametrize("what", WITHOUT)
def test_files_without_weights_are_named(tmp_path, what):
    content, words = WITHOUT[what]
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=words):
        read(tmp_path / "a.pth")


def test_a_run_of_fine_tuning_is_named(tmp_path):
    from smnoise.train import checkpoint

    model = torch.nn.Linear(1, 1)
    recipe = {"recipe": {"classes": ["a", "b"]}}
    checkpoint.save(tmp_path, 1, model, torch.optim.SGD(model.parameters()), recipe)
    with pytest.raises(CheckpointError, match="run of fine-tuning"):
        read(tmp_path)


@pytest.mark.parametrize("change", [{"num_attention_heads": 3}, {"num_attention_heads": "x"},
                                    {"num_attention_heads": 0}, {"decoder_num_attention_heads": -2},
                                    {"num_frames": 10**12}, {"image_size": 10**9}])  # fmt: skip
def test_a_config_of_huggingface_that_cannot_be(tmp_path, change):
    convert_files(
        save_official(tmp_path / "v.pth"), tmp_path / "hf", "huggingface", grid=VIDEO.grid, **WIDTHS
    )
    path = tmp_path / "hf" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "hf")


def test_heads_are_those_of_published_widths_or_of_64_each_and_fit():
    from smnoise.convert import convert_state

    def heads(width, decoder_width, **options):
        config = dataclasses.replace(
            VIDEO,
            size=dataclasses.replace(
                VIDEO.size, width=width, decoder_width=decoder_width, heads=1, decoder_heads=1
            ),
        )
        with torch.device("meta"):
            state = config.build().state_dict()
        official = convert_state(state, "official", config=config).state
        size = convert_state(official, "smnoise", grid=VIDEO.grid, **options).config.size
        return size.heads, size.decoder_heads

    assert heads(768, 384) == (12, 6)
    assert heads(1408, 512) == (16, 8)
    assert heads(64, 64) == (1, 1)
    assert heads(192, 128) == (3, 2)
    with pytest.raises(CheckpointError, match="name decoder_heads"):
        heads(192, 96)
    with pytest.raises(ValueError, match="heads"):
        heads(768, 384, heads=7)


def test_videomae_v2_giant_is_read(tmp_path):
    """Its ratio of 48 / 11 in encoder and decoder; here of a small width."""
    size = dataclasses.replace(VIDEO.size, width=88, heads=2, decoder_width=32, mlp_ratio=48 / 11)
    config = dataclasses.replace(VIDEO, size=size)
    torch.manual_seed(0)
    state = config.build().state_dict()
    assert state["encoder.0.mlp.fc1.weight"].shape == (384, 88)
    assert state["decoder.0.mlp.fc1.weight"].shape == (139, 32)
    from smnoise.convert import convert_state

    for to in ("official", "huggingface"):
        there = convert_state(state, to, config=config)
        back = convert_state(there.state, "smnoise", grid=VIDEO.grid, **WIDTHS)
        assert back.config == config
        assert same_bits(back.state, state)
    torch.save({"model": convert_state(state, "official", config=config).state}, tmp_path / "g.pth")
    convert_files(tmp_path / "g.pth", tmp_path / "ours", grid=VIDEO.grid, **WIDTHS)
    assert load_model(tmp_path / "ours").size == size


def test_an_audiomae_of_another_ratio_is_refused(tmp_path):
    state = official_audio(GLOBAL)
    state["blocks.0.mlp.fc1.weight"] = torch.ones(48, 16)
    with pytest.raises(CheckpointError, match=r"blocks.0.mlp.fc1.weight is \[48, 16\], not \[64, 16\]"):
        torch.save(state, tmp_path / "a.pth")
        load_model(tmp_path / "a.pth", grid=(8, 4), **WIDTHS)
