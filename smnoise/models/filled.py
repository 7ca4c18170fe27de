# SPDX-License-Identifier: Apache-2.0
"""What a model fills in, as values, read in ways that are named for what they put back.

VideoMAE, AudioMAE and CAV-MAE usually predict each token less its own mean, over its own deviation. A prediction then
has no brightness and no contrast, and to show it some statistics must be put back. The views say whose:

own     those of the visible tokens near by: what a user of the model has
leaked  the true ones of the hidden tokens: the answer's own brightness and contrast, which flatter any model
means   the true means of the hidden tokens and no prediction at all: how much of `leaked` is the leak
raw     none: what the model says. Of a model that predicts plain values this is the picture itself, and the only view
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..masks import MaskBatch
from ..samplers.coupled import MaskPair
from .audiomae import AudioMAE, from_patches, patch_statistics, to_patches
from .cavmae import CAVMAE
from .common import gather_tokens
from .videomae import Cubes, VideoMAE


@torch.no_grad()
def video_views(model: VideoMAE, clip: Tensor, masks: MaskBatch) -> tuple[dict[str, Tensor], float]:
    """Readings of the prediction for one clip, uint8 [1, 3, frames, H, W], under one mask of its grid.

    Returns "clip", "masked" (hidden cubes NaN), "own", "leaked", "means" and "raw", each float32
    [3, frames, H, W], in [0, 1] where it is an image; and the loss. Visible cubes are pasted into all but "raw",
    which has grey there and is the prediction at a quarter of its contrast about grey.
    """
    model.eval()
    loss, prediction = model(clip, masks)
    return read_cubes(model, clip, masks, prediction), loss.item()


@torch.no_grad()
def audio_views(model: AudioMAE, spectrogram: Tensor, masks: MaskBatch) -> tuple[dict[str, Tensor], float]:
    """Readings of the prediction for one normalised spectrogram [1, frames, mel] under one mask of its grid.

    Returns "spectrogram", "masked" (hidden patches NaN), "own", "leaked", "means" and "raw", each float32
    [frames, mel], of a model that predicts plain values just "raw" of the last four; and the loss. Visible patches are
    pasted into all, but where "raw" is in normalised values it has 0 there.
    """
    model.eval()
    loss, prediction = model(spectrogram, masks)
    return read_patches(spectrogram, masks, prediction, model.patch, model.normalise_target), loss.item()


@torch.no_grad()
def joint_views(
    model: CAVMAE, clip: Tensor, spectrogram: Tensor, masks: MaskPair
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, float]]:
    """Readings of both predictions for one clip with its sound: the views of `video_views`, those of `audio_views`, and
    the errors of both, "video_error" and "audio_error"."""
    model.eval()
    to_audio, to_video = model.predict(clip, spectrogram, masks)
    audio_error, video_error = model.errors(clip, spectrogram, masks)
    seen = read_cubes(model, clip, masks.video, to_video, together=model.layout == "cavmae")
    in_order = model.in_order(spectrogram)
    heard = read_patches(in_order, masks.audio, to_audio, model.patch, model.normalise_target)
    if model.layout == "cavmae":
        heard = {name: view.T for name, view in heard.items()}
    return seen, heard, {"video_error": video_error.item(), "audio_error": audio_error.item()}


def read_cubes(
    model: Cubes, clip: Tensor, masks: MaskBatch, prediction: Tensor, together: bool = False
) -> dict[str, Tensor]:
    """The views of `video_views` of a prediction [1, M, P]. together: the target was normalised over all channels of a
    cube, after the pixels were by the model's mean and std; otherwise in each channel."""
    every = torch.arange(masks.num_tokens, device=clip.device).expand(len(clip), -1)
    cubes = model.cubes(clip, every)
    std, mean = model.std[:, None], model.mean[:, None]
    if not together:
        cubes = cubes * std + mean
    ids_keep, ids_mask = masks.need("ids_keep"), masks.need("ids_mask")
    visible, hidden = (gather_tokens(cubes, ids) for ids in (ids_keep, ids_mask))
    predicted = prediction.float().unflatten(2, (-1, model.channels)).transpose(-1, -2)
    true = cube_statistics(hidden, together)
    near = [
        near_by(s.flatten(2), masks).unflatten(2, s.shape[2:]) for s in cube_statistics(visible, together)
    ]

    def pasted(values: Tensor, background: Tensor = cubes, as_pixels: bool = together) -> Tensor:
        index = ids_mask.long()[..., None, None].expand_as(hidden)
        filled = background.scatter(1, index, values.expand_as(hidden).to(cubes.dtype))
        return as_frames(model, filled * std + mean if as_pixels else filled, masks.grid)[0].cpu()

    return {
        "clip": as_frames(model, cubes * std + mean if together else cubes, masks.grid)[0].cpu(),
        "masked": pasted(hidden.new_full((1,), torch.nan)),
        "own": pasted(predicted * (near[1] + 1e-6) + near[0]),
        "leaked": pasted(predicted * (true[1] + 1e-6) + true[0]),
        "means": pasted(true[0]),
        "raw": pasted(0.5 + predicted / 8, torch.full_like(cubes, 0.5), as_pixels=False),
    }


