# SPDX-License-Identifier: Apache-2.0
"""The table of evidence in README.md is that of the result files, and its words follow from the numbers."""

from pathlib import Path

import pytest

from bench import __main__ as run
from bench import evidence

README = Path(__file__).parents[2] / "README.md"


def test_readme_has_the_table_of_the_results():
    begin, end = "<!-- evidence: written by python -m bench -->\n", "\n<!-- evidence: end -->"
    assert README.read_text().split(begin)[1].split(end)[0] == run.blocks()["evidence"]


def test_readme_is_short():
    assert len(README.read_text().splitlines()) <= 150


@pytest.mark.parametrize(
    ("low", "high", "word"), [(-0.1, 0.3, "Undecided"), (0.01, 0.3, "Yes"), (-0.3, -0.01, "No, worse")]
)
def test_a_difference_is_one_when_its_interval_says_so(low, high, word):
    found = {"comparisons": [{"mean": (low + high) / 2, "low": low, "high": high}]}
    assert evidence._verdict(found).startswith(f"{word}: ")


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ([(0.2, 0.1), (0.3, 0.2)], "yes"),
        ([(0.2, 0.1), (0.3, -0.1)], "not shown"),
        ([(-0.2, -0.3), (-0.1, -0.4)], "so this says nothing about masks"),
    ],
)
def test_a_gain_is_one_when_all_models_have_it(gains, said):
    found = {"gain over untrained": [{"mean": mean, "low": low} for mean, low in gains]}
    assert evidence._gain(found).endswith(said)
