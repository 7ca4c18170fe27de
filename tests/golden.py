# SPDX-License-Identifier: Apache-2.0
"""Are two checkouts the same trainers, bit for bit? For changes that only move code.

    python tests/golden.py .venv/bin/python OTHER/.venv/bin/python

Each Python runs the smnoise that is installed in it: four programs for 20 steps on the CPU, and each again from its
checkpoint of step 11. What is compared is the sha256 of the weights and the optimiser's state. Other machines round
differently, so no digest is kept in the repository.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from media import write_clips_and_sounds

COMMON = ["--device", "cpu", "--workers", "0", "--save-every", "11"]
VIDEO = ["--model", "nano", "--frames", "8", "--stride", "1", "--size", "48", "--patch", "8"]
AUDIO = [
    "--model",
    "tiny",
    "--rate",
    "8000",
    "--frames",
    "64",
    "--mels",
    "32",
    "--patch",
    "8",
    "--statistics",
    "auto",
]
RATES = ["--base-lr", "0.1", "--warmup-epochs", "1"]
PRETRAINING = {
    "video": [*VIDEO, *RATES, "--decoder-mask", "running-cell", "--views", "2", "--batch-size", "3",
              "--accumulate", "2", "--epochs", "40"],
    "audio": [*AUDIO, *RATES, "--views", "2", "--view-masks", "partition", "--batch-size", "3", "--accumulate", "2",
              "--epochs", "40"],
}  # fmt: skip
FINE_TUNING = {
    "finetune_video": ["--preset", "ucf101", "--batch-size", "2", "--accumulate", "1", "--epochs", "14",
                       "--segments", "1", "--crops", "1"],
    "finetune_audio": ["--preset", "esc50", "--frames", "64", "--mask-bins", "8", "--mask-frames", "16",
                       "--mixup", "0.5", "--batch-size", "2", "--epochs", "14"],
}  # fmt: skip


def digests(python: str, data: Path, out: Path) -> dict[str, str]:
    """The sha256 of each program's last checkpoint, trained through and resumed."""
    found = {}
    for medium, arguments in PRETRAINING.items():
        found |= both(python, medium, out / medium, ["--data", data / medium, *arguments])
    for name, arguments in FINE_TUNING.items():
        medium = name.removeprefix("finetune_")
        sides = ["--train", data / f"{medium}.txt", "--test", data / f"{medium}.txt", "--run", out / medium]
        found |= both(python, name, out / name, [*sides, *arguments])
    return found


def both(python: str, name: str, out: Path, arguments: list) -> dict[str, str]:
    """Of a run, and of the same run resumed from its checkpoint of step 11."""
    run(python, name, out, arguments)
    resumed = out.with_name(f"{name} resumed")
    shutil.copytree(out, resumed)
    for folder in steps(resumed)[1:]:
        shutil.rmtree(folder)
    run(python, name, resumed, [*arguments, "--resume"])
    return {name: digest(out), f"{name}, resumed": digest(resumed)}


def run(python: str, name: str, out: Path, arguments: list) -> None:
    out.parent.mkdir(exist_ok=True)
    command = [python, "-m", f"smnoise.train.{name}", "--out", out, *arguments, *COMMON]
    done = subprocess.run(  # elsewhere: -m looks in the current folder first
        list(map(str, command)),
        capture_output=True,
        text=True,
        cwd=out.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr or done.stdout}")


def steps(run: Path) -> list[Path]:
    """The checkpoints, the first one, of step 11, first."""
    found = sorted((run / "checkpoints").glob("step-*"))
    assert found[0].name == "step-00000011"
    return found


def digest(run: Path) -> str:
    folder = steps(run)[-1]
    files = [folder / "model.safetensors", folder / "optimizer.safetensors"]
    return folder.name + hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def write_data(folder: Path) -> None:
    """Three clips and three sounds, by medium, and lists that give each a label."""
    write_clips_and_sounds(folder)
    for medium, suffix in (("video", "mp4"), ("audio", "wav")):
        (folder / medium).mkdir()
        for file in sorted(folder.glob(f"*.{suffix}")):
            file.rename(folder / medium / file.name)
        lines = (f"{medium}/{n}.{suffix} {n % 2}\n" for n in range(3))
        (folder / f"{medium}.txt").write_text("".join(lines))


def main() -> None:
    pythons = [str(Path(name).absolute()) for name in sys.argv[1:]]
    if len(pythons) != 2:
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        write_data(folder / "data")
        one, other = (digests(python, folder / "data", folder / str(n)) for n, python in enumerate(pythons))
    for name, value in one.items():
        print(f"{name:26} {value} {other[name]} {'equal' if value == other[name] else 'DIFFERENT'}")
    if one != other:
        raise SystemExit("the checkouts train differently")


if __name__ == "__main__":
    main()