def read_patches(
    spectrogram: Tensor, masks: MaskBatch, prediction: Tensor, patch: int, normalised: bool
) -> dict[str, Tensor]:
    """The views of `audio_views` of a prediction [1, M, P] for a spectrogram whose axes are those of the masks' grid.
    normalised: whether the target is."""
    patches = to_patches(spectrogram, patch)
    ids_keep, ids_mask = masks.need("ids_keep"), masks.need("ids_mask")
    visible, hidden = (gather_tokens(patches, ids) for ids in (ids_keep, ids_mask))
    mean, std = patch_statistics(hidden)

    def pasted(values: Tensor, background: Tensor = patches) -> Tensor:
        index = ids_mask.long()[..., None].expand_as(hidden)
        filled = background.scatter(1, index, values.expand_as(hidden).to(background.dtype))
        return from_patches(filled, masks.grid[1:])[0].cpu()

    views = {"spectrogram": spectrogram[0].cpu(), "masked": pasted(hidden.new_full((1,), torch.nan))}
    if not normalised:
        return views | {"raw": pasted(prediction.float())}
    near_mean, near_std = (near_by(s, masks) for s in patch_statistics(visible))
    return views | {
        "own": pasted(prediction * near_std + near_mean),
        "leaked": pasted(prediction * std + mean),
        "means": pasted(mean),
        "raw": pasted(prediction.float(), torch.zeros_like(patches)),
    }


def near_by(visible: Tensor, masks: MaskBatch) -> Tensor:
    """Spread values of the visible tokens, float32 [1, V, C], to the hidden ones, [1, M, C], by inverse squared
    distance.
    """
    _, h, w = masks.grid
    keep, hide = (
        torch.stack([ids[0] // (h * w), ids[0] // w % h, ids[0] % w], dim=1).float()
        for ids in (masks.need("ids_keep"), masks.need("ids_mask"))
    )
    weight = torch.cdist(hide, keep, compute_mode="donot_use_mm_for_euclid_dist") ** -2
    return weight / weight.sum(dim=1, keepdim=True) @ visible


def cube_statistics(cubes: Tensor, together: bool = False) -> tuple[Tensor, Tensor]:
    """Return the mean and the unbiased standard deviation of each channel of each cube, float [..., C, P]: [..., C, 1]
    both; or together, of all channels of a cube: [..., 1, 1].
    """
    dims = (-2, -1) if together else (-1,)
    std, mean = torch.std_mean(cubes, dim=dims, keepdim=True, correction=1)
    return mean, std


def as_frames(model: Cubes, cubes: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Put cubes, float [B, L, C, P] of grid (T, H, W), together as a clip, the inverse of `Cubes.cubes` without its
    normalisation: [B, C, frames, height, width].
    """
    t, h, w = grid
    x = cubes.reshape(len(cubes), t, h, w, model.channels, model.tubelet, model.patch, model.patch)
    x = x.permute(0, 4, 1, 5, 2, 6, 3, 7)
    return x.reshape(len(cubes), model.channels, t * model.tubelet, h * model.patch, w * model.patch)
