# SPDX-License-Identifier: Apache-2.0
"""The optimiser and the learning rate of every trainer: AdamW, linear warm-up from 0, half a cosine, step by step."""

from __future__ import annotations

from typing import Protocol

import torch

from ..compat import import_timm

SLOW = 3e-5


class Decaying(Protocol):
    """A model, as far as the groups below ask it."""

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters without weight decay, besides biases and other vectors."""


def decay_groups(model: Decaying, weight_decay: float) -> list[dict]:
    """AdamW's groups: biases, other vectors and what the model's no_weight_decay() names do not decay."""
    import_timm()
    from timm.optim import param_groups_weight_decay

    return param_groups_weight_decay(model, weight_decay, no_weight_decay_list=model.no_weight_decay())


def layer_groups(model: Decaying, weight_decay: float, layer_decay: float) -> list[dict]:
    """`decay_groups` by layer: the last one, the head, learns at the full rate, each before it at layer_decay
    times the next one's; see `cosine` for how."""
    import_timm()
    from timm.optim import param_groups_layer_decay

    return param_groups_layer_decay(
        model, weight_decay, no_weight_decay_list=model.no_weight_decay(), layer_decay=layer_decay
    )


def peak_lr(lr: float, clips_per_step: int) -> float:
    """A learning rate given for 256 clips a step, for so many."""
    return lr * (clips_per_step / 256)


def adamw(groups: list[dict], config) -> torch.optim.AdamW:
    """AdamW for a Config with base_lr, betas and clips_per_step."""
    lr = peak_lr(config.base_lr, config.clips_per_step)
    return torch.optim.AdamW(groups, lr=lr, betas=config.betas, eps=1e-8, fused=True)


def warmup_steps(config, clips: int, steps: int) -> int:
    """Steps of config.warmup_epochs, of `clips` clips an epoch, but at most all but one."""
    return min(round(config.warmup_epochs * clips / config.clips_per_step), steps - 1)


def warmup_note(config) -> list[str]:
    """What a person should be told where `warmup_steps` cuts the warm-up."""
    if config.warmup_epochs < config.epochs:
        return []
    return [
        f"warning: warmup_epochs {config.warmup_epochs:g} is not less than epochs {config.epochs}, so the learning "
        "rate only rises, to its peak in the last step; lower warmup_epochs"
    ]


def rate_note(config) -> list[str]:
    """What a person should be told where so few clips a step make a rate at which pretraining hardly moves."""
    peak = peak_lr(config.base_lr, config.clips_per_step)
    if peak >= SLOW:
        return []
    return [
        f"note: the learning rate rises to {peak:.1e} only, since base_lr {config.base_lr:g} is for 256 clips a step "
        f"and a step here sees {config.clips_per_step}; in a short run raise base_lr"
    ]


def cosine(optimizer: torch.optim.Optimizer, config, steps: int, warmup: int):
    """A schedule whose step_update(n) sets the learning rate of step n, counted from 0; it keeps no position.

    From 0 to the optimiser's rate over `warmup` steps, then half a cosine to config.min_lr, scaled as the rate is.
    A group's "lr_scale", as layer-wise decay sets it, multiplies both.
    """
    import_timm()
    from timm.scheduler import CosineLRScheduler

    return CosineLRScheduler(
        optimizer,
        t_initial=steps - warmup,
        lr_min=peak_lr(config.min_lr, config.clips_per_step),
        warmup_t=warmup,
        warmup_prefix=True,
        t_in_epochs=False,
    )
