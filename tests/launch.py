# SPDX-License-Identifier: Apache-2.0
"""Trainers as processes of their own, one or several, as a user starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields

SECONDS = 240  # far more than any takes; one that hangs fails


def arguments(config) -> list[str]:
    """A trainer's Config as its command line."""
    parts = []
    for field in fields(config):
        name, value = field.name, getattr(config, field.name)
        # A run that goes on has its own settings as defaults.
        if (value == field.default and not config.resume) or value is None or isinstance(value, tuple):
            continue
        option = name.replace("_", "-")
        if isinstance(value, bool):
            parts.append(f"--{option}" if value else f"--no-{option}")
        else:
            parts += [f"--{option}", str(value)]
    return parts


def command(trainer: str | list[str], config, *more: str, ranks: int = 1, restarts: int = 0) -> list[str]:
    """smnoise.train.`trainer`, or a script with its arguments, in so many processes."""
    program = ["-m", f"smnoise.train.{trainer}"] if isinstance(trainer, str) else trainer
    if ranks > 1 or restarts:
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--standalone"]
        program = [*launcher, "--max-restarts", str(restarts), "--monitor-interval", "0.1", *program]
    return [sys.executable, *program, *arguments(config), *more]


def run(trainer: str | list[str], config, *more: str, ranks: int = 1, restarts: int = 0, **options):
    """The finished process, what it said in stdout. `environment` is added to this process's."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("environment", {})}
    return subprocess.run(
        command(trainer, config, *more, ranks=ranks, restarts=restarts),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        env=environment,
        **options,
    )
