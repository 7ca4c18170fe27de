# SPDX-License-Identifier: Apache-2.0
"""The structs of csrc/plan.h, field by field: what the CPU library and the CUDA kernels are handed."""

from __future__ import annotations

import struct
from ctypes import Structure, c_float, c_int32, c_int64, c_uint64, c_void_p, sizeof
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..spec import ColorSpec, OptimBlueSpec, PointTables, StrategySpec, Tables, search_start
from ..spec.optim_blue import MASKS
from ..spec.strategy import PLACEMENTS, STRATEGIES
from .layout import Layout

if TYPE_CHECKING:
    from typing_extensions import Self

PLACES = ("noise", "mask", "ids_keep", "ids_mask", "ids_restore")
COLOR_CODES = {"white": 0, "red": 1, "blue": 2, "green": 3, "purple": 4}


class Held(Structure):
    """A struct that keeps what its pointers point to. Hand the struct round, never a copy or its address alone: whoever
    holds it until a call is over holds the memory too."""

    held: tuple = ()

    def holding(self, *things) -> Self:
        """Itself; `things` live as long."""
        self.held = things
        return self


class Ranking(Structure):
    _fields_ = [
        ("groups", c_int32),
        ("tokens", c_int32),
        ("visible", c_int32),
        ("quantile", c_float),
        ("slope", c_float),
    ]


class Slots(Held):
    """smn_slots: extension 9."""

    _fields_ = [("slots", c_int32), ("tokens", c_int32), ("visible", c_int32), ("table", c_void_p)]


SLOT = np.dtype([("visible", "<i4"), ("quantile", "<f4"), ("slope", "<f4")])  # smn_slot


@lru_cache(maxsize=256)
def slot_table(counts: tuple[int, ...], tokens: int) -> np.ndarray:
    """The table of smn_slots: SLOT [slots], of slots of `tokens` tokens."""
    starts = (search_start(tokens, v) if 0 < v < tokens else (0.0, 1.0) for v in counts)
    return np.array([(v, *start) for v, start in zip(counts, starts, strict=True)], SLOT)


class Ragged(Held):
    """smn_ragged: extension 14."""

    _fields_ = [("tokens", c_int32), ("keep", c_int32), ("hide", c_int32), ("starts", c_void_p)]


STARTS = 64  # of csrc/ragged.h


@lru_cache(maxsize=1)
def ragged_starts() -> np.ndarray:
    """The table of smn_ragged: float32 [65, 2], quantile and slope of one token where so many 64ths are visible."""
    return np.array(
        [search_start(STARTS, min(max(v, 1), STARTS - 1)) for v in range(STARTS + 1)], np.float32
    ) / (np.array([1, STARTS], np.float32))


class Points(Held):
    """smn_points: extension 15."""

    _fields_ = [
        ("color", c_int32),
        ("side", c_int32),
        ("taps", c_void_p),
        ("radius", c_void_p),
        ("first", c_void_p),
    ]


class LayoutStruct(Structure):
    _fields_ = [
        ("threads", c_int32),
        ("torus", c_int32),
        ("tile", c_int32 * 3),
        ("slices", c_int32),
        ("halo", (c_int32 * 3) * 2),
        ("pitch", c_int32),
        ("clip", c_int32),
        ("fused", c_int32),
        ("bytes", c_int32),
    ]


class Plan(Held):
    _fields_ = [
        ("grid", c_int32 * 3),
        ("origin", c_int32 * 3),
        ("color", c_int32),
        ("wrap", c_int32),
        ("max_radius", c_int32 * 3),
        ("taps_stride", c_int32),
        ("taps", c_void_p),
        ("radius", c_void_p),
        ("first", c_void_p),
        ("ranking", Ranking),
        ("layout", LayoutStruct),
    ]


class Outputs(Held):
    _fields_ = [(n, c_void_p) for n in PLACES]

    @classmethod
    def of(cls, tensors: dict[str, torch.Tensor]) -> Outputs:
        """Where tensors lie, which it holds."""
        at = {name: tensor.data_ptr() for name, tensor in tensors.items()}
        return cls(*map(at.get, PLACES)).holding(*tensors.values())


