# SPDX-License-Identifier: Apache-2.0
"""What every sampler has in common: it is called for sample indices and returns a MaskBatch."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any, ClassVar

import torch

from .. import ops
from ..backends import outside_capture
from ..backends.outputs import NAMES
from ..errors import BackendError
from ..masks import MaskBatch
from ..ops import ALL_OUTPUTS
from ..spec import as_int, as_ratio, as_tuple, signed64, visible_of_ratio
from ..tensors import INTEGERS, as_device, check_tensors
from .making import Checked

KINDS: dict[str, type[Sampler]] = {}


class Sampler(metaclass=Checked):
    """A frozen description of masks. Subclasses are dataclasses with `grid`, `mask_ratio`, `num_visible`, `seed`, and
    set `_spec` (of smnoise.spec) and `_spec_json`; `_op` is their op.

    A mask is a pure function of (seed, sample index, parameters): nothing else is read.
    """

    _op: ClassVar
    _scored: ClassVar[Any] = False
    """Whether `scores` gives what the masks are cut from; a property where that depends on the parameters."""
    _colored: ClassVar[Any] = False
    """Whether the noise draws its sigma, so that a table can say how."""

    grid: Any  # of integers: (T, H, W), for some samplers (H, W)
    mask_ratio: float | None
    num_visible: int | None
    seed: int
    _spec: Any
    _spec_json: str

    def __init_subclass__(cls, abstract: bool = False):
        if not abstract:
            KINDS[cls.__name__] = cls

    def _put(self, **values) -> None:
        """Set fields of the frozen dataclass to their checked values."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _resolve_visible(self, tokens: int) -> int:
        """The count of visible tokens, from mask_ratio or num_visible, of which just one must be given."""
        if (self.mask_ratio is None) == (self.num_visible is None):
            raise ValueError("give either mask_ratio or num_visible (just one of them)")
        if self.mask_ratio is None:
            return self.num_visible  # type: ignore[return-value]  # not None, as the first line found
        ratio = as_ratio(self.mask_ratio)
        self._put(mask_ratio=ratio)
        return visible_of_ratio(tokens, ratio)

    def _put_spec(self, spec) -> None:
        """Keep a spec that was made of these parameters, and a count that it accepted as a plain int."""
        if self.num_visible is not None:
            self._put(num_visible=int(self.num_visible))
        self._put(_spec=spec, _spec_json=spec.to_json())

    @property
    def num_tokens(self) -> int:
        """L, tokens per sample."""
        return math.prod(self.grid)

    @property
    def visible_per_sample(self) -> int:
        """V, visible tokens per sample."""
        raise NotImplementedError

    def __call__(
        self,
        samples=None,
        *,
        batch_size: int | None = None,
        step: int | torch.Tensor | None = None,
        rank: int = 0,
        world_size: int = 1,
        seed: int | torch.Tensor | None = None,
        device: torch.device | str | None = None,
        backend: str = "auto",
        outputs: str = ALL_OUTPUTS,
        bias: torch.Tensor | None = None,
        bias_weight: float = 1.0,
        sigma_table: torch.Tensor | None = None,
    ) -> MaskBatch:
        """Masks for a batch.

        Give either sample indices, or a batch size and a step (see `sample_indices` for the rule).

        Args:
            samples: integer tensor [B], or a sequence of integers; each row depends on its own index only.
            batch_size, step, rank, world_size: instead of samples. In compiled or captured code give `step`
                as an int64 tensor: a Python int is a constant there.
            seed: instead of the sampler's own; an int, or an int64 tensor of one element.
            device: where to make the masks; by default where the tensor `samples` or `step` is, else the CPU, whatever
                torch's default device is.
            backend, outputs: as in `smnoise.ops.color_mask`.
            bias: float32 [B, L] or [B, T, H, W], where the masks are made: what `bias_weight` times of is added to the
                scores, so that tokens with more of it are visible more often (masked, with a negative weight). Counts
                stay exact. Only for samplers with scores. The deviation of noise is about 0.07 (green, red), 0.26
                (blue, purple) or 0.29 (white, random): a weight of that size times the bias's own is as strong as it.
            bias_weight: a finite number.
            sigma_table: int64 [31], for colours: how often each sigma is drawn (see `smnoise.sigma_table`).

        Raises:
            TypeError, ValueError: for samples or a seed that are no dense integers, or on different devices; for a
                backend, outputs or a device that there are not.
            BackendError: where no fast backend, or not the named one, can run; for a device where masks are not made.
        """
        for name, value in (("backend", backend), ("outputs", outputs)):
            if not isinstance(value, str):
                raise TypeError(f"{name} must be a text, several outputs with commas between; got {value!r}")
        samples = batch_indices(samples, batch_size, step, rank, world_size, device)
        seed = as_seed(self.seed if seed is None else seed, samples.device)
        tables = {} if sigma_table is None else {"sigma_table": self._table(sigma_table)}
        if bias is None:
            return self._masks(self._spec_json, seed, samples, backend, outputs, **tables)
        if not self._scored:
            raise ValueError(f"bias needs scores to be added to: {without_scores(self)}")
        bias = as_bias(bias, len(samples), tuple(self.grid))
        scores = ops.add_bias(self.scores(seed, samples, backend, **tables), bias, bias_weight, backend)
        return self._cut(scores, seed, samples, backend, outputs)

    def prepare(
        self, device=None, *, outputs: str = ALL_OUTPUTS, backend: str = "auto", batch_size: int = 1
    ) -> None:
        """Do now what the first masks on a device need, which takes seconds and cannot be part of a captured CUDA
        graph: compile or read kernels, load them, upload tables. A batch of masks is made and dropped, so that memory
        of its size is there too.

        >>> sampler = smnoise.Green3D((8, 14, 14), 0.9)
        >>> sampler.prepare("cpu", outputs="ids_keep", batch_size=32)

        Args:
            device, outputs, backend: as in a call; by default device is the CPU.
            batch_size: of the masks that will be made.

        Raises:
            BackendError while a graph is captured, and what a call raises.
        """
        samples = sample_indices(0, batch_size, device=device)
        if samples.device.type == "cuda":
            with torch.cuda.device(samples.device):
                outside_capture("preparing a sampler")
        self(samples, outputs=outputs, backend=backend)

    def _table(self, table: torch.Tensor) -> torch.Tensor:
        if not self._colored:
            raise ValueError(
                f"sigma_table is for the colours of noise; {type(self).__name__} draws no sigma, leave it out"
            )
        if not isinstance(table, torch.Tensor):
            raise TypeError(
                f"sigma_table must be an int64 tensor [31], got {table!r}; see smnoise.sigma_table"
            )
        return table

    def _masks(self, spec: str, seed, samples, backend: str, outputs: str, **tables) -> MaskBatch:
        results = type(self)._op(seed, samples, spec, backend, outputs, **tables)
        return self._batch(results, outputs, self._spec.grid)

    def scores(
        self, seed: torch.Tensor, samples: torch.Tensor, backend: str = "auto", **tables: torch.Tensor
    ) -> torch.Tensor:
        """What is thresholded, float32 [B, L]; the largest are visible.

        Args:
            seed: int64, one element.
            samples: int64 [B], on the seed's device.
            backend: as in `smnoise.ops.color_mask`.
            tables: sigma_table, of a colour.

        Raises ValueError for a sampler that does not cut its masks from scores.
        """
        if not self._scored:
            raise ValueError(without_scores(self))
        return ops.color_noise(seed, samples, self._spec_json, backend, **tables).flatten(1)

    def _cut(self, scores, seed, samples, backend: str, outputs: str) -> MaskBatch:
        """The masks of these scores."""
        spec = self._spec
        results = ops.threshold(scores, spec.visible, spec.groups, backend, outputs)
        return self._batch(results, outputs, spec.grid)

    def _batch(self, results: tuple[torch.Tensor, ...], outputs: str, grid) -> MaskBatch:
        """What an op gave, less the outputs that were not asked for."""
        wanted = NAMES if outputs == ALL_OUTPUTS else [n.strip() for n in outputs.split(",")]
        mask, keep, hide, restore = (r if n in wanted else None for n, r in zip(NAMES, results, strict=True))
        t, h, w = grid
        return MaskBatch(mask, keep, hide, restore, (t, h, w), self.visible_per_sample)

    def to_json(self) -> str:
        """The sampler as JSON; `smnoise.from_json` gives an equal one back."""
        return json.dumps({"sampler": type(self).__name__, "contract": 1, **self._parameters()})

    def _parameters(self) -> dict:
        """The fields as JSON holds them."""
        return asdict(self)  # type: ignore[call-overload]  # subclasses are dataclasses

    @classmethod
    def _of_parameters(cls, values: dict, pool) -> Sampler:
        if pool is not None:
            raise ValueError(f"a {cls.__name__} is not drawn from a pool; leave out pool")
        return cls(**values)


