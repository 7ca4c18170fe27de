# SPDX-License-Identifier: Apache-2.0
"""README.md and docs/: their code runs, their commands parse, what they name exists, and the site builds."""

import contextlib
import importlib.util
import io
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import tyro

import smnoise
from smnoise import STRATEGIES
from smnoise.cli import COMMANDS, TRAINERS
from smnoise.cli.trainers import MODULES
from smnoise.train import recipes

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FLAT = (
    tyro.conf.OmitArgPrefixes,
    tyro.conf.OmitSubcommandPrefixes,
    tyro.conf.FlagCreatePairsOff,
)  # as smnoise.cli


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text()) if kind == language]


def lines_of_commands() -> list[tuple[str, str]]:
    """(page, command) of all bash blocks."""
    found = []
    for page in PAGES:
        for block in blocks(page, "bash"):
            joined = block.replace("\\\n", " ")
            found += [(name_of(page), line.strip()) for line in joined.splitlines() if line.strip()]
    return found


# Of packages that a page shows how to use with ours. Nor are they told: for that xdist imports the warning's package.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=name_of)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "page"}
    for number, block in enumerate(blocks(page, "python"), 1):
        code = compile(block, f"{name_of(page)}, block {number}", "exec")
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, namespace)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page):
    for link in LINK.findall(BLOCK.sub("", page.read_text())):
        if "://" not in link and not link.startswith("#"):
            assert (page.parent / link.split("#")[0]).exists(), f"{name_of(page)} links to {link}"


def parse(line: str) -> None:
    """Parse a command as its program does; raises or leaves where that refuses it."""
    words = shlex.split(line, comments=True)
    if words[0] == "torchrun":
        processes = words[words.index("--nproc-per-node") + 1]
        with pytest.MonkeyPatch.context() as patch:
            for name in recipes.processes.__globals__["LAUNCHED"]:
                patch.setenv(name, "0")
            patch.setenv("WORLD_SIZE", processes)
            rest = [word for word in words[words.index("-m") + 1 :] if word != "--"]
            return parse_module(rest[0], rest[1:])
    if words[:2] == ["python", "-m"]:
        return parse_module(words[2], words[3:])
    if words[0] == "python":
        assert (ROOT / words[1]).exists()
        return None
    if words[0] == "make":
        return check_target(words[1])
    if words[:2] == ["pip", "install"]:
        return None
    assert words[0] == "smnoise", f"a command that this test does not know: {line}"
    if words[1] in TRAINERS:
        kind = tuple(words[1:3]) if tuple(words[1:3]) in MODULES else (words[1],)
        return parse_module(f"smnoise.{MODULES[kind]}".removesuffix(".__main__"), words[1 + len(kind) :])
    assert words[1] in COMMANDS
    tyro.cli(import_module(f"smnoise.cli.{words[1]}").Options, args=words[2:], config=FLAT)
    return None


def parse_module(name: str, arguments: list[str]) -> None:
    if name.startswith("tests."):
        assert importlib.util.find_spec(name)
        assert not arguments
    elif name == "bench":
        import_module("bench.__main__").options_of(arguments)
    elif name == "smnoise.study":
        tyro.cli(import_module("smnoise.study.__main__").Study, args=arguments)
    elif name == "smnoise.study.gate":
        tyro.cli(import_module(name).Gate, args=arguments)
    elif name == "smnoise.data.video.cache":
        tyro.cli(import_module(name).Config, args=arguments)
    elif "--recipe" in arguments or name.endswith(("video", "audio")):
        if "--resume" in arguments:  # whose other settings are those of the run
            arguments = [*(a for a in arguments if a != "--resume"), "--data", "somewhere"]
        recipes.parse(import_module(name).Config, "", arguments)
    elif hasattr(module := import_module(name), "Config"):
        tyro.cli(module.Config, args=arguments)
    else:
        assert not [a for a in arguments if a.startswith("-")], f"{name} is not parsed by this test"


def check_target(name: str) -> None:
    assert re.search(rf"^{re.escape(name)}:", (ROOT / "Makefile").read_text(), re.M), f"no make {name}"


@pytest.mark.parametrize(("page", "line"), lines_of_commands())
def test_commands_parse(page, line, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT))  # for smnoise.study
    parse(line)


def test_a_wrong_command_does_not_parse(capsys):
    for line in ("smnoise report tube --folder x", "smnoise pretrain video --data a --out b --mask teal",
                 "python -m smnoise.train.probe --run a --motoin", "make coffee"):  # fmt: skip
        with pytest.raises((SystemExit, AssertionError, ValueError)):
            parse(line)


