# SPDX-License-Identifier: Apache-2.0
"""torchrun takes the commands that the pages and modules show as they stand, and hands the trainers their options."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "smnoise/train").glob("*.py")),
]
COMMANDS = sorted(
    {
        line.strip()
        for place in PLACES
        for line in place.read_text().replace("\\\n", " ").splitlines()
        if re.match(r"\s*torchrun .*-m .*smnoise\.train\.\w+ --", line)
    }
)


def test_there_are_some():
    assert any("finetune_video --run" in command for command in COMMANDS)
    assert any("train.video" in command for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_trainer_gets_its_options(command):
    from torch.distributed.run import parse_args

    words = shlex.split(command)[1:]
    module = next(n for n, word in enumerate(words) if word.startswith("smnoise.train."))
    given = parse_args(words)
    assert given.module
    assert given.training_script == words[module]
    assert given.training_script_args == words[module + 1 :]
