# SPDX-License-Identifier: Apache-2.0
"""Two processes on one folder: the second is refused, whatever the first one is, and a killed one holds nobody up."""

import errno
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import launch
import pytest
from media import write_clips_and_sounds

from smnoise import FolderInUseError, lock
from smnoise.data.video import cache as cache_clips
from smnoise.demos import audio as demo_audio
from smnoise.demos import video as demo_video
from smnoise.demos.folder import claim
from smnoise.train import video
from smnoise.train.run import checkpoint, log


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_clips_and_sounds(tmp_path_factory.mktemp("data"))


@pytest.fixture
def config(data, tmp_path):
    return video.Config(data=data, out=tmp_path / "run", model="tiny", patch=8, mask_ratio=0.75, batch_size=2,
                        epochs=2, warmup_epochs=1, base_lr=0.128, workers=1, device="cpu", log_every=1,
                        save_every=2, frames=4, stride=2, size=32, clips_per_video=4)  # fmt: skip


def begun(config, *more, step=3, ranks=1):
    """The process of a run that is past so many steps."""
    process = subprocess.Popen(launch.command("video", config, *more, ranks=ranks),
                               env={**os.environ, "OMP_NUM_THREADS": "1"},
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
    deadline = time.monotonic() + launch.SECONDS
    while max((r["step"] for r in log.read(config.out) if "loss" in r), default=0) < step:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_second_process_is_refused_and_the_first_one_goes_on(config, ranks):
    long = replace(config, epochs=400, save_every=10_000)
    process = begun(long, ranks=ranks)
    try:
        for resume, others in ((False, 1), (True, 2)) if ranks == 1 else ((True, 1),):
            second = launch.run("video", replace(long, resume=resume), ranks=others)
            assert second.returncode != 0
            found = re.search(r"run is in use by process (\d+) on (\S+); wait", second.stdout)
            assert found, second.stdout
            assert ranks > 1 or int(found[1]) == process.pid
            assert found[2] == socket.gethostname()
            assert others > 1 or "Traceback" not in second.stdout
    finally:
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=launch.SECONDS)
    assert "stopped after step" in said
    steps = [r["step"] for r in log.read(config.out) if "loss" in r]
    assert steps == [*range(1, steps[-1] + 1)]
    assert checkpoint.find(config.out)[1]["step"] == steps[-1]


def test_a_killed_process_holds_nobody_up_though_its_workers_live_on(config):
    """They notice after seconds that it is gone."""
    whole = replace(config, out=config.out.with_name("whole"))
    assert launch.run("video", whole).returncode == 0
    process = begun(config)
    process.kill()
    process.wait()
    process.stdout.close()
    done = launch.run("video", replace(config, resume=True))
    assert done.returncode == 0, done.stdout
    assert not (config.out / lock.NAME).exists()
    first, second = ([r for r in log.read(c.out) if "loss" in r] for c in (whole, config))
    assert [(r["step"], r["loss"]) for r in first] == [(r["step"], r["loss"]) for r in second]


HOLDER = """
import sys, time
from pathlib import Path
from smnoise import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdout=subprocess.PIPE,
                               text=True)  # fmt: skip
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_cache_is_made_by_one_process(holder, data, tmp_path):
    with pytest.raises(FolderInUseError, match=f"process {holder.pid} on"):
        cache_clips.make(data, tmp_path / "run", None)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [lock.NAME]
    holder.kill()
    holder.wait()
    store = cache_clips.make(data, tmp_path / "run", None)
    assert store.entries
    assert json.loads((tmp_path / "run" / cache_clips.INDEX).read_text())
    assert not (tmp_path / "run" / lock.NAME).exists()


def test_a_demo_takes_nothing_away_from_one_that_runs(holder, tmp_path):
    for demo in (demo_audio, demo_video):
        with pytest.raises(FolderInUseError, match=f"process {holder.pid} on"):
            demo.run(demo.Demo(out=tmp_path / "run"))
    assert [path.name for path in (tmp_path / "run").iterdir()] == [lock.NAME]
    holder.kill()
    holder.wait()
    claim(tmp_path / "run", "demo", ())  # what a killed one leaves is in nobody's way


def test_a_file_left_behind_is_no_lock_whatever_number_it_names(tmp_path):
    (tmp_path / lock.NAME).write_text(f"process {os.getppid()} on {socket.gethostname()}\n")
    with lock.held(tmp_path):
        assert (tmp_path / lock.NAME).read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"
        with pytest.raises(FolderInUseError, match=f"process {os.getpid()} "), lock.held(tmp_path):
            pass
    assert not list(tmp_path.iterdir())


def test_a_forked_process_does_not_hold_it(tmp_path):
    with lock.held(tmp_path):
        child = os.fork()
        if not child:
            time.sleep(600)
            os._exit(0)
    try:
        with lock.held(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_holder_that_cannot_write_its_name_holds_nothing(tmp_path):
    """On a full disk, which a limit on sizes of files stands for."""
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from smnoise import lock\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "for size in (0, resource.RLIM_INFINITY):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))\n"
        "    try:\n"
        "        with lock.held(Path(sys.argv[1])):\n"
        "            print('held')\n"
        "    except OSError as error:\n"
        "        print(type(error).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout.split() == ["OSError", "held"], done.stdout + done.stderr


def test_a_folder_made_for_nothing_is_taken_away_and_one_with_something_stays(tmp_path):
    with pytest.raises(ValueError, match="x"), lock.held(tmp_path / "a" / "b"):
        raise ValueError("x")
    assert not list(tmp_path.iterdir())
    with lock.held(tmp_path / "a" / "b"):
        (tmp_path / "a" / "c").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["c"]
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError), lock.held(tmp_path / "file"):
        pass


def test_a_holder_that_ends_between_opening_and_locking_is_no_holder(tmp_path, monkeypatch):
    """The file that was opened is then no longer the one of that name."""
    flock, times = fcntl.flock, []

    def late(descriptor, how):
        if not times:
            (tmp_path / lock.NAME).unlink()
        times.append(how)
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with lock.held(tmp_path):
        assert (tmp_path / lock.NAME).exists()
        with pytest.raises(FolderInUseError), lock.held(tmp_path):
            pass


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, capsys):
    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    with lock.held(tmp_path):
        pass
    assert "has no locks (No locks available)" in capsys.readouterr().err
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output")))
    with pytest.raises(OSError, match="Input/output"), lock.held(tmp_path):
        pass
