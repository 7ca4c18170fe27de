# SPDX-License-Identifier: Apache-2.0
"""AudioMAE on your sounds in one loop: waveforms, log-mel spectrograms, Optim Blue masks, loss. Needs soundfile, soxr.

    python examples/audio.py SOUNDS --steps 300               # SOUNDS: a folder of .wav, .flac, .ogg or .mp3 files

Every five clips that follow each other share a partition of the spectrogram: their masks show no token twice.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import soundfile
import soxr
import torch

import smnoise
from smnoise.data.audio.fbank import LogMel
from smnoise.models.audiomae import AudioMAE

RATE, FRAMES, MELS, PATCH = 16000, 256, 128, 16
GRID = (FRAMES // PATCH, MELS // PATCH)  # time, frequency
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


def read_sounds(folder: Path) -> list[torch.Tensor]:
    """Every sound, mono at RATE: float32 [samples]."""
    sounds = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
        sounds.append(torch.from_numpy(soxr.resample(wave.mean(axis=1), rate, RATE)))
    return sounds


def piece_of(sounds: list[torch.Tensor], sample: int, length: int) -> torch.Tensor:
    """Piece number `sample`, from anywhere in a sound, with zeros behind a sound that is shorter."""
    wave = sounds[sample % len(sounds)]
    random = torch.Generator().manual_seed(sample)
    first = int(torch.randint(max(1, len(wave) - length + 1), (), generator=random))
    piece = wave[first : first + length]
    return torch.nn.functional.pad(piece, (0, length - len(piece)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sounds", type=Path)
    parser.add_argument("--mask", default="optim-blue", help="anything that smnoise.sampler_of takes")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()

    sounds = read_sounds(given.sounds)
    log_mel = LogMel(RATE, MELS).to(given.device)
    length = log_mel.num_samples(FRAMES)
    first = torch.stack([piece_of(sounds, n, length) for n in range(64)]).to(given.device)
    spectrograms = log_mel(first)
    mean, std = spectrograms.mean(), spectrograms.std()

    torch.manual_seed(0)
    model = AudioMAE("tiny", GRID, patch=PATCH, decoder="global").to(given.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4, betas=(0.9, 0.95))
    sampler = smnoise.sampler_of(given.mask, GRID, 0.8, seed=0)
    for step in range(given.steps):
        samples = smnoise.sample_indices(step, given.batch_size)
        waves = torch.stack([piece_of(sounds, n, length) for n in samples.tolist()]).to(given.device)
        loss, _ = model((log_mel(waves) - mean) / (2 * std), sampler(samples.to(given.device)))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % 10 == 0 or step == given.steps - 1:
            print(f"step {step:5}  loss {loss.item():.4f}", flush=True)


if __name__ == "__main__":
    main()
