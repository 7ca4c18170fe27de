# SPDX-License-Identifier: Apache-2.0
"""What a run of the AudioMAE trainer learned, said and lost; and sounds for it."""

import subprocess
import sys
from dataclasses import fields

import numpy as np
import soundfile
import torch

from smnoise.train.run import log

RATE = 8000
FILES = 4
CPU = torch.device("cpu")


def write_sound(path, number, seconds=1.5, level=0.3):
    """A tone that rises by an octave a second, in a little noise."""
    time = np.arange(int(seconds * RATE)) / RATE
    wave = np.sin(2 * np.pi * 200 * (number + 1) * 2**time / np.log(2))
    wave += 0.05 * np.random.default_rng(number).standard_normal(len(time))
    soundfile.write(path, (level * wave).astype(np.float32), RATE, subtype="FLOAT")


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[n], second[n]) for n in first)


def losses(run):
    return {r["step"]: r["loss"] for r in log.read(run) if "loss" in r}


def events(run):
    return [r["event"] for r in log.read(run) if "event" in r]


def arguments(config):
    """The config as a command line."""
    chosen = {f.name: getattr(config, f.name) for f in fields(config) if getattr(config, f.name) != f.default}
    return [part for n, v in chosen.items() for part in (f"--{n.replace('_', '-')}", str(v))]


def start(config, *more):
    command = [sys.executable, "-m", "smnoise.train.audio", *arguments(config), *more]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
