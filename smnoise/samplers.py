# SPDX-License-Identifier: Apache-2.0
"""Samplers: frozen descriptions of a masking strategy, called for masks.

    sampler = smnoise.Green3D(grid=(8, 14, 14), mask_ratio=0.9)
    masks = sampler(batch_size=32, step=step)

A mask is a pure function of (seed, sample index, parameters): nothing else is read.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import ClassVar

import torch

from . import ops
from .backends.outputs import NAMES
from .masks import MaskBatch
from .ops.color_mask import ALL
from .spec import ColorSpec, as_choice, as_float, as_grid, as_int, as_tuple, signed64, visible_of_ratio

KINDS: dict[str, type[Color3D]] = {}


@dataclass(frozen=True)
class Color3D:
    """Masks cut from coloured 3D noise at an exact count (contract sections 1 to 6, arXiv 2503.16311).

    Use one of the colours: `White3D`, `Red3D`, `Blue3D`, `Green3D`, `Purple3D`.

    Args:
        grid: tokens along (T, H, W); for a 16-frame 224-pixel clip with 2x16x16 tubelets (8, 14, 14).
        mask_ratio: share of tokens that is masked, in (0, 1). floor(tokens * (1 - mask_ratio)) stay visible,
            the ratio read as the decimal it is written as.
        num_visible: visible tokens, instead of a ratio: per clip, or per frame with per="frame".
        per: "clip" ranks all tokens of a clip together; "frame" gives every time step the same count.
        sigma1, sigma2: ranges of the two Gaussian low-pass filters in tokens; each sample draws its own from
            32 values of each. Colours of one sigma ignore sigma2, white ignores both.
        boundary: "field" cuts a window out of an unbounded field; "wrap" filters the grid as a torus, about
            three times faster, and makes the first and last frame neighbours.
        anisotropy: factors on sigma along (t, y, x); 0 leaves an axis unfiltered.
        origin: place of the window in the field, (t, y, x). Windows that touch continue each other; the field
            repeats after 2^28 along t, 2^16 along y and 2^19 along x.
        truncate: filter radius in sigmas.
        seed: 0 .. 2^64 - 1; a call may give another one, also as a tensor.

    Raises:
        ValueError, TypeError: for a parameter that cannot give such a mask, when the sampler is made.
    """

    color: ClassVar[str]

    grid: tuple[int, int, int]
    mask_ratio: float | None = None
    num_visible: int | None = field(default=None, kw_only=True)
    per: str = field(default="clip", kw_only=True)
    sigma1: tuple[float, float] = field(default=(0.4, 1.5), kw_only=True)
    sigma2: tuple[float, float] = field(default=(1.4, 3.0), kw_only=True)
    boundary: str = field(default="field", kw_only=True)
    anisotropy: tuple[float, float, float] = field(default=(1.0, 1.0, 1.0), kw_only=True)
    origin: tuple[int, int, int] = field(default=(0, 0, 0), kw_only=True)
    truncate: float = field(default=4.0, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __init_subclass__(cls):
        KINDS[cls.__name__] = cls

    def __post_init__(self):
        if not hasattr(self, "color"):
            raise TypeError(f"Color3D is abstract; use one of {', '.join(KINDS)}")
        if (self.mask_ratio is None) == (self.num_visible is None):
            raise ValueError("give either mask_ratio or num_visible (just one of them)")
        grid = as_grid(self.grid)
        visible = self.num_visible
        if visible is None:
            ratio = as_float("mask_ratio", self.mask_ratio)
            if not 0 < ratio < 1:
                raise ValueError(
                    f"mask_ratio must be in (0, 1), the share that is masked; got {self.mask_ratio}"
                )
            object.__setattr__(self, "mask_ratio", ratio)
            per_frame = as_choice("per", self.per, ("clip", "frame")) == "frame"
            visible = visible_of_ratio(math.prod(grid[per_frame:]), ratio)
        object.__setattr__(self, "seed", as_int("seed", self.seed, 0, 2**64 - 1))
        spec = ColorSpec(
            color=self.color,
            grid=grid,
            visible=visible,
            per=self.per,
            boundary=self.boundary,
            sigma1=self.sigma1,
            sigma2=self.sigma2,
            anisotropy=self.anisotropy,
            origin=self.origin,
            truncate=self.truncate,
        )
        for f in fields(spec):  # the checked values: tuples, plain ints and floats
            if f.name in self.__dataclass_fields__:
                object.__setattr__(self, f.name, getattr(spec, f.name))
        if self.num_visible is not None:
            object.__setattr__(self, "num_visible", spec.visible)
        object.__setattr__(self, "_spec", spec)
        object.__setattr__(self, "_spec_json", spec.to_json())

    @property
    def spec(self) -> ColorSpec:
        """The parameters without the seed, the ratio resolved to a count."""
        return self._spec

    @property
    def num_tokens(self) -> int:
        """L, tokens per sample."""
        return math.prod(self.grid)

    @property
    def visible_per_sample(self) -> int:
        """V, visible tokens per sample, over all its frames."""
        return self._spec.groups * self._spec.visible

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
        outputs: str = ALL,
    ) -> MaskBatch:
        """Masks for a batch.

        Give either sample indices, or a batch size and a step (see `sample_indices` for the rule).

        Args:
            samples: integer tensor [B], or a sequence of integers; each row depends on its own index only.
            batch_size, step, rank, world_size: instead of samples. In compiled or captured code give `step`
                as an int64 tensor: a Python int is a constant there.
            seed: instead of the sampler's own; an int, or an int64 tensor of one element.
            device: where to make the masks; by default where `samples` or `step` is, else the CPU.
            backend, outputs: as in `smnoise.ops.color_mask`.

        Raises:
            TypeError, ValueError: for samples or a seed that are no integers, or on different devices.
            BackendError: where no fast backend, or not the named one, can run.
        """
        if (samples is None) == (batch_size is None):
            raise ValueError("give either samples, or batch_size and step")
        if samples is None:
            if step is None:
                raise ValueError("batch_size needs step, the number of the batch: step 0 for the first")
            samples = sample_indices(step, batch_size, rank=rank, world_size=world_size, device=device)
        else:
            if step is not None:
                raise ValueError("step goes with batch_size; samples already name each mask")
            samples = _as_samples(samples, device)
        seed = _as_seed(self.seed if seed is None else seed, samples.device)
        results = ops.color_mask(seed, samples, self._spec_json, backend, outputs)
        if outputs != ALL:
            wanted = [n.strip() for n in outputs.split(",")]
            results = tuple(r if n in wanted else None for n, r in zip(NAMES, results, strict=True))
        return MaskBatch(*results, self.grid, self.visible_per_sample)

    def noise(self, samples, *, seed=None, device=None, backend: str = "auto") -> torch.Tensor:
        """The noise behind the masks, float32 [B, T, H, W]; its largest values are visible."""
        samples = _as_samples(samples, device)
        seed = _as_seed(self.seed if seed is None else seed, samples.device)
        return ops.color_noise(seed, samples, self._spec_json, backend)

    def to_json(self) -> str:
        """The sampler as JSON; `smnoise.from_json` gives an equal one back."""
        return json.dumps({"sampler": type(self).__name__, "contract": 1, **asdict(self)})


class White3D(Color3D):
    """Unfiltered noise: uniformly random masks. See `Color3D` for the arguments."""

    color = "white"


class Red3D(Color3D):
    """Low-pass noise: large blobs. See `Color3D` for the arguments."""

    color = "red"


class Blue3D(Color3D):
    """High-pass noise: visible tokens avoid each other. See `Color3D` for the arguments."""

    color = "blue"


class Green3D(Color3D):
    """Band-pass noise, the paper's masks for video: blobs of a drawn size that drift smoothly through time.

    >>> masks = Green3D(grid=(8, 14, 14), mask_ratio=0.9)(batch_size=2, step=0)
    >>> masks.mask.shape, masks.num_visible, masks.ids_keep[0, :4].tolist()
    (torch.Size([2, 1568]), 156, [1, 11, 12, 18])

    See `Color3D` for the arguments.
    """

    color = "green"


class Purple3D(Color3D):
    """Noise without a band: what green leaves out. See `Color3D` for the arguments."""

    color = "purple"


def from_json(text: str) -> Color3D:
    """The sampler that `to_json` wrote. Raises ValueError for anything else."""
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, TypeError, RecursionError) as error:
        raise ValueError(f"not the JSON of a sampler: {error}") from None
    name = values.pop("sampler", None) if isinstance(values, dict) else None
    if not isinstance(name, str) or name not in KINDS:
        raise ValueError(f"expected an object whose 'sampler' is one of {', '.join(KINDS)}; got {text[:80]}")
    kind = KINDS[name]
    if values.pop("contract", 1) != 1:
        raise ValueError("this version of smnoise implements contract 1 only")
    unknown = set(values) - {f.name for f in fields(kind)}
    if unknown:
        raise ValueError(f"unknown parameters of {kind.__name__}: {sorted(unknown)}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"not the JSON of a {name}: {error}") from None


def sample_indices(
    step: int | torch.Tensor, batch_size: int, *, rank: int = 0, world_size: int = 1, device=None
) -> torch.Tensor:
    """Sample indices of one rank's batch: (step * world_size + rank) * batch_size + (0 .. batch_size - 1).

    Ranks and steps never share an index as long as batch_size and world_size stay the same; where they may
    change (elastic runs), pass your own global sample numbers instead.

    Returns int64 [batch_size].
    """
    as_int("batch_size", batch_size, 1, 2**31)
    world_size = as_int("world_size", world_size, 1, 2**31)
    as_int("rank", rank, 0, world_size - 1)
    if isinstance(step, torch.Tensor):
        if step.dtype != torch.int64 or step.numel() != 1:
            raise TypeError(
                f"step must be one int64, got a tensor of {step.dtype}, shape {tuple(step.shape)}"
            )
        device = step.device if device is None else device
        step = step.reshape(()).to(device)
    elif not isinstance(step, torch.SymInt):
        step = as_int("step", step, 0, (2**63 - 1) // (world_size * batch_size) - 1)
    return torch.arange(batch_size, device=device) + (step * world_size + rank) * batch_size


def _as_samples(samples, device) -> torch.Tensor:
    if not isinstance(samples, torch.Tensor):
        if isinstance(samples, (str, bytes)) or not (
            hasattr(samples, "__len__") and hasattr(samples, "__getitem__")
        ):
            raise TypeError(
                f"samples must be a tensor, an array, a list or a range of integers, got {samples!r}"
            )
        values = as_tuple("samples", samples, len(samples), "integers")
        samples = torch.tensor([_signed64("samples", v) for v in values], dtype=torch.int64, device=device)
    elif device is not None and not _same_device(samples.device, torch.device(device)):
        raise ValueError(
            f"samples are on {samples.device} but device={device} was asked for; move them first"
        )
    if samples.dtype == torch.bool or samples.is_floating_point() or samples.is_complex():
        raise TypeError(f"samples must be integers, got {samples.dtype}")
    if samples.dim() != 1:
        raise ValueError(f"samples must have shape [B], got {tuple(samples.shape)}")
    return samples if samples.dtype == torch.int64 else samples.to(torch.int64)


def _same_device(found: torch.device, asked: torch.device) -> bool:
    """ "cuda" is any GPU, "cuda:1" just that one."""
    return found.type == asked.type and asked.index in (None, found.index)


def _as_seed(seed, device) -> torch.Tensor:
    if isinstance(seed, torch.Tensor):
        return seed.view(torch.int64) if seed.dtype == torch.uint64 else seed
    value = _signed64("seed", seed)
    return torch.full((), value, dtype=torch.int64, device=device)


def _signed64(name: str, value) -> int:
    """A uint64, or an int64, as the int64 of the same bits."""
    return signed64(as_int(name, value, -(2**63), 2**64 - 1))
