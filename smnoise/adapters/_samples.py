# SPDX-License-Identifier: Apache-2.0
"""What modules inside of a model share: they are called with tokens alone, so samples are handed to them beforehand."""

from __future__ import annotations

import weakref

import torch

from ..masks import MaskBatch
from ..samplers import Sampler


class SampledModule(torch.nn.Module):
    """Base of modules that stand in a model where masks are drawn.

    Set `samples`, int64 [B], before each forward pass: a global sample number for each row, as `smnoise.sample_indices`
    makes them. A pass uses them up, so that no two steps have the same masks because a line was forgotten.

    Activation checkpointing (`torch.utils.checkpoint`, use_reentrant=False) may be around the model: what it computes
    again in the backward pass has the masks of the forward pass, as long as each forward pass is followed by its
    backward pass.
    """

    samples: torch.Tensor | None

    def __init__(self, sampler: Sampler):
        super().__init__()
        self.sampler = sampler
        self.samples = None
        self._pass: _Pass | None = None  # the one that is being computed
        self._passes: list[weakref.ref[_Pass]] = []  # those whose graphs may still be needed

    def masks_for(self, tokens: torch.Tensor, outputs: str) -> MaskBatch:
        """Make the masks for a pass over tokens.

        Args:
            tokens: float [B, L, D], of any floating type.
            outputs: the outputs of the masks that are needed, as in `color_mask`.

        Raises RuntimeError where no samples were set, and ValueError where shapes do not fit.
        """
        if self.samples is None and _in_backward():
            self.samples = self._samples_again()
        if self.samples is None:
            raise RuntimeError(
                f"{type(self).__name__}.samples is not set: give it the sample numbers of the batch, int64 [B], "
                "before each forward pass (smnoise.sample_indices makes them from step and rank)"
            )
        if tokens.dim() != 3 or tokens.shape[1] != self.sampler.num_tokens:
            raise ValueError(
                f"the sampler's grid {tuple(self.sampler.grid)} has {self.sampler.num_tokens} tokens, the model has "
                f"{list(tokens.shape)} [B, L, D]; make the sampler for the model's grid"
            )
        samples, self.samples = self.samples, None
        if not torch.compiler.is_compiling():
            self._pass = _Pass(samples)
        if len(samples) != len(tokens):
            raise ValueError(f"{len(samples)} samples were set for a batch of {len(tokens)}")
        if isinstance(samples, torch.Tensor):
            samples = samples.to(tokens.device, non_blocking=True)
        return self.sampler(samples, device=tokens.device, outputs=outputs)

    def visible(self, tokens: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Pick the tokens `ids` [B, V], int64, out of tokens [B, L, D] of any floating type; what comes back is [B, V,
        D].
        """
        found = tokens.gather(1, ids[..., None].expand(-1, -1, tokens.shape[2]))
        if not torch.compiler.is_compiling():
            if self._pass is not None and found.grad_fn is not None and not _in_backward():
                found.grad_fn.metadata["smnoise"] = self._pass  # type: ignore[index]  # lives as long as this graph
                self._passes = [known for known in self._passes if known() is not None]
                self._passes.append(weakref.ref(self._pass))
            self._pass = None
        return found

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_pass": None, "_passes": []}  # of this process

    def _samples_again(self) -> torch.Tensor:
        """Those of the forward pass that is computed again, within a backward pass. Raises RuntimeError where it could
        be another one."""
        alive = [known for reference in self._passes if (known := reference()) is not None]
        if len(alive) != 1:
            raise RuntimeError(
                f"activation checkpointing computes a pass of {type(self).__name__} again, and {len(alive)} passes "
                "wait for their backward pass, so that its samples are not known: call backward after each forward "
                "pass, use use_reentrant=False, or checkpoint the blocks instead of the whole model"
            )
        return alive[0].samples


class _Pass:
    """A forward pass: an object of its own, so that it can be seen whether its graph is still there."""

    def __init__(self, samples: torch.Tensor):
        self.samples = samples


def _in_backward() -> bool:
    return torch._C._current_graph_task_id() != -1  # as torch.utils.checkpoint asks