def test_what_is_named_exists(monkeypatch):
    """Names in code type: those of the package, files, make targets, options."""
    monkeypatch.syspath_prepend(str(ROOT))
    helps = options_of_everything()
    for page in PAGES:
        for text in INLINE.findall(BLOCK.sub("", page.read_text())):
            where = f"{name_of(page)} names {text}"
            if dotted := re.match(r"smnoise(\.\w+)+", text):
                assert exists(dotted[0]), where
            elif re.fullmatch(r"(smnoise|bench|csrc|kernels|tests|docs)/[\w./*-]+", text):
                assert list(ROOT.glob(text.rstrip("/"))), where
            elif text.startswith("make "):
                check_target(text.split()[1])
            elif text.startswith("--"):
                for option in re.findall(r"--[a-z][a-z0-9-]+", text):
                    assert option in helps, where


def exists(name: str) -> bool:
    """A module, or an attribute of one, or of a class in one."""
    words = name.split(".")
    value = smnoise
    for at, word in enumerate(words[1:], 2):
        if hasattr(value, word):
            value = getattr(value, word)
        elif importlib.util.find_spec(".".join(words[:at])):
            value = import_module(".".join(words[:at]))
        else:
            return False
    return True


def options_of_everything() -> set[str]:
    """Of all commands and trainers: the fields of their dataclasses, and of those inside."""
    targets = [import_module(f"smnoise.cli.{name}").Options for name in COMMANDS if name not in TRAINERS]
    trainers = [name for name in MODULES.values() if name.startswith("train.")]
    targets += [import_module(f"smnoise.{m}").Config for m in (*trainers, "data.video.cache")]
    targets += [import_module("smnoise.study.__main__").Study, import_module("smnoise.study.gate").Gate]
    found = {"--recipe"}

    def read(kind) -> None:
        if is_dataclass(kind):
            found.update("--" + field.name.replace("_", "-") for field in fields(kind))
            for inner in get_type_hints(kind).values():
                for part in (inner, *get_args(inner)):
                    read(part)

    for target in targets:
        read(target)
    return found


def test_every_strategy_and_preset_has_its_place():
    page = (DOCS / "masks" / "index.md").read_text()
    readme = (ROOT / "README.md").read_text()
    named = set(INLINE.findall(page))
    assert {name.removesuffix("-tube") for name in STRATEGIES if name != "tube"} <= named
    assert {n for n in STRATEGIES if not re.match("(white|red|blue|purple)-[12]d", n)} - {"green-2d"} <= set(
        INLINE.findall(readme)
    )
    rows = re.findall(
        r"^\| `([\w-]+)` \|.*\| (\d+) of (\d+) \|$", (DOCS / "masks" / "presets.md").read_text(), re.M
    )
    counts = {name: (int(visible), int(tokens)) for name, visible, tokens in rows}
    made = {name: preset() for name, preset in smnoise.presets.items()}
    assert counts == {name: (s.visible_per_sample, s.num_tokens) for name, s in made.items()}


def test_the_table_of_measures_is_that_of_its_numbers(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    pictures = import_module("pictures")
    measures = json.loads(pictures.MEASURES.read_text())
    assert set(measures) == set(pictures.SHOWN)
    assert f"{pictures.BEGIN}\n{pictures.table(measures)}\n{pictures.END}" in pictures.PAGE.read_text()
    for name, row in measures.items():
        grid, ratio = pictures.SHOWN[name]
        assert smnoise.strategy(name, grid, ratio).visible_per_sample == row["visible"]
        assert (pictures.PICTURES / f"{name}.png").exists()


def test_all_pages_that_say_so_know_whether_a_gpu_was_there():
    measured = (ROOT / "bench" / "results" / "gpu.json").exists()
    pages = [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        *(DOCS / f"{n}.md" for n in ("status", "use", "pretraining")),
    ]
    for page in pages:
        text = " ".join(page.read_text().lower().split())
        denied = re.search(r"(nothing|neither)[^.]* has run on a gpu", text)
        assert bool(denied) != measured, f"{name_of(page)} and bench/results/gpu.json disagree"


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    api = (tmp_path / "site" / "api" / "samplers.html").read_text()
    assert "Green3D" in api
    assert "num_visible" in api
    assert ">&gt;&gt;&gt; " in api
    assert "<blockquote>" not in api  # as which Markdown reads >>>
    fetched = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="((?:https?:)?//[^"]+)"', api)
    assert not fetched
