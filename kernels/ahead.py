# SPDX-License-Identifier: Apache-2.0
"""Every Triton kernel, compiled without a GPU: what CI checks and bench/resources.py reports.

Not for an interpreting process (TRITON_INTERPRET=1), which compiles nothing.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from . import (
    add_bias,
    color,
    decoder_tokens,
    gather_patches,
    optim_blue,
    patch_loss,
    points,
    ragged_threshold,
    random,
    strategy,
    threshold,
)

FLOATS, INTS, LONGS, BYTES = "*fp32", "*i32", "*i64", "*u8"
SEEDS = {"seed_ptr": LONGS, "samples_ptr": LONGS}

PLACES = {"places_ptr": INTS, "index_ptr": INTS, "taps_ptr": FLOATS, "radius_ptr": INTS}
PARTITION = {"COMPLEMENTARY": True, "VIEWS": False}

# name: kernel, types of its tensors (its other arguments are i32), constants of each variant
KERNELS: dict[str, tuple[Any, dict, list[dict]]] = {
    "sigma": (
        random.sigma_kernel,
        {**SEEDS, "first_ptr": INTS, "table_ptr": LONGS, "index_ptr": INTS},
        [{"TWO": True, "TABLE": table, "BLOCK": 128} for table in (False, True)],
    ),
    "noise": (
        random.noise_kernel,
        {**SEEDS, "origin_ptr": LONGS, "out_ptr": FLOATS},
        [{"MOVED": moved, "BLOCK": 512} for moved in (False, True)],
    ),
    "points, rows": (
        points.point_rows_kernel,
        {**SEEDS, **PLACES, "rows_ptr": FLOATS},
        [{"BLOCK": 128}, {"banks": 1, "BLOCK": 128}],
    ),
    "points, sum": (
        points.point_sum_kernel,
        {**PLACES, "in_ptr": FLOATS, "out_ptr": FLOATS},
        [{"AXIS": axis, "BLOCK": 128, **one} for axis in (1, 0) for one in ({}, {"banks": 1})],
    ),
    "points, color": (
        points.point_color_kernel,
        {**SEEDS, **PLACES, "low_ptr": FLOATS, "out_ptr": FLOATS},
        [
            {"BANKS": banks, "WHITE": white, "BLOCK": 128}
            for banks, white in ((0, True), (1, False), (1, True), (2, False), (2, True))
        ],
    ),
    "ragged_threshold": (
        ragged_threshold.ragged_threshold_kernel,
        {
            **dict.fromkeys(("lengths_ptr", "visible_ptr", "keep_ptr", "hide_ptr", "restore_ptr"), LONGS),
            "scores_ptr": FLOATS,
            "mask_ptr": BYTES,
        },
        [
            {"MASK": True, "KEEP": True, "HIDE": True, "RESTORE": True, "BLOCK": 1024, "HELD": held}
            for held in (2048, 0)
        ],
    ),
    "filter": (
        color.filter_kernel,
        {"in_ptr": FLOATS, "out_ptr": FLOATS, "index_ptr": INTS, "taps_ptr": FLOATS, "radius_ptr": INTS},
        [{"AXIS": axis, "WRAP": wrap, "BLOCK": 512} for wrap in (False, True) for axis in (0, 1, 2)],
    ),
    "mix": (
        color.mix_kernel,
        {"noise_ptr": FLOATS, "low_ptr": FLOATS, "out_ptr": FLOATS},
        [
            {"TWO": two, "WHITE": white, "BLOCK": 512}
            for two, white in ((True, False), (True, True), (False, True))
        ],
    ),
    "add_bias": (
        add_bias.add_bias_kernel,
        {"scores_ptr": FLOATS, "bias_ptr": FLOATS, "out_ptr": FLOATS, "weight": "fp32"},
        [{"BLOCK": 1024}],
    ),
    "threshold": (
        threshold.threshold_kernel,
        {
            "scores_ptr": FLOATS,
            "mask_ptr": BYTES,
            "keep_ptr": LONGS,
            "hide_ptr": LONGS,
            "restore_ptr": LONGS,
            "counts_ptr": INTS,
            "before_ptr": INTS,
        },
        [
            {
                "MASK": True,
                "KEEP": True,
                "HIDE": True,
                "RESTORE": True,
                "BLOCK": 1024,
                "HELD": held,
                "COUNTS": counts,
                **ones,
            }
            for held in (2048, 0)
            for counts, ones in (
                (False, {}),
                (False, {"groups": 1}),
                (False, {"groups": 1, "visible": 1}),
                (True, {}),
                (True, {"groups": 1, "counts_row": 1}),
            )
        ],
    ),
    "optim_blue": (
        optim_blue.optim_blue_kernel,
        {
            **SEEDS,
            "table_ptr": INTS,
            "base_ptr": INTS,
            "ring_ptr": INTS,
            "scratch_ptr": INTS,
            "scores_ptr": FLOATS,
        },
        [
            {**sizes, **PARTITION, **how, "CHUNK": optim_blue.chunk(sizes["BLOCK"])}
            for sizes, how in (
                ({"L": 512, "V": 102, "K": 5, "BLOCK": 512, "MASKS": 8}, {}),
                ({"L": 512, "V": 102, "K": 5, "BLOCK": 512, "MASKS": 8}, {"COMPLEMENTARY": False}),
                (
                    {"L": 512, "V": 102, "K": 5, "BLOCK": 512, "MASKS": 8},
                    {"COMPLEMENTARY": False, "VIEWS": True},
                ),
                ({"L": 196, "V": 49, "K": 4, "BLOCK": 256, "MASKS": 4}, {}),
                # The largest that are accepted: masks, tokens.
                ({"L": 1024, "V": 64, "K": 16, "BLOCK": 1024, "MASKS": 16}, {}),
                ({"L": 2048, "V": 256, "K": 8, "BLOCK": 2048, "MASKS": 8}, {}),
                ({"L": 2048, "V": 2047, "K": 1, "BLOCK": 2048, "MASKS": 1}, {}),
            )
        ],
    ),
    "strategy, steps": (
        strategy.step_scores_kernel,
        {**SEEDS, "scores_ptr": FLOATS},
        [
            {"KIND": kind, "AXIS": axis, "BLOCK": 512}
            for kind, axis in (
                ("axis", 0),
                ("axis", 1),
                ("axis", 2),
                ("bars", 0),
                ("cells", 0),
                ("running", 0),
            )
        ],
    ),
    "strategy, boxes": (
        strategy.box_scores_kernel,
        {**SEEDS, "durations_ptr": INTS, "sizes_ptr": INTS, "scores_ptr": FLOATS},
        [
            {"PLACEMENT": placement, "GIVEN": given, "INVERSE": inverse, "BLOCK": 512, **ones}
            for placement, given, inverse in (
                ("inside", False, False),
                ("inside", False, True),
                ("overhang", False, False),
                ("overhang", False, True),
                ("centre", False, True),
                ("centre", True, False),
                ("centre", True, True),
            )
            for ones in (
                {},
                {"T": 1},
                {"T": 1, "durations": 1, "sizes": 1},
                *([{"boxes": 1}] if given else []),
            )
        ],
    ),
    "gather_patches": (
        gather_patches.gather_patches_kernel,
        {"pixels_ptr": BYTES, "ids_ptr": LONGS, "scale_ptr": FLOATS, "shift_ptr": FLOATS, "out_ptr": FLOATS},
        [
            {"C": 3, "t": 2, "h": 16, "w": 16, "BLOCK": 512},
            {"C": 1, "t": 1, "h": 16, "w": 16, "T": 1, "BLOCK": 256},
        ],
    ),
    "patch_loss": (
        patch_loss.patch_loss_kernel,
        {
            "prediction_ptr": FLOATS,
            "pixels_ptr": BYTES,
            "ids_ptr": LONGS,
            "sums_ptr": FLOATS,
            "gradient_ptr": FLOATS,
            "scale_ptr": FLOATS,
            "unit": "fp32",
            "eps": "fp32",
        },
        [
            {
                "C": 3,
                "t": 2,
                "h": 16,
                "w": 16,
                "EPS_INSIDE": inside,
                "NORMALISE": normalise,
                "GRADIENT": gradient,
                "BLOCK": 512,
            }
            for inside, normalise in ((False, True), (True, True), (False, False))
            for gradient in (False, True)
        ],
    ),
    "decoder_tokens": (
        decoder_tokens.decoder_tokens_kernel,
        {
            "visible_ptr": FLOATS,
            "mask_token_ptr": FLOATS,
            "positions_ptr": FLOATS,
            "keep_ptr": LONGS,
            "hide_ptr": LONGS,
            "out_ptr": FLOATS,
        },
        [{"WIDTH": 384, "IN_GRID": in_grid, "BLOCK": 512} for in_grid in (False, True)],
    ),
    "random_words": (
        random.random_words_kernel,
        {**SEEDS, "out_ptr": LONGS},
        [{"PURPOSE": 3, "BLOCK": 256}, {"PURPOSE": 15, "BLOCK": 256}],
    ),
    "philox": (random.philox_kernel, {"seed_ptr": LONGS, "words_ptr": LONGS}, [{}]),
}
TRAINING = {
    "gather_patches",
    "patch_loss",
    "decoder_tokens",
}  # no masks: their divisions may hold fused steps
OPTIONS = {
    "add_bias": add_bias.OPTIONS, "filter": color.OPTIONS, "mix": color.OPTIONS, "noise": color.OPTIONS,
    "sigma": color.OPTIONS, "ragged_threshold": threshold.OPTIONS,
    **dict.fromkeys(("points, rows", "points, sum", "points, color"), points.OPTIONS),
    "optim_blue": optim_blue.OPTIONS, "strategy, boxes": strategy.OPTIONS, "strategy, steps": strategy.OPTIONS,
    "threshold": threshold.OPTIONS,
}  # fmt: skip
TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}


class Compiled(NamedTuple):
    kernel: str
    constants: dict
    text: str  # PTX or AMD assembly
    registers: int
    local: int
    """Bytes of memory that a thread's registers spill to, its stack included."""
    shared: int


