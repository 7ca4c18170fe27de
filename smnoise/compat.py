# SPDX-License-Identifier: Apache-2.0
"""One clash, handled in one place: a CPU build of torch beside the package index's torchvision.

The index's torchvision for Linux is linked against CUDA libraries. Beside a CPU torch its compiled operators
cannot load, and `import torchvision` (hence `import timm`) dies with
`RuntimeError: operator torchvision::nms does not exist`. timm needs none of these operators: it only has to
get past the import. So, and only then, the missing operators are declared without an implementation;
calling one still fails, naming the operator.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch

# Those that torchvision's _meta_registrations.py refers to at import.
OPERATORS = (
    "roi_align",
    "_roi_align_backward",
    "roi_pool",
    "_roi_pool_backward",
    "ps_roi_align",
    "_ps_roi_align_backward",
    "ps_roi_pool",
    "_ps_roi_pool_backward",
    "deform_conv2d",
    "_deform_conv2d_backward",
    "nms",
)


def import_timm():
    """The timm module. Raises ImportError with the install command where it is missing."""
    _declare_torchvision_operators()
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ImportError(
            f"the models need timm and torchvision ({error.name} is missing): pip install 'smnoise[train]'. "
            "With a CPU build of torch pin both, or pip replaces torch: "
            "pip install -c constraints.txt 'smnoise[train]'"
        ) from None
    return timm


@lru_cache(maxsize=1)
def _declare_torchvision_operators() -> None:
    package = find_spec("torchvision")
    if package is None or package.origin is None or hasattr(torch.ops.torchvision, "nms"):
        return
    libraries = sorted(Path(package.origin).parent.glob("_C*.so"))
    try:
        for library in libraries:
            ctypes.CDLL(str(library))
    except OSError:
        declared = torch.library.Library("torchvision", "FRAGMENT")
        for name in OPERATORS:
            declared.define(f"{name}(Tensor x) -> Tensor")
        _keep.append(declared)


_keep: list[torch.library.Library] = []  # a library that is collected takes its operators along
