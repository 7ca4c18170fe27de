# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C while a program is still loading its modules."""

import os
import signal
import subprocess
import sys
import time

import pytest

SLOW = """
import importlib.abc, os, sys, time
class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch":
            open(os.environ["LOADING"], "w").close()
            time.sleep(100)
sys.meta_path.insert(0, Slow())
"""


@pytest.mark.parametrize(
    "program",
    [
        ["-m", "smnoise.train.video"],
        ["-m", "smnoise.train.finetune_audio"],
        ["-m", "smnoise.train.probe"],
        ["-m", "smnoise.data.video.cache"],
        ["-m", "smnoise", "pretrain", "audio"],
        ["-m", "smnoise", "doctor"],
    ],
    ids=lambda program: " ".join(program[1:]),
)
def test_ctrl_c_while_modules_load_is_a_line_and_130(tmp_path, program):
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    loading = tmp_path / "loading"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "LOADING": str(loading)}
    process = subprocess.Popen([sys.executable, *program], env=environment, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)  # fmt: skip
    deadline = time.monotonic() + 60
    while not loading.exists():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said == "smnoise: interrupted\n"
