# SPDX-License-Identifier: Apache-2.0
r"""A masked autoencoder of volumes: crops of 96^3 voxels in cubes of 16^3, 54 of 216 visible, on VideoMAE's model.

    pip install nibabel && pip download --no-deps nilearn && unzip nilearn-*.whl 'nilearn/datasets/data/*'
    apt-get download mricron-data && dpkg-deb -x mricron-data_*.deb . && mv usr/share/mricron/templates .
    python examples/volumes.py nilearn/datasets/data/mni_icbm152_t1_*.nii.gz templates/inia19-t1-brain.nii.gz \
        --test templates/ch2.nii.gz --labels templates/aal.nii.gz

Reads NIfTI files; sigma is in millimetres along all axes, whatever the voxels' sides are. The probe says how much of
each cube is brain that an atlas names, of a person that was not trained on (ch2; ch2bet is the same one).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel
import numpy as np
import torch

import smnoise
from smnoise.models.videomae import VideoMAE

SIDE, CUBE, VISIBLE = 96, 16, 54
GRID = (SIDE // CUBE,) * 3
SHOWN = 5  # the mask of the picture, whose sigma is a larger one of its range


def read_volume(path: Path) -> tuple[torch.Tensor, tuple[float, ...]]:
    """Voxels in 0 .. 1, float32, clipped at the 1st and 99th percentile of what is not background; their sides in mm.
    Zeros are put about a volume that is smaller than a crop."""
    file = nibabel.as_closest_canonical(nibabel.load(path))
    voxels = np.asarray(file.dataobj, np.float32)
    voxels = voxels.reshape(voxels.shape[:3])
    low, high = np.percentile(voxels[voxels > voxels.min()], (1, 99))
    voxels = np.clip((voxels - low) / (high - low), 0, 1).astype(np.float32)
    room = [max(0, SIDE - n) for n in voxels.shape]
    voxels = np.pad(voxels, [(r // 2, r - r // 2) for r in room])
    return torch.from_numpy(voxels), tuple(float(z) for z in file.header.get_zooms()[:3])


def first_of(shape, sample: int) -> list[int]:
    """Where crop number `sample` of a volume begins."""
    random = torch.Generator().manual_seed(sample)
    return [int(torch.randint(n - SIDE + 1, (), generator=random)) for n in shape]


def crop_of(volume: torch.Tensor, first) -> torch.Tensor:
    return volume[tuple(slice(f, f + SIDE) for f in first)]


def sampler_for(mask: str, spacing, isotropic: bool):
    """Masks of one volume's crops: blobs are as long in millimetres along every axis, if not isotropic in voxels."""
    if mask == "random":
        return smnoise.Random(GRID, num_visible=VISIBLE)
    scale = (1.0, 1.0, 1.0) if isotropic else tuple(min(spacing) / s for s in spacing)
    return smnoise.strategy(f"{mask}-3d", GRID, num_visible=VISIBLE, anisotropy=scale)


@torch.no_grad()
def features_of(model: VideoMAE, crops: torch.Tensor) -> torch.Tensor:
    """Of all cubes of the crops, none hidden: [B * 216, width]."""
    ids = torch.arange(216).expand(len(crops), -1)
    tokens = model.embed(model.cubes(crops[:, None], ids).flatten(2)) + model.encoder_positions[ids]
    for block in model.encoder:
        tokens = block(tokens)
    return model.encoder_norm(tokens).flatten(0, 1)


def probe(model, train, test) -> float:
    """R^2 of ridge regression from a cube's token to the share of it that the atlas names, across volumes."""
    (x, y), (x_test, y_test) = ((features_of(model, crops).double(), share) for crops, share in (train, test))
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    x, x_test = (torch.cat([(v - mean) / deviation, torch.ones(len(v), 1)], 1) for v in (x, x_test))
    solved = torch.linalg.solve(x.T @ x + 10 * torch.eye(x.shape[1]).double(), x.T @ y)
    return (1 - (y_test - x_test @ solved).square().mean() / y_test.var()).item()


def labelled(volume, atlas, number: int, shift: int):
    """Crops, and of each cube the share of voxels that have a label."""
    places = [first_of(volume.shape, shift + n) for n in range(number)]
    crops = torch.stack([crop_of(volume, place) for place in places])
    cut = torch.stack([crop_of(atlas, place) for place in places]).reshape(-1, 6, CUBE, 6, CUBE, 6, CUBE)
    return crops, cut.double().mean((2, 4, 6)).flatten()


def draw(path, crop, masks) -> None:
    """The middle slice of a crop, and under each mask."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(masks), 4, figsize=(9, 2.4 * len(masks)), squeeze=False)
    for row, (name, mask) in zip(axes, masks.items(), strict=True):
        full = mask.volume()[0]
        for dim in range(3):
            full = full.repeat_interleave(CUBE, dim)
        for axis, depth in zip(row, (24, 40, 56, 72), strict=True):
            axis.imshow(
                torch.where(full, 0.15 * crop, crop)[:, :, depth].T,
                cmap="gray",
                origin="lower",
                vmin=0,
                vmax=1,
            )
            axis.set(title=f"{name}, slice {depth}")
            axis.set_axis_off()
    figure.savefig(path, dpi=90, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("volumes", type=Path, nargs="+")
    parser.add_argument("--test", type=Path, help="a volume that is only asked about")
    parser.add_argument("--labels", type=Path, help="its atlas, of the same shape")
    parser.add_argument("--mask", default="green", choices=["random", "red", "green", "blue", "purple"])
    parser.add_argument("--isotropic", action="store_true", help="sigmas in cubes, not in millimetres")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=8)
    given = parser.parse_args()

    read = [read_volume(path) for path in given.volumes]
    samplers = [sampler_for(given.mask, spacing, given.isotropic) for _, spacing in read]
    torch.manual_seed(0)
    model = VideoMAE("nano", GRID, tubelet=CUBE, patch=CUBE, channels=1, mean=(0.3,), std=(0.3,))
    sets = None
    if given.test and given.labels:
        volume, _ = read_volume(given.test)
        atlas = nibabel.as_closest_canonical(nibabel.load(given.labels))
        if atlas.shape != tuple(volume.shape):
            raise SystemExit(f"{given.labels} has shape {atlas.shape}, {given.test} {tuple(volume.shape)}")
        named = torch.from_numpy((np.asarray(atlas.dataobj) > 0).astype(np.float32))
        sets = labelled(volume, named, 40, 0), labelled(volume, named, 20, 1000)
        print(f"probe before training: R2 {probe(model, *sets):.3f}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, betas=(0.9, 0.95))
    for step in range(given.steps):
        which = step % len(read)
        (volume, _), sampler = read[which], samplers[which]
        samples = smnoise.sample_indices(step, given.batch_size)
        crops = torch.stack([crop_of(volume, first_of(volume.shape, n)) for n in samples.tolist()])
        loss, _ = model(crops[:, None], sampler(samples))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step == given.steps - 1:
            print(f"step {step:5}  loss {loss.item():.4f}", flush=True)
    kinds = ("random", "green", "red")
    shown = {kind: sampler_for(kind, read[0][1], given.isotropic)([SHOWN]) for kind in kinds}
    draw("volumes.png", crop_of(read[0][0], [(n - SIDE) // 2 for n in read[0][0].shape]), shown)
    if sets:
        print(f"probe after training: R2 {probe(model, *sets):.3f}")


if __name__ == "__main__":
    main()
