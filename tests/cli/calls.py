# SPDX-License-Identifier: Apache-2.0
"""Commands as tests call them."""

import os
import subprocess
import sys

from smnoise.cli import main


def call(capsys, *arguments: str) -> str:
    """What a command that must succeed prints."""
    assert main(list(arguments)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def flags(**values) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]


def start(*arguments: str, **options) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "smnoise", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options,
    )  # fmt: skip
