# SPDX-License-Identifier: Apache-2.0
"""What the models share: sizes, rows picked by number, a run through blocks, checks of masks, first weights.

Letters: B batch, L tokens, N tokens picked.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..masks import MaskBatch

MASK_OUTPUTS = "ids_keep,ids_mask"
"""What the models read of masks."""


@dataclass(frozen=True)
class Size:
    """Widths, depths and heads of encoder and decoder."""

    width: int
    depth: int
    heads: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int
    mlp_ratio: float = 4.0
    """Hidden units of all MLPs, as a multiple of the width and rounded down. VideoMAEv2's giant has 48 / 11."""

    def numbers(self) -> dict[str, int | float]:
        """The fields by name, without a usual ratio, which earlier versions do not know."""
        found = asdict(self)
        if self.mlp_ratio == 4:
            del found["mlp_ratio"]
        return found


def find_size(name: str, sizes: dict[str, Size]) -> Size:
    """Return the size of that name. Raises ValueError where there is none."""
    if name not in sizes:
        raise ValueError(f"size must be one of {', '.join(sizes)}, or a Size; got {name!r}")
    return sizes[name]


def gather_tokens(x: Tensor, ids: Tensor) -> Tensor:
    """Gather the rows `ids`, int64 or int32 [B, N], of x [B, L, ...], of any dtype, as [B, N, ...]."""
    index = ids.long().reshape(*ids.shape, *(1,) * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])
    return x.gather(1, index)


def run_blocks(blocks: nn.ModuleList, x: Tensor, *constants, recompute: bool) -> Tensor:
    """Send x, float [B, L, width], through blocks, each called as block(x, *constants). With `recompute` their
    activations are dropped, and computed anew in the backward pass.
    """
    for block in blocks:
        x = checkpoint(block, x, *constants, use_reentrant=False) if recompute else block(x, *constants)
    return x


def check_masks(masks: MaskBatch, grid: tuple[int, int, int], batch_size: int, inputs: str) -> None:
    """Raise ValueError unless there is one mask for each input, for the inputs' grid."""
    if masks.grid != grid:
        raise ValueError(f"masks are for grid {masks.grid}, but the {inputs} have grid {grid}")
    if masks.batch_size != batch_size:
        raise ValueError(f"{masks.batch_size} masks for {batch_size} {inputs}")


def init_linears(module: nn.Module) -> None:
    """Give every linear layer within a module Xavier-uniform weights and a zero bias."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
