# SPDX-License-Identifier: Apache-2.0
"""Masks as arrays of another library, and sample numbers from them, through DLPack: no copy, on CPU and GPU.

    >>> import numpy, smnoise
    >>> sampler = smnoise.Green3D(grid=(8, 14, 14), mask_ratio=0.9)
    >>> masks = as_arrays(sampler(from_array(numpy.arange(4))), numpy)
    >>> masks.mask.dtype, masks.ids_keep.shape
    (dtype('bool'), (4, 156))

The other library is anything with `from_dlpack`: numpy, cupy, jax.numpy. An array is the tensor's memory: NumPy's is
read-only or not as its version has it, and CuPy's is written by torch's current stream.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from ..masks import MaskBatch


class MaskArrays(NamedTuple):
    """The outputs of a MaskBatch as arrays; None for those that were not asked for."""

    mask: Any
    ids_keep: Any
    ids_mask: Any
    ids_restore: Any


def as_arrays(masks: MaskBatch, library: Any) -> MaskArrays:
    """Return the outputs of a MaskBatch as arrays of another library, which share the masks' memory, on their device.
    `library` is its module, such as jax.numpy or cupy.

    Raises TypeError where the library has no from_dlpack, and what the library raises for a device that it does not
    know.
    """
    if not hasattr(library, "from_dlpack"):
        raise TypeError(f"expected a library with from_dlpack, such as numpy or cupy; got {library!r}")
    return MaskArrays(*(None if v is None else library.from_dlpack(v) for v in masks[:4]))


def from_array(samples: Any) -> torch.Tensor:
    """Return sample numbers, an array of integers [B] of any library, as int64 [B] on the array's device; without a
    copy if the integers have 64 bits.

    Raises TypeError for what is no array of integers.
    """
    if isinstance(samples, np.ndarray):
        # DLPack refuses memory that may only be read, and another byte order; NumPy copies those if it must.
        samples = np.require(samples, samples.dtype.newbyteorder("="), "W")
    if not hasattr(samples, "__dlpack__"):
        raise TypeError(f"expected an array of integers, got {samples!r}")
    tensor = torch.from_dlpack(samples)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"sample numbers must be integers, got {tensor.dtype}")
    return tensor.view(torch.int64) if tensor.dtype == torch.uint64 else tensor.to(torch.int64)
