# SPDX-License-Identifier: Apache-2.0
"""One clash, handled in one place: a CPU build of torch beside the package index's torchvision.

The index's torchvision for Linux is linked against CUDA libraries. Beside a CPU torch its compiled operators
cannot load, and `import torchvision` (hence `import timm`) dies with
`RuntimeError: operator torchvision::nms does not exist`. timm needs none of these operators: it only has to
get past the import. So, and only then, the missing operators are declared without an implementation;
calling one still fails, naming the operator.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch

from . import install


def import_timm():
    """The timm module. Raises ImportError with the install command where it is missing."""
    _declare_torchvision_operators()
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ImportError(
            f"the models need timm and torchvision ({error.name} is missing): {install.command('train')}. "
            "With a CPU build of torch pin both, or pip replaces torch: "
            f"{install.command('train', '-c constraints.txt ')}"
        ) from None
    return timm


@lru_cache(maxsize=1)
def _declare_torchvision_operators() -> torch.library.Library | None:
    """The library that holds the declarations (collecting it would drop them), or None if none are needed."""
    package = find_spec("torchvision")
    if package is None or package.origin is None:
        return None
    folder = Path(package.origin).parent
    try:
        for library in folder.glob("_C*.so"):
            torch.ops.load_library(str(library))
        return None
    except OSError:
        declared = torch.library.Library("torchvision", "FRAGMENT")
        for name in sorted({n for file in folder.glob("_*_registrations.py") for n in _operators(file)}):
            declared.define(f"{name}(Tensor x) -> Tensor")
        return declared


def _operators(registrations: Path) -> list[str]:
    """The operators that one of torchvision's registration files needs to exist at import."""
    return re.findall(r'register_\w+\(\s*"(?:torchvision::)?(\w+)"', registrations.read_text())
