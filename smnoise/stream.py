# SPDX-License-Identifier: Apache-2.0
"""Masks batch after batch, also where the training step is a captured CUDA graph."""

from __future__ import annotations

from typing import Any

import torch

from .ahead import InThread, OnStream
from .masks import MaskBatch
from .ops import ALL_OUTPUTS
from .samplers import Sampler, sample_indices
from .samplers.base import check_sampler
from .sigmas import SigmaSchedule
from .spec import as_int, signed64


class MaskStream:
    """The masks of step 0, 1, 2, ...: each call gives the next batch. Its counter lives on the device and is advanced
    there, so in a captured CUDA graph every replay gives new masks; nothing waits for the device.

        stream = smnoise.MaskStream(sampler, batch_size=32, device="cuda")
        with torch.cuda.graph(graph):
            masks = stream()

    >>> import smnoise
    >>> sampler = smnoise.White3D((1, 2, 3), num_visible=2)
    >>> stream = smnoise.MaskStream(sampler, batch_size=2, rank=1, world_size=2)
    >>> stream().ids_keep.tolist(), sampler([2, 3]).ids_keep.tolist()
    ([[2, 4], [3, 4]], [[2, 4], [3, 4]])

    Args:
        sampler: any sampler of smnoise.
        batch_size, rank, world_size: as in `smnoise.sample_indices`.
        step: number of the first batch; after a restart, of the first one not yet trained on.
        device: where masks are made.
        backend, outputs: as in `smnoise.ops.color_mask`.
        ids_dtype: as in a sampler's call.
        sigma_table: for colours, int64 [31] on that device, or a `smnoise.SigmaSchedule`, which gives each batch the
            table of its step.
        ahead: 1 to make the next batch while this one is trained on: on a GPU on a stream of its own, on the CPU in a
            thread, which uses one core. The masks are the same, and so is what a checkpoint holds. What goes wrong in
            the thread is raised by the call that would have given those masks. Not for captured or compiled code.

    `stream.step` is the number of the next batch, an integer; reading it waits for the device. `stream.step = n` goes
    to batch n, and so does a captured graph. `state_dict` and `load_state_dict` are for checkpoints.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        step: int = 0,
        device: torch.device | str = "cpu",
        backend: str = "auto",
        outputs: str = ALL_OUTPUTS,
        ids_dtype: torch.dtype | None = None,
        sigma_table: torch.Tensor | SigmaSchedule | None = None,
        ahead: int = 0,
    ):
        check_sampler(sampler)
        device = "cpu" if device is None else device
        # The state: the sample indices of the next batch, to which each call adds. Raises for what cannot be.
        self.samples = sample_indices(step, batch_size, rank=rank, world_size=world_size, device=device)
        self.sampler, self.batch_size = sampler, batch_size
        self.ranks = {"rank": rank, "world_size": world_size}
        self.arguments: dict[str, Any] = {"backend": backend, "outputs": outputs, "ids_dtype": ids_dtype}
        self.sigma_table = sigma_table
        # Held: made anew in each call it would cost a kernel each time.
        self.seed = torch.full((), signed64(sampler.seed), dtype=torch.int64, device=device)
        # Else a compiled step that advances them is not made a CUDA graph (mode="reduce-overhead").
        for tensor in (self.samples, self.seed):
            torch._dynamo.mark_static_address(tensor)
        self._masks(
            self.samples
        )  # compiles and uploads what the first batch needs, which cannot be done in a capture
        self._ahead: InThread | OnStream | None = None
        self._next = int(step)  # with ahead, where the host counts
        if as_int("ahead", ahead, 0, 1):
            self._ahead = OnStream(self.samples.device) if self.samples.is_cuda else InThread()

    def __call__(
        self,
        *,
        bias: torch.Tensor | None = None,
        bias_weight: float = 1.0,
        sigma_table: torch.Tensor | None = None,
    ) -> MaskBatch:
        """The next batch.

        Args:
            bias, bias_weight, sigma_table: of this batch, as in a sampler's call; in a captured graph, tensors that are
                written anew before each replay. Not with ahead=1, which makes masks before these are known.

        Raises ValueError with ahead=1, and what a sampler's call raises.
        """
        if self._ahead is None:
            if bias is sigma_table is self.sigma_table is None:  # the short way
                masks = self.sampler(self.samples, seed=self.seed, **self.arguments)
            else:
                masks = self._masks(self.samples, sigma_table, bias=bias, bias_weight=bias_weight)
            self.samples.add_(self._every)
            return masks
        if bias is not None or sigma_table is not None:
            raise ValueError(
                "a MaskStream with ahead=1 has made these masks already: leave bias and sigma_table out of the call "
                "(a sigma_table, or a SigmaSchedule, may be given when the stream is made), or make it with ahead=0"
            )
        made = self._ahead.take()
        masks = self._masks(self._samples(self._next)) if made is None else made
        self._next += 1
        following = self._next
        self._ahead.start(lambda: self._masks(self._samples(following)))
        return masks

    @property
    def step(self) -> int:
        """The number of the next batch. Waits for the device."""
        if self._ahead is not None:
            return self._next
        return (int(self.samples[0]) // self.batch_size - self.ranks["rank"]) // self.ranks["world_size"]

    @step.setter
    def step(self, step: int) -> None:
        self.samples.copy_(self._samples(step))
        self._next = int(step)
        if self._ahead is not None:
            self._ahead.drop()

    def state_dict(self) -> dict[str, int]:
        """Return what a checkpoint needs: the number of the next batch. Waits for the device."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on with the batch of `state_dict`. A captured graph goes on with it too.

        Raises TypeError, ValueError for a state that is none.
        """
        if set(state) != {"step"}:
            raise ValueError(f"the state of a MaskStream is {{'step': n}}, got {state!r}")
        self.step = state["step"]

    def _samples(self, step: int) -> torch.Tensor:
        return sample_indices(step, self.batch_size, **self.ranks, device=self.samples.device)

    @property
    def _every(self) -> int:
        """Samples of all ranks in a step."""
        return self.batch_size * self.ranks["world_size"]

    def _masks(self, samples: torch.Tensor, sigma_table=None, **bias) -> MaskBatch:
        table = self.sigma_table if sigma_table is None else sigma_table
        if isinstance(table, SigmaSchedule):
            table = table(samples[0] // self._every)
        return self.sampler(samples, seed=self.seed, sigma_table=table, **bias, **self.arguments)
