# SPDX-License-Identifier: Apache-2.0
"""How often a run draws each sigma of its colour masks: evenly, by a schedule over its steps, or by a bandit.

A schedule is a function of the step, and has no state. The bandit's is in each checkpoint. It sees the loss of each
clip of all processes, summed as integers on the device, and is read after the first step and every `bandit_every`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor

from ..bandit import ARMS, SIGMAS, SigmaBandit
from ..errors import CheckpointError
from ..samplers import FrameCounts, Sampler
from ..sigmas import STAGES, SigmaSchedule
from .settings import Pretraining, at_least
from .world import World


@dataclass(frozen=True, kw_only=True)
class ColorPretraining(Pretraining):
    """Pretraining of a medium whose masks may draw their sigmas by the step or by losses."""

    sigmas: Literal["even", "easy-to-hard", "hard-to-easy", "widen", "bandit"] = "even"
    """Of colour masks: how often each sigma1 is drawn. A schedule goes over the whole run; see `smnoise.SigmaSchedule`.
    bandit: learned from the losses of clips; see `smnoise.SigmaBandit`."""
    bandit_reward: Literal["band", "hardest", "easiest"] = "band"
    """What the bandit seeks. band: losses near bandit_target."""
    bandit_target: float = 0.6
    """For band: the wanted loss, as a share of that of the first step."""
    bandit_every: int = 64
    """Steps from one update of the bandit to the next, for which the host waits."""

    def check(self) -> None:
        super().check()
        at_least(1, self, ("bandit_every",))
        SigmaBandit(self.bandit_reward, self.bandit_target)  # raises for a target that is none
        usual = {f.name: f.default for f in fields(ColorPretraining) if f.name.startswith("bandit_")}
        given = {name: value for name in usual if (value := getattr(self, name)) != usual[name]}
        if self.sigmas != "bandit" and given:
            raise ValueError(f"{', '.join(given)} is for sigmas bandit, got sigmas {self.sigmas}")
        if self.sigmas != "even" and not draws_sigmas(self.sampler()):
            raise ValueError(
                f"sigmas {self.sigmas} is for masks of colours that draw a sigma, such as green-3d; {self.mask} draws "
                "none, leave sigmas out"
            )


def draws_sigmas(sampler: Sampler) -> bool:
    """Whether a table of sigmas changes a sampler's masks."""
    of = sampler._scorer if isinstance(sampler, FrameCounts) else sampler
    return bool(sampler._colored) and getattr(of, "color", "white") != "white"


class Sigmas:
    """What a run draws sigmas by. All processes call its methods, but for `tables` and `saw`, in the same order.

    Args:
        config: of the run.
        sampler: of its masks.
        steps: of the whole run.
        device: where masks are made.
    """

    def __init__(self, config: ColorPretraining, sampler: Sampler, steps: int, device: torch.device):
        self.every, self.seed = config.bandit_every, sampler.seed
        self.device = device
        self.bandit: SigmaBandit | None = None
        self.schedule: SigmaSchedule | None = None
        if config.sigmas == "bandit":
            self.bandit = SigmaBandit(config.bandit_reward, config.bandit_target, device)
        elif config.sigmas != "even":
            if steps < STAGES:
                raise ValueError(
                    f"sigmas {config.sigmas} has {STAGES} stages, and the run {steps} steps; raise epochs, lower the "
                    "clips of a step, or leave sigmas out"
                )
            self.schedule = SigmaSchedule(config.sigmas, steps)

    def tables(self, step: int) -> dict[str, Any]:
        """What a sampler is given in step `step`, counted from 1, beside samples."""
        if self.bandit is not None:
            return {"sigma_table": self.bandit.table}
        return {} if self.schedule is None else {"sigma_table": self.schedule(step - 1, self.device)}

    def saw(self, samples: Tensor, losses: Callable[[], Tensor]) -> None:
        """Take note of a pass: its sample numbers, int64 [B], and a function that gives the loss of each, float32 [B].
        Nothing waits.
        """
        if self.bandit is not None:
            self.bandit.observe(self.seed, samples, losses())

    def begin(self) -> dict | None:
        """A record for the log of a run that begins."""
        return self._record(0) if self.bandit or self.schedule else None

    def end(self, step: int, world: World) -> dict | None:
        """After step `step`: a record for the log where sigmas are drawn otherwise from now on."""
        if self.bandit is not None and (step == 1 or step % self.every == 0):
            self.bandit.update(world.total)
            return self._record(step)
        if self.schedule is not None and self.schedule.stage(step) != self.schedule.stage(step - 1):
            return self._record(step)
        return None

    def _record(self, step: int) -> dict:
        if self.bandit is not None:
            more = {} if self.bandit.first is None else {"sigma_losses": self.bandit.losses()}
            return {"step": step, "sigma_shares": self.bandit.shares(), **more}
        assert self.schedule is not None  # or there is no record
        weights = self.schedule.weights(int(self.schedule.stage(step)))
        shares = [sum(weights[SIGMAS * arm : SIGMAS * (arm + 1)]) / sum(weights) for arm in range(ARMS)]
        return {"step": step, "sigma_shares": shares}

    def state(self, world: World) -> dict:
        """What a checkpoint holds."""
        return {} if self.bandit is None else {"bandit": self.bandit.state_dict(world.total)}

    def restore(self, state: dict, world: World, where: str) -> None:
        """Go on from a checkpoint. Raises CheckpointError where it has no state of such a bandit."""
        if self.bandit is None:
            return
        try:
            self.bandit.load_state_dict(state.get("bandit", {}), observed=world.writes)
        except ValueError as error:
            raise CheckpointError(f"the checkpoint in {where} cannot be gone on from: {error}") from error
