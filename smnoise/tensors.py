# SPDX-License-Identifier: Apache-2.0
"""Checks of tensors and devices that public functions share."""

from __future__ import annotations

import numpy as np
import torch

INTEGERS = {getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)}


def as_device(device) -> torch.device:
    """The device of that name. Raises TypeError, ValueError where torch knows none."""
    if not isinstance(device, (str, int, torch.device)) or isinstance(device, bool):
        raise TypeError(f'device must be a torch.device or a text such as "cuda:0", got {device!r}')
    try:
        return torch.device(device)
    except RuntimeError as error:
        known = 'device must be one that torch knows, such as "cpu" or "cuda:0"'
        raise ValueError(f"{known}; got {device!r} ({error})") from None


def check_tensors(**tensors) -> None:
    """Raises TypeError for what is no tensor, or one whose values do not lie in plain memory."""
    for name, value in tensors.items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{name} must be a tensor, got {described(value)}")
        if value.layout != torch.strided or value.is_nested or value.is_quantized:
            kind = "nested" if value.is_nested else "quantized" if value.is_quantized else str(value.layout)
            way = {"nested": "to_padded_tensor(0)", "quantized": "dequantize()"}.get(kind, "to_dense()")
            raise TypeError(f"{name} must be a dense tensor, got a {kind} one; convert with {name}.{way}")


def described(value) -> str:
    """What came instead of a tensor, and how it becomes one."""
    if isinstance(value, np.ndarray):
        return f"a NumPy array of {value.dtype}; convert with torch.from_numpy(...)"
    if isinstance(value, (list, tuple, int, float)) and not isinstance(value, bool):
        return f"a Python {type(value).__name__}; convert with torch.tensor(...)"
    if hasattr(value, "__dlpack__"):
        return f"a {type(value).__module__.split('.')[0]} array; convert with torch.from_dlpack(...)"
    return f"{value!r}" if value is None or isinstance(value, bool) else f"a {type(value).__name__}"
