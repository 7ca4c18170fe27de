# SPDX-License-Identifier: Apache-2.0
"""What every sampler has in common: it is called for sample indices and returns a MaskBatch."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from functools import cached_property
from typing import Any, ClassVar

import torch

from .. import ops
from ..backends import launcher, outside_capture
from ..backends.outputs import NAMES
from ..masks import MaskBatch
from ..ops import ALL_OUTPUTS
from ..spec import as_int, as_ratio, visible_of_ratio, with_ones
from ..tensors import check_tensors
from .filled import check_ids_dtype, check_out, direct, finished, outputs_of
from .indices import (
    CPU,
    NEITHER,
    as_seed,
    batch_indices,
    eager,
    first_index,
    listed,
    numbered_device,
    plain,
    sample_indices,
)
from .making import Checked
from .origins import as_origin

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
    _direct: ClassVar[str] = ""
    """Of samplers whose masks are an op's outputs as they are: the op, which backends have as `backends.launcher`."""
    _times: Any = 1
    """Frames that a mask of one frame is repeated in."""

    grid: Any  # of integers: (T, H, W), for some samplers (H, W)
    mask_ratio: float | None
    num_visible: int | None
    seed: int
    _spec: Any
    _spec_json: str

    def __init_subclass__(cls, abstract: bool = False):
        own = vars(cls)
        if "_op" in own and "_masks" not in own:
            cls._direct = own["_op"].__func__.__name__
        elif "_masks" in own:  # it does something else, or repeats frames and says how often
            cls._direct = "color_mask" if "_times" in own else ""
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

    @cached_property
    def _whole_grid(self) -> tuple[int, int, int]:
        """(T, H, W) of the masks."""
        return with_ones(tuple(self.grid))

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
        ids_dtype: torch.dtype | None = None,
        out: MaskBatch | None = None,
        origin=None,
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
            ids_dtype: torch.int32 for ids_keep, ids_mask and ids_restore in half the memory, which the package's models
                and training ops take as well. They are made as int64 and converted. By default int64.
            out: a MaskBatch of the same sampler, outputs and batch size, which is written over and returned: for
                buffers whose addresses must stay, as in a CUDA graph of your own. Its tensors must be contiguous and
                must not share memory. With it leave `outputs` and `ids_dtype` out.
            origin: int64 [B, 3], or integers: for colours, where in the field of its sample each row's window lies,
                (t, y, x) beside the sampler's own origin; three integers are for all rows. Windows of one sample that
                touch continue each other. The count is exact in each window. Not with boundary="wrap".

        Raises:
            TypeError, ValueError: for samples or a seed that are no dense integers, or on different devices; for a
                backend, outputs or a device that there are not; for an `out` of another shape, dtype or device.
            BackendError: where no fast backend, or not the named one, can run; for a device where masks are not made.
        """
        if type(backend) is not str or type(outputs) is not str:
            check_texts(backend=backend, outputs=outputs)
        if ids_dtype is not None:
            check_ids_dtype(ids_dtype)
        if out is not None:
            outputs = outputs_of(out, outputs, ids_dtype, self._whole_grid, self.visible_per_sample)
        # Past torch's dispatcher, where only samples or their numbers are given.
        straight = bias is None and sigma_table is None and origin is None and bool(self._direct) and eager()
        first, where = 0, None
        if straight and samples is None and type(step) is int:
            where = CPU if device is None or device == "cpu" else numbered_device(device)
        if where is not None:
            if batch_size is None:
                raise ValueError(NEITHER)
            first, batch = first_index(step, batch_size, rank, world_size)
        else:
            alone = batch_size is None and step is None and device is None
            if not (alone and straight and listed(samples)):
                samples = batch_indices(samples, batch_size, step, rank, world_size, device)
                straight = straight and plain(samples)
            batch, where = samples.shape[0], samples.device
        if out is not None:
            check_out(out, batch, where)
        if straight:
            masks = self._launched(samples, first, batch, seed, where, backend, outputs, out)
            if masks is not None:
                return masks if ids_dtype is None and out is None else finished(masks, ids_dtype, out)
        if samples is None:
            samples = torch.arange(first, first + batch, device=where)
        seed = as_seed(self.seed if seed is None else seed, samples.device)
        tables = self._given(sigma_table, origin, samples)
        if bias is None:
            return finished(
                self._masks(self._spec_json, seed, samples, backend, outputs, **tables), ids_dtype, out
            )
        if not self._scored:
            raise ValueError(f"bias needs scores to be added to: {without_scores(self)}")
        bias = as_bias(bias, len(samples), tuple(self.grid))
        scores = ops.add_bias(self.scores(seed, samples, backend, **tables), bias, bias_weight, backend)
        return finished(self._cut(scores, seed, samples, backend, outputs), ids_dtype, out)

    def _launched(
        self, samples, first: int, batch: int, seed, where, backend: str, outputs: str, out
    ) -> MaskBatch | None:
        """The masks, by the backend itself instead of through torch's dispatcher, with the same bits; None where that
        cannot be. samples: None for those from `first` on."""
        if seed is None:
            seed = self.seed
        elif type(seed) is int:
            seed = as_int("seed", seed, -(2**63), 2**64 - 1)
        elif not (plain(seed) and seed.dtype == torch.int64 and seed.numel() == 1 and seed.device == where):
            return None
        launch = launcher(self._direct, self._spec_json, outputs, self._times, backend, where)
        if launch is None:
            return None
        made = launch(seed, samples, first, batch, None, None if out is None else direct(out))
        return tuple.__new__(MaskBatch, (*made, self._whole_grid, launch.visible))

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

    def _given(self, sigma_table, origin, samples: torch.Tensor) -> dict[str, torch.Tensor]:
        """What a call gives the op of a colour beside samples."""
        tables = {} if sigma_table is None else {"sigma_table": self._table(sigma_table)}
        if origin is not None:
            if not self._colored:
                raise ValueError(
                    f"origin is for the fields of colours; {type(self).__name__} has no field, leave it out"
                )
            tables["origin"] = as_origin(origin, samples)
        return tables

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
            tables: sigma_table and origin (tensors), of a colour.

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


def check_texts(**texts) -> None:
    """Raises TypeError for what is no text."""
    for name, value in texts.items():
        if not isinstance(value, str):
            raise TypeError(f"{name} must be a text, several outputs with commas between; got {value!r}")


def without_scores(sampler: Sampler, others: str = ", or a pool of noise") -> str:
    """Return the message that a sampler does not cut its masks from scores, and which ones do."""
    return (
        f"{type(sampler).__name__} does not cut its masks, at any count, from the same scores of tokens; take a colour "
        f"(but no tube), random, or a function of your own{others}"
    )


def as_bias(bias, batch: int, grid: tuple[int, ...]) -> torch.Tensor:
    """Return a bias as [B, L], with its dtype. Raises TypeError or ValueError for what is none."""
    tokens = math.prod(grid)
    check_tensors(bias=bias)
    if tuple(bias.shape) not in ((batch, tokens), (batch, *grid)):
        raise ValueError(
            f"bias must have shape {(batch, tokens)} or {(batch, *grid)}, [B, L] or the grid's; got {tuple(bias.shape)}"
        )
    return bias.reshape(batch, tokens)


def check_sampler(sampler) -> None:
    """Raise TypeError for what is no sampler."""
    if not isinstance(sampler, Sampler):
        raise TypeError(f"sampler must be one of smnoise's, such as Green3D, got {sampler!r}")
