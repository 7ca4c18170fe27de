# SPDX-License-Identifier: Apache-2.0
"""What torchrun says of the processes that train together, in the environment."""

from __future__ import annotations

import os

LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun sets


def processes() -> int:
    """How many processes train together: 1, but under torchrun."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in LAUNCHED) else 1


def attempt() -> int:
    """How often torchrun started this command before, because a process died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
