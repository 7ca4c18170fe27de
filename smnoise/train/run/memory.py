# SPDX-License-Identifier: Apache-2.0
"""Training on the CPU: freed memory stays with the process.

glibc gives large blocks back to the system as soon as they are freed, and every step of training then waits for the
system to hand out and clear the same pages again: measured, a fifth of a step. A GPU's memory is torch's own affair.
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory, for the rest of the process; whether it knows how (glibc does)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST) and mallopt(M_TRIM_THRESHOLD, LARGEST))
