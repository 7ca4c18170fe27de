# SPDX-License-Identifier: Apache-2.0
"""What a joint model knows of which sound belongs to which picture: retrieval, and the shuffle gap."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..data.messages import FileMessage
from ..errors import DataError
from ..models.cavmae import CAVMAE
from ..samplers.coupled import MaskPair

WITHIN = (1, 5, 10)


@torch.no_grad()
def pair_scores(
    model: CAVMAE, batches: Iterable[dict], inputs: Callable[[Tensor, Tensor], Tensor],
    masks: Callable[[Tensor], MaskPair], device: torch.device,
) -> tuple[dict[str, float], list[FileMessage]]:  # fmt: skip
    """Scores of pairs that the model has not seen, and what was wrong with files.

    - `audio_error`, `video_error`: reconstruction beside the own partner, masks numbered by place.
    - `audio_gap`, `video_gap`: the shuffle gap, that error beside the next clip's partner in the batch, less the one
      beside the own. Above 0 a model listens to the other modality; 0 is what a model has that ignores it.
    - `audio_to_video_r1` and so on: how often the own picture is among the first 1, 5, 10 by cosine of the mean tokens,
      of all clips, nothing hidden; and the other way.
    - `pairs`: of how many; `score`: the mean of both r1.

    Args:
        model: in evaluation mode.
        batches: of `data.audiovisual.EveryPair`, in an order in which the next clip is of another film (`apart`), whose
            sound is more of another's than that of other seconds of the same film.
        inputs: makes spectrograms of waves and lengths.
        masks: of places, int64 [B] on the device.
        device: of the model.

    Raises DataError where fewer than two pairs decode.
    """
    heard, seen, messages = [], [], []
    sums, count = torch.zeros(4, dtype=torch.float64), 0
    for batch in batches:
        messages += batch["broken"]
        own = batch["decodes"].bool()
        if not own.any():
            continue
        pixels, wave, length, place = (
            batch[name][own].to(device) for name in ("clip", "wave", "length", "place")
        )
        spectrograms = inputs(wave, length)
        seen.append(model.features(pixels, None).float().cpu())
        heard.append(model.features(None, spectrograms).float().cpu())
        if (rows := len(place)) < 2:
            continue
        pair = masks(place)
        others = torch.arange(rows, device=device).roll(1)
        shuffled = MaskPair(pair.video, _rows(pair.audio, others))
        found = (
            *model.errors(pixels, spectrograms, pair),
            *model.errors(pixels, spectrograms[others], shuffled),
        )
        sums += rows * torch.stack(found).double().cpu()
        count += rows
    if not count:
        raise DataError("at least two pairs that decode are needed in a batch, to be told from each other")
    audio, video, audio_beside, video_beside = (sums / count).tolist()
    scores = {
        "audio_error": audio,
        "video_error": video,
        "audio_gap": audio_beside - audio,
        "video_gap": video_beside - video,
    }
    cosine = _unit(torch.cat(seen)) @ _unit(torch.cat(heard)).T
    for name, table in (("video_to_audio", cosine), ("audio_to_video", cosine.T)):
        # Of equal cosines, as of two silent clips, the own is counted as the last.
        rank = (table >= table.diagonal()[:, None]).sum(1) - 1
        scores |= {f"{name}_r{k}": (rank < k).double().mean().item() for k in WITHIN}
    scores["pairs"] = float(len(cosine))
    scores["score"] = (scores["video_to_audio_r1"] + scores["audio_to_video_r1"]) / 2
    return scores, sorted(set(messages))


def _unit(features: Tensor) -> Tensor:
    return torch.nn.functional.normalize(features, dim=1)


def _rows(masks, order: Tensor):
    """The masks of a batch in another order of its rows."""
    return masks._replace(**{n: v[order] for n, v in masks._asdict().items() if isinstance(v, Tensor)})
