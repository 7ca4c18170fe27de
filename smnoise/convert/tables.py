# SPDX-License-Identifier: Apache-2.0
"""Tables of positions in foreign files: we compute ours, so theirs are checked, and written where they are expected.

Letters: L tokens, width of the encoder or decoder.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..models.audiomae import sinusoid_2d
from ..models.videomae import sinusoid
from .architecture import AnyConfig, AudioConfig, JointConfig, VideoConfig

# Names of the encoder's and the decoder's table.
NAMES = {
    ("videomae", "official"): ("encoder.pos_embed", "pos_embed"),
    ("videomae", "huggingface"): ("videomae.embeddings.position_embeddings", "position_embeddings"),
    ("audiomae", "official"): ("pos_embed", "decoder_pos_embed"),
}
TOLERANCE = 2e-3  # half precision; entries of a wrong table are off by up to 2


def computed(config: AnyConfig, layout: str) -> dict[str, Tensor]:
    """Return the tables of positions by the names that they have in a layout: float32 [1, L, width], for an AudioMAE
    [1, 1 + L, width] with zeros for the class token.
    """
    if isinstance(config, JointConfig) or (config.model, layout) not in NAMES:
        return {}
    tables = [table_of(config, width) for width in (config.size.width, config.size.decoder_width)]
    return dict(zip(NAMES[config.model, layout], tables, strict=True))


def table_of(config: VideoConfig | AudioConfig, width: int) -> Tensor:
    """Compute the fixed positions of a model at a width: float32 [1, L, width], for an AudioMAE [1, 1 + L, width] with
    zeros for the class token.
    """
    if config.model == "videomae":
        t, h, w = config.grid
        return sinusoid(t * h * w, width)[None]
    grid = config.grid[::-1] if config.positions == "published" else config.grid
    table = sinusoid_2d(grid, width)
    return torch.cat([torch.zeros(1, width), table])[None]


def check(found: Tensor, name: str, config: AnyConfig, width: int) -> None:
    """Raise CheckpointError unless the table of a file, `found`, is the computed one up to half precision: floats [1,
    L, width], for an AudioMAE [1, (1 +) L, width].
    """
    assert not isinstance(config, JointConfig)  # of which `computed` names no tables
    want = table_of(config, width)
    if config.model == "audiomae" and found.dim() == 3 and found.shape[1] == want.shape[1] - 1:
        want = want[:, 1:]
    if found.shape != want.shape:
        raise CheckpointError(
            f"{name} is {list(found.shape)}, but grid {config.grid} has {list(want.shape)}; "
            "name the grid that the model was trained with"
        )
    if not torch.allclose(found.float(), want, rtol=0, atol=TOLERANCE):
        raise CheckpointError(
            f"{name} is not the fixed sinusoid of grid {config.grid}"
            + (f" in its {config.positions!r} order" if config.model == "audiomae" else "")
            + "; smnoise's models compute their positions, so weights trained with others cannot be used"
        )


def positions_kind(found: Tensor, grid: tuple[int, int], width: int) -> str | None:
    """Tell which order AudioMAE's table, floats [1, (1 +) L, width], is in: "right", "published", or neither."""
    tokens = grid[0] * grid[1]
    if found.dim() != 3 or found.shape[1] not in (tokens, tokens + 1) or found.shape[2] != width:
        return None
    rows = found[0, -tokens:].float()
    for kind, shape in (("right", grid), ("published", grid[::-1])):
        if torch.allclose(rows, sinusoid_2d(shape, width), rtol=0, atol=TOLERANCE):
            return kind
    return None