class MasksCall(Structure):
    """smn_masks_call."""

    _fields_ = [
        ("plan", c_void_p),
        ("parallel", c_void_p),
        ("seed_at", c_void_p),
        ("seed", c_uint64),
        ("samples", c_void_p),
        ("first", c_uint64),
        ("batch", c_int64),
        ("sigma_table", c_void_p),
        ("origin", c_void_p),
        ("out", Outputs),
        ("isa", c_int32),
        ("threads", c_int32),
        ("times", c_int32),
    ]


class Call(Structure):
    """smn_call of csrc/kernels.cu."""

    _fields_ = [
        ("seed", c_void_p),
        ("samples", c_void_p),
        ("first", c_uint64),
        ("sigma_table", c_void_p),
        ("origin", c_void_p),
        ("scores", c_void_p),
        ("out", Outputs),
    ]


class BlueCall(Structure):
    """smn_blue_call of csrc/kernels.cu."""

    _fields_ = [
        ("seed", c_void_p),
        ("samples", c_void_p),
        ("first", c_uint64),
        ("batch", c_int64),
        ("workspace", c_void_p),
        ("out", Outputs),
    ]


CODES = {c_void_p: "P", c_int32: "i", c_int64: "q", c_uint64: "Q", Outputs: f"{len(PLACES)}P"}  # of struct


def packer(kind: type[Structure]) -> struct.Struct:
    """Packs the values of a struct, in order, as they lie in memory: a tenth of the time that ctypes takes to make one.
    Pointers are addresses, 0 for none."""
    made = struct.Struct(
        "".join(CODES[field[1]] for field in kind._fields_) + "0q"
    )  # padded at the end, as C does
    assert made.size == sizeof(kind)
    return made


class Gaussian(Held):
    """smn_gaussian: a filter of a given volume."""

    _fields_ = [
        ("size", c_int32 * 3),
        ("radius", c_int32 * 3),
        ("wrap", c_int32),
        ("taps_stride", c_int32),
        ("taps", c_void_p),
    ]


class Axis(Held):
    """smn_axis of csrc/gaussian_block.h: one axis of such a filter."""

    _fields_ = [
        ("in", c_void_p),
        ("out", c_void_p),
        ("taps", c_void_p),
        ("outer", c_int64),
        ("n", c_int32),
        ("n_out", c_int32),
        ("inner", c_int32),
        ("radius", c_int32),
        ("wrap", c_int32),
    ]


class OptimBlue(Held):
    """smn_optim_blue."""

    _fields_ = [
        ("grid", c_int32 * 3),
        ("tokens", c_int32),
        ("visible", c_int32),
        ("masks", c_int32),
        ("steps", c_int32),
        ("rows", c_int32),
        ("entries", c_int32),
        ("bytes", c_int32),
        ("shared", c_int32),
        ("narrow", c_int32),
        ("rings", c_int32),
        ("stamp", c_void_p),
        ("ring", c_void_p),
        ("table", c_void_p),
    ]


class Strategy(Held):
    """smn_strategy."""

    _fields_ = [
        ("grid", c_int32 * 3),
        ("kind", c_int32),
        ("axis", c_int32),
        ("pace", c_int32 * 2),
        ("cell", c_int32 * 3),
        ("placement", c_int32),
        ("boxes", c_int32),
        ("inverse", c_int32),
        ("n_durations", c_int32),
        ("n_sizes", c_int32),
        ("lasting", c_int32),
        ("bytes", c_int32),
        ("shared", c_int32),
        ("ranking", Ranking),
        ("durations", c_void_p),
        ("sizes", c_void_p),
    ]


class Patches(Held):
    """smn_patches of csrc/patches.h."""

    _fields_ = [
        ("pixels", c_void_p),
        ("is_bytes", c_int32),
        ("channels", c_int32),
        ("size", c_int32 * 3),
        ("patch", c_int32 * 3),
        ("ids", c_void_p),
        ("picked", c_int64),
    ]

    @classmethod
    def of(cls, pixels: torch.Tensor, ids: torch.Tensor, patch: tuple[int, int, int]) -> Patches:
        """Of contiguous tensors, which it holds."""
        is_bytes, channels, size = pixels.dtype == torch.uint8, pixels.shape[1], tuple(pixels.shape[2:])
        struct = cls(pixels.data_ptr(), is_bytes, channels, size, patch, ids.data_ptr(), ids.shape[1])
        return struct.holding(pixels, ids)


