# SPDX-License-Identifier: Apache-2.0
"""Which samples a batch has, which seed, and where: as tensors."""

from __future__ import annotations

import torch

from ..errors import BackendError
from ..spec import as_int, as_tuple, signed64
from ..tensors import INTEGERS, as_device, check_tensors

CPU = torch.device("cpu")
NEITHER = "give either samples, or batch_size and step"


# Asked in every call, and so by names that lead there straight.
_is_compiling, _keys = torch.compiler.is_compiling, torch._C._dispatch_keys
_dispatch_modes, _function_modes = torch._C._len_torch_dispatch_stack, torch._C._len_torch_function_stack
_transform, _tracing = torch._C._functorch.peek_interpreter_stack, torch._C._get_tracing_state
_profiled = torch._C._autograd._profiler_enabled


def eager() -> bool:
    """Whether a call may go to its backend past torch's dispatcher, which takes longer than the rest of it: nothing
    compiles, traces, transforms or profiles it, and no mode (fake tensors, a default device) wants to know of it."""
    return not (
        _is_compiling()  # first: what is asked behind it cannot be traced
        or _dispatch_modes()
        or _function_modes()
        or _transform() is not None
        or _tracing() is not None
        or _profiled()
    )


# The dispatch keys of dense tensors on the CPU or a GPU, and none of those that say that memory holds something else.
_DENSE = (
    _keys(torch.empty(0, device="cpu")).raw_repr()
    | torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA).raw_repr()
)


def plain(tensor) -> bool:
    """Whether the numbers in a tensor's memory are its own, where a call is `eager`: it is no fake, wrapped or sparse
    tensor, and no view that torch negates or conjugates as it is read."""
    return type(tensor) is torch.Tensor and not _keys(tensor).raw_repr() & ~_DENSE


def listed(samples) -> bool:
    """Whether they are a tensor as `batch_indices` gives, and `plain`."""
    return plain(samples) and samples.dtype is torch.int64 and samples.dim() == 1


def check_device(device) -> None:
    """Raises TypeError, ValueError for what names no device, and BackendError for one where masks cannot be made; what
    torch raises depends on its build. None is fine: the CPU, or where the samples are."""
    if device is None:
        return
    found = as_device(device)
    if found.type not in ("cpu", "cuda", "meta"):
        raise BackendError(
            f"device={str(device)!r}: masks are made on the CPU and on GPUs that torch calls cuda; leave device out, "
            "then move them: sampler(samples).to(device)"
        )
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        there = f"finds {torch.cuda.device_count()} of them" if torch.cuda.is_available() else "finds no GPU"
        raise BackendError(
            f"device={str(device)!r} was asked for, but torch {torch.__version__} {there}; leave device out "
            "to make masks on the CPU, and see `smnoise doctor`"
        )


def sample_indices(
    step: int | torch.Tensor, batch_size: int, *, rank: int = 0, world_size: int = 1, device=None
) -> torch.Tensor:
    """Return the sample indices of one rank's batch, int64 [batch_size]: (step * world_size + rank) * batch_size + (0
    .. batch_size - 1).

    Ranks and steps never share an index as long as batch_size and world_size stay the same. Where they may change
    (elastic runs), pass your own global sample numbers instead.

    >>> sample_indices(1, 2, rank=1, world_size=2)
    tensor([6, 7])
    """
    if not isinstance(step, (torch.Tensor, torch.SymInt)):
        first, batch_size = first_index(step, batch_size, rank, world_size)
        check_device(device)
        device = "cpu" if device is None else device  # not torch's default device
        return torch.arange(first, first + batch_size, device=device)
    batch_size, rank, world_size = as_ranks(batch_size, rank, world_size)
    check_device(device)
    if isinstance(step, torch.Tensor):
        if step.dtype != torch.int64 or step.numel() != 1:
            raise TypeError(
                f"step must be one int64, got a tensor of {step.dtype}, shape {tuple(step.shape)}"
            )
        check_tensors(step=step)
        device = step.device if device is None else device
        step = step.reshape(()) if device == step.device else step.reshape(()).to(device)
    device = "cpu" if device is None else device  # not torch's default device
    # In few operations: each takes as long as a mask of a small grid.
    rows = torch.arange(rank * batch_size, (rank + 1) * batch_size, device=device)
    every = world_size * batch_size
    return torch.add(rows, step, alpha=every) if isinstance(step, torch.Tensor) else rows + step * every


def numbered_device(device) -> torch.device | None:
    """The CPU or GPU of that name, the current GPU where it says no number; None for what is neither."""
    check_device(device)
    found = as_device(device)
    if found.type == "cuda":
        return found if found.index is not None else torch.device("cuda", torch.cuda.current_device())
    return CPU if found.type == "cpu" else None


