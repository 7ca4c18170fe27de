# SPDX-License-Identifier: Apache-2.0
"""The order of the house: no circle of files, rooms with doors one way, and files that can be read at once.

Every import counts: at the head of a file, inside a function, and for types alone.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "smnoise"
MOST_LINES = 400
MOST_FILES_OF_TRAIN = 20
# Which rooms must not import which: how clips come to be knows nothing of models' training, and so on upwards.
FLOORS = ("data", "probes", "train", "viz", "demos", "study", "cli")
ALSO_BELOW = {"masks", "samplers", "ops", "backends", "spec", "measures", "models", "pools", "adapters"}


def modules() -> dict[str, Path]:
    """All files of the package by their dotted names."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """The files of the package that a file imports."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) - node.level + 1] if node.level else []
            target = ".".join([*above, *([node.module] if node.module else [])])
            found |= {full if (full := f"{target}.{one.name}") in known else target for one in node.names}
        elif isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
    return {target for target in found if target in known and target != name}


def arrows() -> dict[str, set[str]]:
    known = modules()
    return {name: imports(name, path, known) for name, path in known.items()}


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Groups of files, each of which can be reached from each other one (Tarjan)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in edges[name]:
            if other not in number:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], number[other])
        if low[name] == number[name]:
            group = [stack.pop()]
            while group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for name in edges:
        if name not in number:
            visit(name)
    return found


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else name


def test_circles_are_found():
    """The finder itself: a pair, a triple inside a chain, and none."""
    assert circles({"a": {"b"}, "b": {"a"}}) == [["a", "b"]]
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"b"}, "e": {"a"}}) == [["b", "c", "d"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_lazy_and_typing_imports_count(tmp_path):
    known = dict.fromkeys(["smnoise.files", "smnoise.data", "smnoise.data.found", "smnoise.masks"], tmp_path)
    path = tmp_path / "here.py"
    path.write_text(
        "from ..files import replace_file\nfrom .. import masks\nimport smnoise.data\n"
        "def f():\n    from .found import find_files\n"
    )
    assert imports("smnoise.data.here", path, known) == set(known)


def test_no_files_import_each_other_in_a_circle():
    assert circles(arrows()) == []


def test_rooms_have_doors_one_way():
    """No file of a lower floor imports one of a higher floor; what masks are made of imports none of the floors."""
    wrong = defaultdict(list)
    for name, others in arrows().items():
        for other in others:
            here, there = room(name), room(other)
            upwards = here in FLOORS and there in FLOORS and FLOORS.index(here) < FLOORS.index(there)
            if upwards or (here in ALSO_BELOW and there in FLOORS):
                wrong[f"{here} -> {there}"].append(f"{name} imports {other}")
    assert not wrong


def test_no_file_is_too_long():
    long = {
        path.relative_to(ROOT).as_posix(): lines
        for folder in ("smnoise", "kernels", "csrc", "bench", "tests", "examples")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".cu", ".h", ".cpp")
        and (lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert not long, f"more than {MOST_LINES} lines; a file is read from top to bottom: {long}"


def test_the_trainers_room_is_small():
    files = [path.name for path in (PACKAGE / "train").glob("*.py")]
    assert len(files) <= MOST_FILES_OF_TRAIN, sorted(files)