def compile_all(target: str) -> Iterator[Compiled]:
    """Every kernel and variant for one of TARGETS. Raises what Triton raises where one does not compile."""
    for name, (kernel, tensors, variants) in KERNELS.items():
        for constants in variants:
            kinds = {p: tensors.get(p, "i32") for p in kernel.arg_names} | dict.fromkeys(
                constants, "constexpr"
            )
            source = ASTSource(fn=kernel, signature=kinds, constexprs=constants)
            options = dict(OPTIONS.get(name, gather_patches.OPTIONS))
            if name == "optim_blue":
                options["num_warps"] = optim_blue.warps(constants["BLOCK"], constants["MASKS"])
            built = triton.compile(source, target=TARGETS[target], options=options)
            if "cubin" in built.asm:
                registers, local = _nvidia_usage(built.asm["cubin"])
                text = built.asm["ptx"]
            else:
                text = built.asm["amdgcn"]
                registers = _number(r"\.vgpr_count:\s*(\d+)", text)
                local = _number(r"\.private_segment_fixed_size:\s*(\d+)", text)
            yield Compiled(name, constants, text, registers, local, built.metadata.shared)


def _nvidia_usage(cubin: bytes) -> tuple[int, int]:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    registers, stack, local = (_number(rf"{what}:(\d+)", said) for what in ("REG", "STACK", "LOCAL"))
    return registers, stack + local


def _number(pattern: str, text: str) -> int:
    """The first number that the pattern finds."""
    return int(re.findall(pattern, text)[0])
