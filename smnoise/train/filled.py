# SPDX-License-Identifier: Apache-2.0
"""The type of settings that one may leave out, and that a Config fills in from its preset as it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Optional, TypeVar

T = TypeVar("T")
LEFT_OUT: Any = None

if TYPE_CHECKING:
    Filled = Annotated[T, "LEFT_OUT until the Config is made"]
else:
    Filled = Optional  # what the command line is built from
