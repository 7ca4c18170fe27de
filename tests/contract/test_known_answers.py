# SPDX-License-Identifier: Apache-2.0
"""The contract's known answers on every backend, and `python -m smnoise verify`, which checks anybody's."""

import json

import pytest

from smnoise import conformance
from smnoise.__main__ import main

SECTIONS = list(conformance.CHECKS)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_known_answer(target, section):
    known = conformance.shipped([section])
    results = list(conformance.run(known, target.backend))
    assert len(results) == sum(len(entries) for entries in known.values())
    for result in results:
        assert result.got == result.expected, result.entry


def test_every_section_of_the_files_is_checked():
    files = [json.loads(path.read_text()) for path in (conformance.built_in(), conformance.extensions())]
    assert sorted(name for file in files for name in file) == sorted(SECTIONS)


def test_verify_without_a_file_checks_all_sections(capsys):
    assert main(["verify", "--backend", "cpu"]) == 0
    count = sum(len(entries) for entries in conformance.shipped().values())
    assert f"cpu: {count} of {count} known answers" in capsys.readouterr().out
    assert main(["verify", "--backend", "cpu", "--section", "strategy"]) == 0
    assert main(["verify", "--backend", "cpu", "--section", "stratagem"]) == 2
    assert "stratagem" in capsys.readouterr().err


@pytest.fixture
def known_file(tmp_path):
    """Writes a changed copy of the known answers; returns its path."""

    def write(change):
        known = json.loads(conformance.built_in().read_text())
        change(known)
        path = tmp_path / "kat.json"
        path.write_text(json.dumps(known))
        return str(path)

    return write


def test_verify_agrees_with_its_own_file(known_file, capsys):
    assert main(["verify", known_file(lambda known: None), "--backend", "reference"]) == 0
    count = sum(len(v) if isinstance(v, list) else 1
                for v in conformance.load(conformance.built_in()).values())  # fmt: skip
    assert f"reference: {count} of {count} known answers" in capsys.readouterr().out


def test_verify_says_which_answer_is_wrong(known_file, capsys):
    def change(known):
        known["color"][3]["first_visible"][0] += 1

    assert main(["verify", known_file(change), "--backend", "reference", "--json"]) == 1
    failed = [r for r in json.loads(capsys.readouterr().out)["results"] if not r["passed"]]
    assert [r["entry"] for r in failed] == ["color[3]"]
    assert failed[0]["expected"]["first_visible"] != failed[0]["got"]["first_visible"]


def _unknown_section(known):
    known["optim_purple"] = [{}]


def _unknown_parameter(known):
    known["color"][0]["twist"] = 1


def _missing_parameter(known):
    del known["white"]["seed"]


def _empty_section(known):
    known["color"] = []


def _nothing(known):
    known.clear()


def _no_values(known):
    known["white"].update(t=[], values=[])


def _long_counter(known):
    known["philox"][0]["counter"].append(1)


def _negative_word(known):
    known["philox"][0]["counter"][0] = -1


def _seed_too_large(known):
    known["green_noise"]["seed"] = 2**64


def _no_ratio(known):
    del known["color"][0]["ratio"]


def _bad_value(known):
    known["color"][0]["color"] = "pink"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_unknown_section, "optim_purple"),
        (_unknown_parameter, "twist"),
        (_missing_parameter, "seed"),
        (_empty_section, "empty"),
        (_nothing, "proves nothing"),
        (_no_values, "white[0]: t"),
        (_long_counter, "philox[0]: counter must be a list of 4"),
        (_negative_word, "philox[0]: counter"),
        (_seed_too_large, "green_noise[0]: seed"),
        (_no_ratio, "either ratio or num_visible"),
        (_bad_value, "pink"),
    ],
)
def test_verify_does_not_skip_what_it_does_not_know(known_file, capsys, change, words):
    assert main(["verify", known_file(change), "--backend", "reference"]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00"])
def test_verify_refuses_what_is_no_known_answer_file(tmp_path, capsys, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    assert main(["verify", str(path)]) == 2
    assert str(path) in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "absent.json")]) == 2
    assert main(["verify", "--backend", "gpu"]) == 2
