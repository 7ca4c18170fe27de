# SPDX-License-Identifier: Apache-2.0
"""A masked autoencoder of point clouds, after Point-MAE (arXiv 2203.06604): 64 patches of 32 points, most of them hidden.

    pip install trimesh fpsample                                          # readers and farthest points
    apt-get download sweethome3d-furniture && dpkg-deb -x sweethome3d-furniture_*.deb .
    python examples/points.py usr/share/sweethome3d/furniture/*.sh3f --mask green

Reads 3D models from Sweet Home 3D's archives (820 models in Debian's package, CC0 and CC BY by file), trains in minutes
on a CPU, then asks a linear probe for the category of the models of the last archive, whose authors it has not seen.
"""

from __future__ import annotations

import argparse
import io
import re
import zipfile
from collections import Counter
from pathlib import Path

import fpsample
import numpy as np
import torch
import trimesh
from scipy.spatial import cKDTree
from torch import nn

import smnoise

POINTS, GROUPS, NEAR, WIDTH = 1024, 64, 32, 96


def read_models(archive: Path, most_faces: int = 200_000):
    """Points [POINTS, 3] on the surface of each model, centred, of radius 1, and its category."""
    with zipfile.ZipFile(archive) as file:
        lines = file.read("PluginFurnitureCatalog.properties").decode("latin1").splitlines()
        said = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
        for key in sorted(k for k in said if re.fullmatch(r"model#\d+", k)):
            try:
                obj = file.read(said[key].lstrip("/"))
                mesh = trimesh.load(io.BytesIO(obj), "obj", force="mesh", process=False, skip_materials=True)
            except (KeyError, ValueError, IndexError) as error:
                print(f"{archive.name}: {said[key]} is left out: {error}")
                continue
            if not 0 < len(mesh.faces) <= most_faces or mesh.area == 0:
                continue
            points, _ = trimesh.sample.sample_surface(mesh, POINTS, seed=0)
            points = points - points.mean(0)
            yield (
                (points / np.linalg.norm(points, axis=1).max()).astype(np.float32),
                said.get(key.replace("model", "category"), "?"),
            )


def patches_of(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres [GROUPS, 3] far from each other, and each one's NEAR nearest points about it, [GROUPS, NEAR, 3]."""
    centres = points[fpsample.bucket_fps_kdline_sampling(points, GROUPS, h=3, start_idx=0)]
    _, ids = cKDTree(points).query(centres, NEAR)
    return centres, points[ids] - centres[:, None]


def blocks(depth: int) -> nn.Module:
    layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, depth, nn.LayerNorm(WIDTH), enable_nested_tensor=False)


class PointMAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(3, 64), nn.GELU(), nn.Linear(64, 128))
        self.second = nn.Sequential(nn.Linear(256, 128), nn.GELU(), nn.Linear(128, WIDTH))
        self.place = nn.Sequential(nn.Linear(3, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
        self.place_decoded = nn.Sequential(nn.Linear(3, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
        self.encoder, self.decoder = blocks(4), blocks(2)
        self.hidden = nn.Parameter(torch.zeros(WIDTH))
        self.head = nn.Linear(WIDTH, 3 * NEAR)

    def encode(self, centres, patches):
        """centres [B, G, 3], patches [B, G, NEAR, 3] -> [B, G, WIDTH]."""
        each = self.first(patches)
        both = torch.cat([each, each.amax(2, keepdim=True).expand_as(each)], dim=3)
        return self.encoder(self.second(both).amax(2) + self.place(centres))

    def forward(self, centres, patches, masks: smnoise.MaskBatch):
        """The loss, Chamfer's with squares, and the hidden patches as they are filled in, [B, M, NEAR, 3]."""

        def of(values, ids):
            return values[torch.arange(len(values))[:, None], ids]

        keep, hide = masks.ids_keep, masks.ids_mask
        visible = self.encode(of(centres, keep), of(patches, keep))
        everything = torch.cat([visible, self.hidden.expand(*hide.shape, WIDTH)], dim=1)
        places = self.place_decoded(torch.cat([of(centres, keep), of(centres, hide)], dim=1))
        filled = self.head(self.decoder(everything + places)[:, keep.shape[1] :]).unflatten(2, (NEAR, 3))
        apart = (filled[..., None, :] - of(patches, hide)[..., None, :, :]).square().sum(-1)
        return (apart.amin(2) + apart.amin(3)).mean(), filled


def sampler_of(mask: str, step):
    if mask == "random":
        random = smnoise.Random((GROUPS,), 0.6, seed=0)
        return lambda samples, points: random(samples)
    noise = smnoise.PointMasks(GROUPS, 0.6, color=mask, step=step, seed=0)
    return lambda samples, points: noise(samples, points=points)


@torch.no_grad()
def probe(model, clouds, labels, train, classes) -> float:
    """Accuracy of a ridge classifier on mean and maximum of the encoder's tokens: fitted on `train`, asked of the rest."""
    tokens = torch.cat([model.encode(*(c[i : i + 64] for c in clouds)) for i in range(0, len(labels), 64)])
    features = torch.cat([tokens.mean(1), tokens.amax(1), torch.ones(len(tokens), 1)], dim=1).double()
    features[:, :-1] = (features[:, :-1] - features[train, :-1].mean(0)) / features[train, :-1].std(0)
    known, wanted = features[train], nn.functional.one_hot(labels[train], classes).double()
    solved = torch.linalg.solve(known.T @ known + 10 * torch.eye(known.shape[1]).double(), known.T @ wanted)
    return ((features[~train] @ solved).argmax(1) == labels[~train]).double().mean().item()


def draw(path, centres, patches, masks, filled) -> None:
    """Visible patches, and what is filled in, of the first clouds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(12, 8))
    for i in range(min(4, len(centres))):
        whole = patches[i] + centres[i][:, None]
        parts = whole, whole[masks.ids_keep[i]], filled[i] + centres[i][masks.ids_mask[i]][:, None]
        for j, (name, points) in enumerate(zip(("model", "visible", "filled in"), parts, strict=True)):
            axes = figure.add_subplot(3, 4, 4 * j + i + 1, projection="3d")
            x, y, z = points.reshape(-1, 3).T
            axes.scatter(x, z, y, s=1.5, c="tab:orange" if j == 2 else "tab:blue")
            axes.set(title=name, xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1))
            axes.set_axis_off()
    figure.savefig(path, dpi=90, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archives", type=Path, nargs="+", help="the last one is for the test")
    parser.add_argument("--mask", default="green", choices=["random", "red", "green", "blue", "purple"])
    parser.add_argument("--step", default="auto", help='of the noise, for a cloud of radius 1; or "auto"')
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    found = [(*m, i) for i, archive in enumerate(given.archives) for m in read_models(archive)]
    pairs = [patches_of(points) for points, _, _ in found]
    centres, patches = (torch.from_numpy(np.stack(v)) for v in zip(*pairs, strict=True))
    counts = Counter(category for _, category, _ in found)
    names = sorted(name for name, count in counts.items() if count >= 8 and name != "Miscellaneous")
    last = torch.tensor([i == len(given.archives) - 1 for _, _, i in found])
    asked = torch.tensor([category in names for _, category, _ in found])
    labels = torch.tensor([names.index(c) if c in names else 0 for _, c, _ in found])[asked]
    print(f"{len(found)} models, {int(last.sum())} of them for the test; {len(names)} categories")

    torch.manual_seed(given.seed)
    model = PointMAE()
    score = lambda: probe(model, (centres[asked], patches[asked]), labels, ~last[asked], len(names))  # noqa: E731
    if names:
        print(f"probe before training {score():.3f}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    sampler = sampler_of(given.mask, given.step if given.step == "auto" else float(given.step))
    known = (~last).nonzero()[:, 0] if len(given.archives) > 1 else torch.arange(len(found))
    for step in range(given.steps):
        samples = smnoise.sample_indices(step, given.batch_size)
        rows = known[samples % len(known)]
        masks = sampler(samples, centres[rows])
        loss, filled = model(centres[rows], patches[rows], masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0 or step == given.steps - 1:
            print(f"step {step:5}  loss {loss.item():.4f}", flush=True)
    draw("points.png", centres[rows], patches[rows], masks, filled.detach())
    if names:
        most = labels[last[asked]].bincount().max() / max(1, int(last[asked].sum()))
        print(f"probe after training {score():.3f} (the most frequent category: {most:.3f})")


if __name__ == "__main__":
    main()
