# SPDX-License-Identifier: Apache-2.0
"""Every kind of file that is written, on a full disk, in a folder that is not one or may not be written to, and by a
process that is killed: the file from before stays as it was, and nothing else is left. Trainers: test_kill.py,
test_checkpoint.py."""

from __future__ import annotations

import os
import resource
import signal
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import soundfile
import torch
from matplotlib.figure import Figure
from safetensors import SafetensorError
from safetensors.torch import load_file

import smnoise
from smnoise.backends import nvrtc
from smnoise.cli import sample
from smnoise.compat import import_timm
from smnoise.convert import VideoConfig, convert_state
from smnoise.convert.files import write as write_weights
from smnoise.data.video.cache import write_shard
from smnoise.demos import folder as demo_folder
from smnoise.demos import pictures
from smnoise.files import replace_file, write_text
from smnoise.models.common import Size
from smnoise.train.run import checkpoint
from smnoise.train.run.gather import gather
from smnoise.train.run.log import RunLog
from smnoise.viz import film, style

NOBODY = 65534
FAILURES = (OSError, SafetensorError, soundfile.LibsndfileError)


@contextmanager
def full_disk(room: int = 20):
    """No file of this process may grow beyond so many bytes; the kernel's answer is an error, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def figure_of(number: int) -> Figure:
    figure = Figure(figsize=(1, 1))
    figure.text(0.5, 0.5, str(number))
    return figure


def write_figure(path, number):
    style.save(figure_of(number), path.with_suffix(""), (path.suffix[1:],))


def write_film(path, number):
    frames = np.full((2, 20, 20, 3), number, np.uint8)
    film.gif({"a": frames}, path)


def write_masks(path, number):
    sampler = smnoise.White3D((2, 4, 4), 0.75)
    sample.write(sampler([number]), sampler, number, path)


def write_sound(path, number):
    with replace_file(path) as temporary:  # as write_pieces does
        soundfile.write(temporary, np.full(100, number / 9), 8000, format="WAV", subtype="PCM_16")


WRITERS = {
    "text.txt": lambda path, number: write_text(path, f"{number}: more than there is room for"),
    "demo.json": lambda path, number: demo_folder.write_summary(path.parent, "test", {"result": number}),
    "figure.png": write_figure,
    "figure.pdf": write_figure,
    "figure.svg": write_figure,
    "training.png": lambda path, number: pictures.save(figure_of(number), path),
    "film.gif": write_film,
    "masks.npz": write_masks,
    "masks.safetensors": write_masks,
    "shard.npy": lambda path, number: write_shard(path, [np.full(99, number, np.uint8)]),
    "sound.wav": write_sound,
}


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.rglob("*")}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_file_from_before(tmp_path, name):
    path, write = tmp_path / name, WRITERS[name]
    with full_disk(), pytest.raises(FAILURES):
        write(path, 1)
    assert not names(tmp_path)
    write(path, 1)
    before = path.read_bytes()
    with full_disk(), pytest.raises(FAILURES):
        write(path, 2)
    assert path.read_bytes() == before
    assert names(tmp_path) == {name}
    write(path, 2)
    assert path.read_bytes() != before


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_is_none(tmp_path, name):
    (tmp_path / "file").write_text("here")
    with pytest.raises(FAILURES):
        WRITERS[name](tmp_path / "file" / name, 1)
    assert (tmp_path / "file").read_text() == "here"


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_may_not_be_written_to(name):
    write = WRITERS[name]
    with TemporaryDirectory() as folder:  # tmp_path is closed to other users
        path = Path(folder, name)
        write(path, 1)
        before = path.read_bytes()
        os.chmod(folder, 0o555)
        child = os.fork()
        if not child:
            try:
                if os.geteuid() == 0:  # who may write everywhere
                    os.setgid(NOBODY)
                    os.setuid(NOBODY)
                write(path, 2)
            except FAILURES:
                os._exit(3)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        assert path.read_bytes() == before
        assert names(Path(folder)) == {name}
        os.chmod(folder, 0o755)


@pytest.mark.parametrize("name", WRITERS)
def test_a_process_killed_before_the_rename_leaves_the_file_from_before(tmp_path, name, monkeypatch):
    path, write = tmp_path / name, WRITERS[name]
    write(path, 1)
    before = path.read_bytes()
    child = os.fork()
    if not child:
        monkeypatch.setattr(os, "replace", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        try:
            write(path, 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert path.read_bytes() == before
    write(path, 2)
    assert path.read_bytes() != before


@pytest.mark.parametrize(
    ("layout", "name"), [("official", "model.pth"), ("huggingface", "model"), ("smnoise", "ours")]
)
def test_converted_weights_on_a_full_disk(tmp_path, layout, name):
    import_timm()
    config = VideoConfig(Size(32, 2, 4, 16, 2, 2), (2, 3, 4), tubelet=2, patch=4)
    converted = convert_state(config.build().state_dict(), layout, config=config)
    for room in (20, 20_000):
        with full_disk(room), pytest.raises(smnoise.CheckpointError, match="cannot write"):
            write_weights(converted, tmp_path / name)
        assert not names(tmp_path)
    write_weights(converted, tmp_path / name)
    assert (tmp_path / name).exists()


def test_gathered_weights_on_a_full_disk(tmp_path):
    layer, out = torch.nn.Linear(9, 9), tmp_path / "out" / "model.safetensors"
    checkpoint.save(tmp_path / "run", 1, layer, torch.optim.AdamW(layer.parameters()), {})
    with full_disk(), pytest.raises(OSError, match="cannot write"):
        gather(tmp_path / "run", out)
    assert not names(tmp_path / "out")
    assert gather(tmp_path / "run", out) == 1
    assert torch.equal(load_file(out)["weight"], layer.weight)


def test_kernels_are_compiled_where_their_cache_cannot_be_written(tmp_path, monkeypatch):
    if nvrtc.why_not():
        pytest.skip(nvrtc.why_not())
    monkeypatch.setattr(nvrtc, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(nvrtc, "compile_sources", lambda *target: (b"machine code" * 9, ""))
    with full_disk():
        assert nvrtc.cubin(80) == b"machine code" * 9
    assert {Path(name).suffix for name in names(tmp_path)} <= {".lock"}  # which are empty, and stay
    nvrtc.cubin(80)
    assert {Path(name).suffix for name in names(tmp_path)} == {".lock", ".cubin"}


def test_the_log_of_a_run_that_is_resumed_on_a_full_disk(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 0, "event": "longer than there is room for"}\n')
    before = log.read_bytes()
    with full_disk(), pytest.raises(OSError, match="File too large"):
        RunLog(tmp_path, 0, 2)
    assert log.read_bytes() == before
    assert names(tmp_path) == {"log.jsonl"}
