# SPDX-License-Identifier: Apache-2.0
"""Spectrograms for a small AudioMAE."""

import pytest
import torch


@pytest.fixture
def spectrograms():
    return torch.randn(2, 24, 12, generator=torch.Generator().manual_seed(1))
