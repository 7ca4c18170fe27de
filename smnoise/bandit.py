# SPDX-License-Identifier: Apache-2.0
"""A bandit that learns from the losses of a run how often each sigma of a colour's range is drawn (extension 17).

bandit = smnoise.SigmaBandit()
masks = sampler(samples, sigma_table=bandit.table)
bandit.observe(sampler.seed, samples, losses)    # of each clip; nothing waits
bandit.update()                                  # every 64 steps, say
"""

from __future__ import annotations

import decimal
from collections.abc import Callable
from decimal import Decimal
from functools import cached_property
from typing import Any

import torch

from . import ops
from .reference import BANK
from .samplers.indices import as_seed, check_device
from .sigmas import sigma_table, thresholds
from .spec import as_choice, as_float
from .tensors import INTEGERS, check_tensors

ARMS = 8
SIGMAS = BANK // ARMS
"""Neighbouring values of the bank that an arm draws from, evenly."""
REWARDS = ("band", "hardest", "easiest")
ONE = 1 << 20
"""1.0 in the state, all of which is integers."""
MOST_LOSS = 64 * ONE
MOST_REWARD = 4 * ONE
LEAST_LOG = -64 * ONE
PURPOSE_SIGMAS = 1
EVEN = (1,) * ARMS


class SigmaBandit:
    """How often each of 8 buckets of sigma is drawn, learned from losses (after Graves et al. 2017, arXiv 1704.03003).

    A bucket is 4 neighbouring values of the 32 of sigma1; bucket 0 has the smallest. All state is integers, and losses
    are summed as integers, so that the sums do not depend on the order of the clips, nor on how many processes they are
    spread over. Each update turns the mean loss of each bucket into a reward and that into the shares of the draws to
    come; a tenth of the draws is always even.

    >>> bandit = SigmaBandit()
    >>> bandit.shares()
    [0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125]

    Args:
        reward: "band" draws buckets whose loss is near `target`; "hardest" those of the largest loss, "easiest" those
            of the smallest, both of which may end at one end of the range.
        target: for "band": the wanted loss, as a share of the untrained model's, in (0, 8].
        device: where the masks are made; by default the CPU.

    Attributes: table, int64 [31] on the device, which updates write into, so that captured graphs read the new one.

    Raises ValueError or TypeError for other values.
    """

    def __init__(self, reward: str = "band", target: float = 0.6, device=None):
        self.reward = as_choice("reward", reward, REWARDS)
        self.target = as_float("target", target)
        if not 0 < self.target <= 8:
            raise ValueError(f"target must be in (0, 8], a share of the untrained model's loss; got {target}")
        check_device(device)
        self.updates = 0
        self.first: int | None = None
        self.averages: list[int | None] = [None] * ARMS
        self.logs = [0] * ARMS
        self.table = sigma_table([1.0] * BANK, device)
        self.tallies = torch.zeros(2, ARMS, dtype=torch.int64, device=self.table.device)

    @cached_property
    def _arms(self) -> torch.Tensor:
        return torch.arange(ARMS, device=self.table.device)

    @torch.no_grad()
    def observe(self, seed: int | torch.Tensor, samples: torch.Tensor, losses: torch.Tensor) -> None:
        """Add the losses of clips whose masks were drawn with `table` as it is. Nothing waits for their values.

        Args:
            seed: of the sampler that made the masks.
            samples: int64 [B], the sample indices of the masks, on the bandit's device.
            losses: float [B], likewise. Less than 0 counts as 0; more than 64, or no number, as 64.

        Raises TypeError or ValueError for other tensors.
        """
        check_tensors(samples=samples, losses=losses)
        if not losses.is_floating_point() or samples.dtype not in INTEGERS:
            raise TypeError(
                f"losses must be floats and samples int64, got {losses.dtype} and {samples.dtype}"
            )
        if losses.dim() != 1 or losses.shape != samples.shape:
            raise ValueError(
                f"need a loss for each sample, [B] each; got {tuple(losses.shape)} for {tuple(samples.shape)}"
            )
        for name, tensor in (("losses", losses), ("samples", samples)):
            if tensor.device != self.table.device:
                raise ValueError(
                    f"{name} are on {tensor.device}, the bandit is on {self.table.device}; put all on one"
                )
        samples = samples.to(torch.int64)
        words = ops.random_words(as_seed(seed, samples.device), samples, PURPOSE_SIGMAS, 1)
        drawn = (self.table <= words).sum(dim=1) // SIGMAS
        # Times a power of two is exact, so that only the rounding to integers rounds.
        fixed = (losses.float() * ONE).round().nan_to_num(nan=MOST_LOSS).clamp(0, MOST_LOSS).to(torch.int64)
        of_arm = drawn[:, None] == self._arms
        self.tallies += torch.stack([(of_arm * fixed[:, None]).sum(dim=0), of_arm.sum(dim=0)])

    def update(self, total: Callable[[torch.Tensor], torch.Tensor] | None = None) -> None:
        """Learn from what was observed since the last update, and forget that. Waits for the device.

        The first update only notes the mean loss, that of the untrained model, by which others are measured; so let it
        come after the first step. One without any observation changes nothing.

        total: of several processes, which all call this: makes of an int64 tensor on the CPU the sum of all of theirs.
        """
        sums, counts = self._total(total)
        self.tallies.zero_()
        if not any(counts):
            return
        self.updates += 1
        if self.first is None:
            self.first = max(1, sum(sums) // sum(counts))
            return
        for arm, (loss, count) in enumerate(zip(sums, counts, strict=True)):
            if count:
                mean, before = loss // count, self.averages[arm]
                self.averages[arm] = mean if before is None else (before + mean) // 2
        rewards = [None if average is None else self._reward(average) for average in self.averages]
        known = [reward for reward in rewards if reward is not None]
        usual = sum(known) // len(known)
        logs = [
            log * 19 // 20 + (usual if r is None else r) for log, r in zip(self.logs, rewards, strict=True)
        ]
        self.logs = [max(log - max(logs), LEAST_LOG) for log in logs]
        self._put_table()

    def _reward(self, average: int) -> int:
        assert self.first is not None  # an average is of a later update
        share = average * ONE // self.first
        if self.reward == "band":
            return max(-abs(share - round(self.target * ONE)), -MOST_REWARD)
        return min(share, MOST_REWARD) if self.reward == "hardest" else -min(share, MOST_REWARD)

    def weights(self) -> list[int]:
        """What the buckets' shares are proportional to: nine tenths by the exponentials of their rewards' sums, a tenth
        evenly."""
        if not self.updates:
            return list(EVEN)
        # Correctly rounded, where the exp of C libraries differs from one to another.
        with decimal.localcontext(decimal.Context(prec=40, rounding=decimal.ROUND_HALF_EVEN)):
            powers = [int((Decimal(log) / ONE).exp().scaleb(9).to_integral_value()) for log in self.logs]
        return [9 * ARMS * power + sum(powers) for power in powers]

    def shares(self) -> list[float]:
        """Return the share of draws that each bucket has now, as `table` has them; they sum to 1."""
        weights = self.weights()
        return [weight / sum(weights) for weight in weights]

    def losses(self) -> list[float | None]:
        """The mean loss of each bucket, half of it from the last update; None of one that was not drawn yet."""
        return [None if average is None else average / ONE for average in self.averages]

    def _put_table(self) -> None:
        weights = [weight for weight in self.weights() for _ in range(SIGMAS)]
        self.table.copy_(torch.tensor(thresholds(weights, sum(weights)), dtype=torch.int64))

    def _total(self, total) -> list[list[int]]:
        tallies = self.tallies.to("cpu", copy=True)
        return (tallies if total is None else total(tallies)).tolist()

    def state_dict(self, total: Callable[[torch.Tensor], torch.Tensor] | None = None) -> dict[str, Any]:
        """The state as JSON can hold it, with what was observed since the last update. total: as of `update`."""
        sums, counts = self._total(total)
        return {
            "reward": self.reward,
            "target": self.target,
            "updates": self.updates,
            "first": self.first,
            "averages": list(self.averages),
            "logs": list(self.logs),
            "sums": sums,
            "counts": counts,
        }

    def load_state_dict(self, state: dict[str, Any], observed: bool = True) -> None:
        """Put a state back. observed: False to leave out what was observed since the last update, which belongs to one
        of several processes.

        Raises ValueError for what is no state, or one of another reward or target.
        """
        problem = _problem(state, self.reward, self.target)
        if problem:
            raise ValueError(f"this is no state of such a bandit: {problem}")
        self.updates, self.first = state["updates"], state["first"]
        self.averages, self.logs = list(state["averages"]), list(state["logs"])
        pending = [state["sums"], state["counts"]] if observed else [[0] * ARMS] * 2
        self.tallies.copy_(torch.tensor(pending, dtype=torch.int64))
        self._put_table()


def _problem(state, reward: str, target: float) -> str | None:
    """What is wrong with a state; None where nothing is."""

    def whole(value, low: int, high: int) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    if not isinstance(state, dict):
        return f"it is a {type(state).__name__}"
    names = {"reward", "target", "updates", "first", "averages", "logs", "sums", "counts"}
    if set(state) != names:
        return f"it has {sorted(map(str, state))}, not {sorted(names)}"
    if (state["reward"], state["target"]) != (reward, target):
        return f"it is of reward {state['reward']!r} and target {state['target']!r}, not {reward!r} and {target!r}"
    if not whole(state["updates"], 0, 2**62):
        return f"updates is {state['updates']!r}"
    if (state["first"] is None) != (state["updates"] == 0) or not whole(state["first"] or 1, 1, MOST_LOSS):
        return f"first is {state['first']!r}"
    ranges = {"averages": (0, MOST_LOSS), "logs": (LEAST_LOG, 0), "sums": (0, 2**62), "counts": (0, 2**62)}
    for name, (low, high) in ranges.items():
        values = state[name]
        if not isinstance(values, list) or len(values) != ARMS:
            return f"{name} must be {ARMS} integers, got {values!r}"
        if not all(whole(v, low, high) or (name == "averages" and v is None) for v in values):
            return f"{name} must be integers of {low} .. {high}, got {values!r}"
    return None