def without_scores(sampler: Sampler, others: str = ", or a pool of noise") -> str:
    return (
        f"{type(sampler).__name__} does not cut its masks, at any count, from the same scores of tokens; take a colour "
        f"(but no tube), random, or a function of your own{others}"
    )


def as_bias(bias, batch: int, grid: tuple[int, ...]) -> torch.Tensor:
    """A bias as [B, L]; TypeError or ValueError for what is none."""
    tokens = math.prod(grid)
    check_tensors(bias=bias)
    if tuple(bias.shape) not in ((batch, tokens), (batch, *grid)):
        raise ValueError(
            f"bias must have shape {(batch, tokens)} or {(batch, *grid)}, [B, L] or the grid's; got {tuple(bias.shape)}"
        )
    return bias.reshape(batch, tokens)


def check_sampler(sampler) -> None:
    """Raises TypeError for what is no sampler."""
    if not isinstance(sampler, Sampler):
        raise TypeError(f"sampler must be one of smnoise's, such as Green3D, got {sampler!r}")


def check_device(device) -> None:
    """Raises TypeError, ValueError for what names no device, and BackendError for one where masks cannot be made; what
    torch raises depends on its build. None is fine: the CPU, or where the samples are."""
    if device is None:
        return
    found = as_device(device)
    if found.type not in ("cpu", "cuda", "meta"):
        raise BackendError(
            f"device={str(device)!r}: masks are made on the CPU and on GPUs that torch calls cuda; leave device out, "
            "then move them: sampler(samples).to(device)"
        )
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        there = f"finds {torch.cuda.device_count()} of them" if torch.cuda.is_available() else "finds no GPU"
        raise BackendError(
            f"device={str(device)!r} was asked for, but torch {torch.__version__} {there}; leave device out "
            "to make masks on the CPU, and see `smnoise doctor`"
        )


