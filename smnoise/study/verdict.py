# SPDX-License-Identifier: Apache-2.0
"""The gate's table: what each length of pretraining has more than none, and whether the study goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .power import seeds_for, smallest_effect
from .table import compare

Found = Mapping[tuple[int, int], Mapping[str, Any]]


def gains(found: Found, epochs: int) -> list[float]:
    """Points of accuracy that pretraining of so many epochs adds, of the seeds that have both models."""
    seeds = sorted(seed for length, seed in found if length == epochs and (0, seed) in found)
    return [100 * (found[epochs, seed]["accuracy"] - found[0, seed]["accuracy"]) for seed in seeds]


def passes(differences: list[float], seeds: int, points: float) -> bool | None:
    """Whether a length is better by more than so many points, with an interval above 0; None while seeds are
    missing."""
    if len(differences) < seeds:
        return None
    found = compare(differences, [0.0] * len(differences))
    return found.mean > points and found.low is not None and found.low > 0


def verdict(settings: Mapping[str, Any], found: Found) -> str:
    """What the rule says of the cells that are there."""
    said = [
        passes(gains(found, epochs), settings["seeds"], settings["points"]) for epochs in settings["lengths"]
    ]
    if True in said:
        length = settings["lengths"][said.index(True)]
        return f"**The gate is open**: {length} epochs are the shortest length that the rule accepts."
    if None in said:
        return "**Undecided**: cells are missing."
    return "**The gate is shut**: no length is better by more than the rule asks for; masks are not compared."


def table(settings: Mapping[str, Any], digest: str, found: Found) -> str:
    """The cells as Markdown. Accuracies in percent, differences in points."""
    views, labels = settings["data"]["train"], settings["labels"]
    wanted = settings["seeds"] * (1 + len(settings["lengths"]))
    lines = [
        "# Gate: ego-motion in Freedoom, random masks",
        "",
        f"{len(found)} of {wanted} cells of plan {digest}. Fine-tuned with {labels} labels, scored on "
        f"{settings['data']['test']} clips of other maps; chance is {100 / settings['data']['classes']:.1f} %.",
        "",
        "| pretraining | views | accuracy of each seed, % | more than from scratch, points | 95 % interval | "
        "smallest effect to be seen | passes |",
        "|---|---:|---|---:|---:|---:|---|",
    ]
    for epochs in (0, *settings["lengths"]):
        lines.append(_row(settings, found, epochs, views))
    lines += ["", verdict(settings, found), ""]
    if spent := sum(result["cpu seconds"] for result in found.values()):
        lines += [f"{spent / 3600:.2f} CPU hours in all.", ""]
    return "\n".join(lines)


def _row(settings: Mapping[str, Any], found: Found, epochs: int, views: int) -> str:
    of_length = [found[key]["accuracy"] for key in sorted(found) if key[0] == epochs]
    scores = ", ".join(f"{100 * score:.1f}" for score in of_length) or "-"
    name = f"{epochs} epoch{'s' if epochs > 1 else ''}" if epochs else "none (from scratch)"
    cells = [name, f"{epochs * views:,}", scores]
    differences = gains(found, epochs) if epochs else []
    if not differences:
        return "| " + " | ".join([*cells, "-", "-", "-", "-"]) + " |"
    more = compare(differences, [0.0] * len(differences))
    spread = "" if more.std is None else f" ± {more.std:.1f}"
    interval = "-" if more.low is None else f"{more.low:+.1f} to {more.high:+.1f}"
    smallest = "-" if more.std is None else f"{smallest_effect(more.std, more.seeds):.1f}"
    said = passes(differences, settings["seeds"], settings["points"])
    answer = "cells are missing" if said is None else "yes" if said else "no"
    return "| " + " | ".join([*cells, f"{more.mean:+.1f}{spread}", interval, smallest, answer]) + " |"


def power_table(effects: tuple[float, ...], deviations: tuple[float, ...]) -> str:
    """Seeds that find an effect with a chance of 80 %, by the deviation of paired differences, as Markdown."""
    head = "| deviation | " + " | ".join(f"effect {effect}" for effect in effects) + " |"
    rows = [
        f"| {deviation} | " + " | ".join(str(seeds_for(effect, deviation)) for effect in effects) + " |"
        for deviation in deviations
    ]
    return "\n".join([head, "|---" + "|---:" * len(effects) + "|", *rows])