def as_ranks(batch_size, rank, world_size) -> tuple[int, int, int]:
    """Return the three as integers. Raises TypeError or ValueError where they do not go together."""
    batch_size = as_int("batch_size", batch_size, 1, 2**31)
    world_size = as_int("world_size", world_size, 1, 2**31)
    return batch_size, as_int("rank", rank, 0, world_size - 1), world_size


def first_index(step, batch_size, rank: int = 0, world_size: int = 1) -> tuple[int, int]:
    """Where a batch begins, and how many samples it has: `sample_indices` of a step that is a number."""
    if (
        type(step) is type(batch_size) is type(rank) is type(world_size) is int
        and 0 < batch_size <= 2**31
        and 0 <= rank < world_size <= 2**31
        and 0 <= step < (2**63 - 1) // (world_size * batch_size)
    ):  # what nearly every call is
        return (step * world_size + rank) * batch_size, batch_size
    batch_size, rank, world_size = as_ranks(batch_size, rank, world_size)
    step = as_int("step", step, 0, (2**63 - 1) // (world_size * batch_size) - 1)
    return (step * world_size + rank) * batch_size, batch_size


def batch_indices(samples, batch_size, step, rank: int, world_size: int, device) -> torch.Tensor:
    """Indices int64 [B] from what a sampler is called with: samples, or batch_size and step."""
    if (samples is None) == (batch_size is None):
        raise ValueError(NEITHER)
    if samples is None:
        if step is None:
            raise ValueError("batch_size needs step, the number of the batch: step 0 for the first")
        return sample_indices(step, batch_size, rank=rank, world_size=world_size, device=device)
    if step is not None:
        raise ValueError("step goes with batch_size; samples already name each mask")
    return as_samples(samples, device)


def as_samples(samples, device) -> torch.Tensor:
    """Return sample numbers, a tensor, array, list or range of integers [B], as int64 [B] on a device: the given one,
    else that of a tensor, else the CPU. Numbers up to 2^64 - 1 keep their bits.

    Raises TypeError or ValueError for anything else.
    """
    check_device(device)
    if not isinstance(samples, torch.Tensor):
        device = "cpu" if device is None else device  # not torch's default device
        if isinstance(samples, (str, bytes, dict)) or not (
            hasattr(samples, "__len__") and hasattr(samples, "__getitem__")
        ):
            raise TypeError(
                f"samples must be a tensor, an array, a list or a range of integers, got {samples!r}{_meant(samples)}"
            )
        if isinstance(samples, range):
            return _range_indices(samples, device)
        values = as_tuple("samples", samples, len(samples), "integers")
        samples = torch.tensor([_signed64("samples", v) for v in values], dtype=torch.int64, device=device)
    elif device is not None and not _same_device(samples.device, torch.device(device)):
        raise ValueError(
            f"samples are on {samples.device} but device={device} was asked for; move them first"
        )
    if samples.dtype not in INTEGERS:
        raise TypeError(f"samples must be integers, such as int64, got {samples.dtype}")
    check_tensors(samples=samples)
    if samples.dim() != 1:
        raise ValueError(f"samples must have shape [B], got {tuple(samples.shape)}")
    return samples if samples.dtype == torch.int64 else samples.to(torch.int64)


def _meant(samples) -> str:
    """What to write for one integer."""
    if not isinstance(samples, int) or isinstance(samples, bool):
        return ""
    return f"; [{samples}] is the mask of sample {samples}, batch_size={samples} with step=0 the first {samples} masks"


def _range_indices(samples: range, device) -> torch.Tensor:
    """A range as a tensor, without a Python integer for each index: it may be long. Sums wrap as uint64 do."""
    if not samples:
        return torch.empty(0, dtype=torch.int64, device=device)
    first, last = _signed64("samples", samples[0]), _signed64("samples", samples[-1])
    count = (samples[-1] - samples[0]) // samples.step + 1  # not len(), which is limited
    if count > 2**62:
        raise ValueError(f"a batch of {count} samples cannot be")
    if count == 1:
        return torch.tensor([last], dtype=torch.int64, device=device)
    return torch.arange(count, device=device) * signed64(samples.step) + first


def _same_device(found: torch.device, asked: torch.device) -> bool:
    """ "cuda" is any GPU, "cuda:1" just that one."""
    return found.type == asked.type and asked.index in (None, found.index)


def as_seed(seed, device) -> torch.Tensor:
    """Return a seed, an integer or an int64 or uint64 tensor of one element, as an int64 tensor of the same bits.

    Raises TypeError or ValueError for what is no seed.
    """
    if isinstance(seed, torch.Tensor):
        check_tensors(seed=seed)
        return seed.view(torch.int64) if seed.dtype == torch.uint64 else seed
    value = _signed64("seed", seed)
    return torch.full((), value, dtype=torch.int64, device=device)


def _signed64(name: str, value) -> int:
    """A uint64, or an int64, as the int64 of the same bits."""
    return signed64(as_int(name, value, -(2**63), 2**64 - 1))
