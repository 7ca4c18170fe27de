# SPDX-License-Identifier: Apache-2.0
"""Every example in a docstring runs. (Those of the adapters need other packages, and run in test_adapters.)"""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import smnoise

GIVEN = {"smnoise": smnoise, "pools": smnoise.pools}  # what examples need not import
FOLDER = Path(smnoise.__file__).parent
WITH_EXAMPLES = sorted(
    ".".join(("smnoise", *path.relative_to(FOLDER).with_suffix("").parts)).removesuffix(".__init__")
    for path in FOLDER.rglob("*.py")
    if ">>> " in path.read_text() and "adapters" not in path.parts
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name):
    failed, tried = doctest.testmod(
        import_module(name), extraglobs=GIVEN, optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert (failed, tried > 0) == (0, True)


def test_there_are_examples_of_samplers_and_more():
    assert {"smnoise.samplers.color", "smnoise.samplers.optim_blue", "smnoise.strategies"} <= set(
        WITH_EXAMPLES
    )
