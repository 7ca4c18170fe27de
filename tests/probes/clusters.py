# SPDX-License-Identifier: Apache-2.0
"""Features of classes that a probe can tell, more or less."""

import torch


def clusters(n, classes=3, width=8, spread=1.0, seed=0):
    """Rows around a centre for each class; the centres are those of every seed."""
    centres = 2 * torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    return centres[y] + spread * torch.randn(n, width, generator=generator), y
