# SPDX-License-Identifier: Apache-2.0
"""Every program in examples/ runs as its head says, on generated media."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from media import write_clips_and_sounds

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
ARGUMENTS = {
    "own_loop.py": ["MEDIA", "--steps", "12", "--batch-size", "4"],
    "huggingface.py": ["MEDIA", "--epochs", "2"],
    "cuda_graph.py": ["--steps", "3"],
    "audio.py": ["MEDIA", "--steps", "11", "--batch-size", "5"],
    "points.py": ["FILES", "--steps", "41", "--batch-size", "8"],
    "volumes.py": ["FILES", "--test", "TEST", "--labels", "LABELS", "--steps", "21", "--batch-size", "2"],
    "measure.py": ["tube", "random", "green-3d", "--count", "20"],
}


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    return write_clips_and_sounds(tmp_path_factory.mktemp("media"))


def run(name, media, folder, places=None):
    """media: what stands for MEDIA, or a list for FILES; places: for other arguments."""
    given = {"MEDIA": [media], "FILES": media, **{k: [v] for k, v in (places or {}).items()}}
    arguments = [str(a) for argument in ARGUMENTS[name] for a in given.get(argument, [argument])]
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


def test_points(tmp_path):
    """Of two archives as Sweet Home 3D has them; a model without faces, and one that is missing, are left out."""
    trimesh, _ = pytest.importorskip("trimesh"), pytest.importorskip("fpsample")
    archives = [tmp_path / "first.sh3f", tmp_path / "second.sh3f"]
    for number, archive in enumerate(archives):
        with zipfile.ZipFile(archive, "w") as file:
            said = []
            for i in range(13):
                turned = trimesh.transformations.random_rotation_matrix(
                    np.array([(i + 1) / 20, 0.1 * number, 0.5])
                )
                mesh = trimesh.creation.box((1, 2, 0.3 + i / 40)) if i % 2 else trimesh.creation.icosphere(2)
                mesh.apply_transform(turned)
                text = trimesh.exchange.obj.export_obj(mesh) if i < 12 else "v 0 0 0"
                file.writestr(f"models/{i}.obj", text)
                said += [f"model#{i}=/models/{i}.obj", f"category#{i}={'Box' if i % 2 else 'Ball'}"]
            said += ["# a comment", "model#99=/models/none.obj", "category#99=Box"]
            file.writestr("PluginFurnitureCatalog.properties", "\n".join(said))
    said = run("points.py", archives, tmp_path)
    assert "24 models, 12 of them for the test; 2 categories" in said
    assert "models/none.obj is left out" in said
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", said)]
    assert losses[-1] < losses[0]
    assert float(re.search(r"probe after training ([\d.]+)", said)[1]) > 0.9  # boxes are no balls
    assert (tmp_path / "points.png").stat().st_size > 10_000


def test_volumes(tmp_path):
    """Voxels of 1 x 1 x 2 mm, one volume smaller than a crop; the atlas names what is bright."""
    nibabel = pytest.importorskip("nibabel")
    files = {"a.nii.gz": (100, 97, 60), "TEST": (110, 100, 98), "LABELS": (110, 100, 98)}
    for name, shape in files.items():
        at = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
        ball = np.clip(1.3 - 1.5 * np.sqrt((at**2).sum(0)), 0, 1) * 900
        values = (ball > 200).astype(np.uint8) if name == "LABELS" else ball.astype(np.int16)
        path = tmp_path / (name if name.endswith("gz") else f"{name}.nii")
        nibabel.save(nibabel.Nifti1Image(values, np.diag([1, 1, 2, 1])), path)
    places = {"TEST": tmp_path / "TEST.nii", "LABELS": tmp_path / "LABELS.nii"}
    said = run("volumes.py", [tmp_path / "a.nii.gz"], tmp_path, places)
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", said)]
    assert losses[-1] < losses[0]
    assert float(re.search(r"probe after training: R2 ([\d.-]+)", said)[1]) > 0.5
    assert (tmp_path / "volumes.png").stat().st_size > 10_000


def test_measures(media, tmp_path):
    said = run("measure.py", media, tmp_path)
    assert re.search(r"tube .* 152 of 1568 .* 1\.000 ", said)
