# SPDX-License-Identifier: Apache-2.0
"""One model.safetensors out of a run's newest checkpoint, also where several processes hold parts of it.

python -m smnoise.train.run.gather runs/video model.safetensors
"""

from __future__ import annotations

from pathlib import Path

import tyro
from safetensors import SafetensorError
from safetensors.torch import save_file

from ...files import replace_file
from ...programs import command_line
from . import checkpoint


def gather(run: Path, to: Path) -> int:
    """Write the weights of a run's newest whole checkpoint to a file; returns its step.

    Raises CheckpointError where there is none, OSError where the file cannot be written.
    """
    tensors, _, state, _ = checkpoint.newest(run)
    with replace_file(to) as temporary:
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
        except SafetensorError as error:  # a full disk, among others
            raise OSError(f"cannot write {to}: {error}") from error
    return state["step"]


def main(run: tyro.conf.Positional[Path], to: tyro.conf.Positional[Path]) -> None:
    try:
        print(f"{to}: the weights after step {gather(run, to)}")
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"smnoise: {error}") from error


if __name__ == "__main__":
    command_line(main, description=__doc__, prog="python -m smnoise.train.run.gather")
