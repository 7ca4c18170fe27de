# SPDX-License-Identifier: Apache-2.0
"""What a run of the VideoMAE trainer learned, and its command."""

import subprocess
import sys

from smnoise.train.run import log


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def losses(run):
    return {r["step"]: r["loss"] for r in log.read(run) if "loss" in r}


def run_command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "smnoise.train.video", *arguments], capture_output=True, text=True
    )
