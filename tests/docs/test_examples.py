# SPDX-License-Identifier: Apache-2.0
"""Every program in examples/ runs as its head says, on generated media."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from media import write_clips_and_sounds

EXAMPLES = Path(__file__).parents[2] / "examples"
ARGUMENTS = {
    "own_loop.py": ["MEDIA", "--steps", "12", "--batch-size", "4"],
    "huggingface.py": ["MEDIA", "--epochs", "2"],
    "cuda_graph.py": ["--steps", "3"],
    "audio.py": ["MEDIA", "--steps", "11", "--batch-size", "5"],
    "measure.py": ["tube", "random", "green-3d", "--count", "20"],
}


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    return write_clips_and_sounds(tmp_path_factory.mktemp("media"))


def run(name, media, folder):
    arguments = [str(media) if argument == "MEDIA" else argument for argument in ARGUMENTS[name]]
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run():
    assert set(ARGUMENTS) == {path.name for path in EXAMPLES.glob("*.py")}


@pytest.mark.parametrize("name", ["own_loop.py", "audio.py"])
def test_loops_learn(name, media, tmp_path):
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", run(name, media, tmp_path))]
    assert len(losses) >= 2
    assert losses[-1] < losses[0]


def test_hugging_face(media, tmp_path):
    assert re.search(r"loss [\d.]+ after 12 steps", run("huggingface.py", media, tmp_path))


def test_a_clip_has_another_mask_in_each_epoch(media, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(EXAMPLES)
    import huggingface
    import torch
    from transformers import TrainingArguments

    import smnoise

    seen = []

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, pixel_values, bool_masked_pos):
            seen.extend(bool_masked_pos)
            return {"loss": self.weight * pixel_values.mean()}

    clips = huggingface.Clips(media)
    arguments = TrainingArguments(str(tmp_path), num_train_epochs=3, per_device_train_batch_size=4, report_to=[],
                                  remove_unused_columns=False, use_cpu=True, save_strategy="no")  # fmt: skip
    sampler = smnoise.Green3D((8, 4, 4), 0.9)
    huggingface.MaskedTrainer(Model(), arguments, train_dataset=clips, sampler=sampler).train()
    assert len(seen) == 3 * len(clips)
    assert len({tuple(mask.tolist()) for mask in seen}) == len(seen)
    want = sampler(range(3 * len(clips))).mask
    for epoch in range(3):  # of each epoch the same ones in any order
        rows = slice(epoch * len(clips), (epoch + 1) * len(clips))
        assert {tuple(m.tolist()) for m in seen[rows]} == {tuple(m.tolist()) for m in want[rows]}


def test_a_captured_step(media, tmp_path):
    assert "every mask was the one of its step" in run("cuda_graph.py", media, tmp_path)


def test_measures(media, tmp_path):
    said = run("measure.py", media, tmp_path)
    assert re.search(r"tube .* 152 of 1568 .* 1\.000 ", said)
