# SPDX-License-Identifier: Apache-2.0
"""What the fuzzing says at its end."""

from __future__ import annotations

import pytest

from .examples import tried


@pytest.fixture(scope="session", autouse=True)
def report():
    """How many examples were right, and how many refused; shown by pytest -s."""
    yield
    print("\n" + "\n".join(f"{name}: {count}" for name, count in sorted(tried.items())))