def sample_indices(
    step: int | torch.Tensor, batch_size: int, *, rank: int = 0, world_size: int = 1, device=None
) -> torch.Tensor:
    """Sample indices of one rank's batch: (step * world_size + rank) * batch_size + (0 .. batch_size - 1).

    Ranks and steps never share an index as long as batch_size and world_size stay the same; where they may
    change (elastic runs), pass your own global sample numbers instead.

    >>> sample_indices(1, 2, rank=1, world_size=2)
    tensor([6, 7])

    Returns int64 [batch_size].
    """
    batch_size = as_int("batch_size", batch_size, 1, 2**31)
    world_size = as_int("world_size", world_size, 1, 2**31)
    rank = as_int("rank", rank, 0, world_size - 1)
    check_device(device)
    if isinstance(step, torch.Tensor):
        if step.dtype != torch.int64 or step.numel() != 1:
            raise TypeError(
                f"step must be one int64, got a tensor of {step.dtype}, shape {tuple(step.shape)}"
            )
        check_tensors(step=step)
        device = step.device if device is None else device
        step = step.reshape(()) if device == step.device else step.reshape(()).to(device)
    elif not isinstance(step, torch.SymInt):
        step = as_int("step", step, 0, (2**63 - 1) // (world_size * batch_size) - 1)
    device = "cpu" if device is None else device  # not torch's default device
    # In few operations: each takes as long as a mask of a small grid.
    rows = torch.arange(rank * batch_size, (rank + 1) * batch_size, device=device)
    every = world_size * batch_size
    return torch.add(rows, step, alpha=every) if isinstance(step, torch.Tensor) else rows + step * every


def batch_indices(samples, batch_size, step, rank: int, world_size: int, device) -> torch.Tensor:
    """Indices int64 [B] from what a sampler is called with: samples, or batch_size and step."""
    if (samples is None) == (batch_size is None):
        raise ValueError("give either samples, or batch_size and step")
    if samples is None:
        if step is None:
            raise ValueError("batch_size needs step, the number of the batch: step 0 for the first")
        return sample_indices(step, batch_size, rank=rank, world_size=world_size, device=device)
    if step is not None:
        raise ValueError("step goes with batch_size; samples already name each mask")
    return as_samples(samples, device)


def as_samples(samples, device) -> torch.Tensor:
    check_device(device)
    if not isinstance(samples, torch.Tensor):
        device = "cpu" if device is None else device  # not torch's default device
        if isinstance(samples, (str, bytes, dict)) or not (
            hasattr(samples, "__len__") and hasattr(samples, "__getitem__")
        ):
            raise TypeError(
                f"samples must be a tensor, an array, a list or a range of integers, got {samples!r}{_meant(samples)}"
            )
        if isinstance(samples, range):
            return _range_indices(samples, device)
        values = as_tuple("samples", samples, len(samples), "integers")
        samples = torch.tensor([_signed64("samples", v) for v in values], dtype=torch.int64, device=device)
    elif device is not None and not _same_device(samples.device, torch.device(device)):
        raise ValueError(
            f"samples are on {samples.device} but device={device} was asked for; move them first"
        )
    if samples.dtype not in INTEGERS:
        raise TypeError(f"samples must be integers, such as int64, got {samples.dtype}")
    check_tensors(samples=samples)
    if samples.dim() != 1:
        raise ValueError(f"samples must have shape [B], got {tuple(samples.shape)}")
    return samples if samples.dtype == torch.int64 else samples.to(torch.int64)


def _meant(samples) -> str:
    """What to write for one integer."""
    if not isinstance(samples, int) or isinstance(samples, bool):
        return ""
    return f"; [{samples}] is the mask of sample {samples}, batch_size={samples} with step=0 the first {samples} masks"


def _range_indices(samples: range, device) -> torch.Tensor:
    """A range as a tensor, without a Python integer for each index: it may be long. Sums wrap as uint64 do."""
    if not samples:
        return torch.empty(0, dtype=torch.int64, device=device)
    first, last = _signed64("samples", samples[0]), _signed64("samples", samples[-1])
    count = (samples[-1] - samples[0]) // samples.step + 1  # not len(), which is limited
    if count > 2**62:
        raise ValueError(f"a batch of {count} samples cannot be")
    if count == 1:
        return torch.tensor([last], dtype=torch.int64, device=device)
    return torch.arange(count, device=device) * signed64(samples.step) + first


def _same_device(found: torch.device, asked: torch.device) -> bool:
    """ "cuda" is any GPU, "cuda:1" just that one."""
    return found.type == asked.type and asked.index in (None, found.index)


def as_seed(seed, device) -> torch.Tensor:
    if isinstance(seed, torch.Tensor):
        check_tensors(seed=seed)
        return seed.view(torch.int64) if seed.dtype == torch.uint64 else seed
    value = _signed64("seed", seed)
    return torch.full((), value, dtype=torch.int64, device=device)


def _signed64(name: str, value) -> int:
    """A uint64, or an int64, as the int64 of the same bits."""
    return signed64(as_int(name, value, -(2**63), 2**64 - 1))
