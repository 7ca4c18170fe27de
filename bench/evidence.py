# SPDX-License-Identifier: Apache-2.0
"""What is known of the masks, as the table in README.md: from the result files of the repository alone."""

from __future__ import annotations

import json
from pathlib import Path

from smnoise.study.gate import Plan, read_cells
from smnoise.study.verdict import verdict

from .tables import RESULTS

MEASURES = Path(__file__).parents[1] / "docs" / "masks" / "measures.json"
STUDY = RESULTS / "study" / "study.json"
GATE = RESULTS / "ego-motion"


def evidence_table() -> str:
    """The rows, each with its numbers and the command that makes them anew."""
    masks, experiments = json.loads(MEASURES.read_text()), json.loads(STUDY.read_text())["experiments"]
    change = {name: f"{100 * masks[name]['change']:.0f} %" for name in ("green-3d", "random", "tube")}
    blue = masks["optim-blue"]
    apart = (
        f"Of Optim Blue's {100 * blue['touching']:.1f} % have a visible neighbour, of random ones "
        f"{100 * blue['touching, random']:.0f} %"
    )
    sound = _rows(experiments["blue-vs-random-audio"])
    video = _rows(experiments["green-vs-tube"])
    return "\n".join(
        [
            "| question | found | how |",
            "|---|---|---|",
            "| Do visible tokens drift? | From one time step to the next "
            f"{change['green-3d']} of green noise's are gone, {change['random']} of random ones, {change['tube']} of "
            "tubes' | `python docs/pictures.py` |",
            f"| Do they keep their distance? | {apart} | the same |",
            f"| Does pretraining on sound help a small model? | {_gain(sound).capitalize()}: few-label accuracy "
            f"{_score(sound, 'untrained')} untrained, {_score(sound, 'random')} random, "
            f"{_score(sound, 'optim-blue')} Optim Blue | [`smnoise study`](docs/study.md) |",
            "| Is Optim Blue better than random there? | "
            f"{_verdict(sound)}, in {_seeds(sound)} seeds | the same |",
            "| Is green better than tubes on video? | "
            f"{_verdict(video)}; linear accuracy {_score(video, 'green-3d')} and {_score(video, 'tube')}, untrained "
            f"{_score(video, 'untrained')}: {_gain(video)} | the same |",
            _gate_row(),
            "| Are published scores reached? | Not tried: nobody here has run a recipe to its end | "
            "[reproduce](docs/reproduce.md) |",
        ]
    )


def _gate_row() -> str:
    """What the gate's cells say so far (docs/study-plan.md): each length of pretraining against none."""
    plan = Plan.read()
    found = read_cells(GATE / "cells", plan)
    scores = []
    for epochs in (0, *plan.settings["lengths"]):
        some = [f"{100 * found[key]['accuracy']:.0f}" for key in sorted(found) if key[0] == epochs]
        if some:
            length = f"{epochs} epoch{'s' if epochs > 1 else ''}" if epochs else "none"
            scores.append(f"{length} {', '.join(some)}")
    said = verdict(plan.settings, found).replace("**", "")
    chance = 100 / plan.settings["data"]["classes"]
    return (
        f"| Does it help on six ego-motions, with {plan.settings['labels']} labels? | {said} Accuracy in % of each "
        f"seed, by pretraining under random masks: {'; '.join(scores)} (chance {chance:.0f}) | "
        "[`smnoise study gate`](docs/study.md#ego-motion-and-the-gate) |"
    )


def _rows(experiment: dict) -> dict:
    """What was found at an experiment's only number of visible tokens, with the name of its score."""
    (found,) = experiment["visible tokens"].values()
    return {**found, "score": experiment["score"]}


def _score(found: dict, name: str) -> str:
    row = found["rows"][name][found["score"]]
    return f"{row['mean']:.3f} ± {row['std']:.3f}"


def _gain(found: dict) -> str:
    """Whether models are better than untrained ones, with all of their intervals above 0."""
    gains = found["gain over untrained"]
    if all(gain["low"] > 0 for gain in gains):
        return "yes"
    if all(gain["mean"] < 0 for gain in gains):
        return "such short runs end below the untrained model, so this says nothing about masks"
    return "not shown"


def _seeds(found: dict) -> int:
    return found["comparisons"][0]["seeds"]


def _verdict(found: dict) -> str:
    """The difference of the first comparison, and whether its interval is on one side of 0."""
    one = found["comparisons"][0]
    if one["low"] > 0:
        word = "Yes"
    elif one["high"] < 0:
        word = "No, worse"
    else:
        word = "Undecided"
    return f"{word}: {one['mean']:+.3f} (95 % interval {one['low']:+.3f} to {one['high']:+.3f})"