class PatchLoss(Held):
    """smn_patch_loss of csrc/patches.h."""

    _fields_ = [
        ("patches", Patches),
        ("unit", c_float),
        ("eps", c_float),
        ("eps_inside", c_int32),
        ("normalise", c_int32),
        ("prediction", c_void_p),
    ]


def blue_plan_of(
    spec: OptimBlueSpec, stamp: int, ring: int, shared_bytes: int, table: int | None = None
) -> OptimBlue:
    """The plan of Optim Blue masks. stamp, ring, table: addresses of the spec's arrays where the kernels run; the table
    is for the CPU's alone."""
    # The arrays of csrc/optim_blue_block.h.
    bits = (spec.tokens - 1).bit_length()
    sorting, crowding = 2 << bits, spec.num_masks * (spec.tokens | 1)
    numbers = max(sorting, crowding) + 6 * spec.tokens + spec.num_masks + 4 * len(spec.stamp)
    size = (4 * numbers + 7) // 8 * 8
    # No change of energy is further from 0 than what two tokens can be crowded by.
    most = 2 * int(spec.stamp[:, 3].sum())
    return OptimBlue(
        grid=spec.grid,
        tokens=spec.tokens,
        visible=spec.visible,
        masks=spec.num_masks,
        steps=spec.steps,
        rows=MASKS.index(spec.masks),
        entries=len(spec.stamp),
        bytes=size,
        shared=size <= shared_bytes,
        narrow=(most + 1) << bits < 1 << 31,
        rings=int(spec.ring.max()) + 1,
        stamp=stamp,
        ring=ring,
        table=table,
    )


def strategy_plan_of(spec: StrategySpec, durations: int, sizes: int, shared_bytes: int) -> Strategy:
    """The plan of strategy masks. durations, sizes: addresses of spec.boxes where the kernels run."""
    size = 8 * spec.ranked  # steps and words of csrc/strategy_block.h
    return Strategy(
        grid=spec.grid,
        kind=STRATEGIES.index(spec.kind),
        axis=spec.axis,
        pace=spec.pace or (1, 1),
        cell=spec.cell,
        placement=PLACEMENTS.index(spec.placement),
        boxes=spec.num_boxes or 0,
        inverse=spec.inverse,
        n_durations=len(spec.boxes[0]),
        n_sizes=len(spec.boxes[1]),
        lasting=bool((spec.boxes[0] == spec.grid[0]).all()),
        bytes=size,
        shared=size + 4 * spec.tokens <= shared_bytes,
        ranking=Ranking(1, spec.tokens, spec.visible, *search_start(spec.tokens, spec.visible)),
        durations=durations,
        sizes=sizes,
    )


def points_of(spec: ColorSpec, tables: PointTables, taps: int, radius: int, first: int | None) -> Points:
    """The Points of a spec. taps, radius, first: addresses of the tables where the kernels run."""
    return Points(COLOR_CODES[spec.color], tables.side, taps, radius, first)


def plan_of(
    spec: ColorSpec, tables: Tables, taps: int, radius: int, first: int | None, layout: Layout | None
) -> Plan:
    """The Plan of a spec. taps, radius, first: addresses of the tables where the kernels run; layout: of the block
    algorithms, which the CPU's do not read."""
    plan = Plan(
        grid=spec.grid,
        origin=spec.origin,
        color=COLOR_CODES[spec.color],
        wrap=spec.boundary == "wrap",
        max_radius=tuple(int(r) for r in tables.radius.max(axis=(0, 1))),
        taps_stride=tables.taps.shape[-1],
        taps=taps,
        radius=radius,
        first=first,
        ranking=Ranking(spec.groups, spec.tokens, spec.visible, tables.quantile, tables.slope),
    )
    if layout is not None:
        halo = plan.layout.halo
        for bank in (0, 1):
            halo[bank][:] = layout.halo[bank]
        for name in ("threads", "torus", "tile", "slices", "pitch", "clip", "fused", "bytes"):
            setattr(plan.layout, name, getattr(layout, name))
    return plan
