# SPDX-License-Identifier: Apache-2.0
"""What a medium's files are called and how they are known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Medium:
    """What is looked for: its word in messages ("video") and the suffixes of its files, in lower case."""

    word: str
    suffixes: frozenset[str]
    in_tars: bool = False
    """Whether its files are read in tar files too."""

    @property
    def looked_for(self) -> str:
        """The suffixes of the medium's files, for messages."""
        return ", ".join(sorted(self.suffixes))

    def has(self, path: Path) -> bool:
        """Whether a path's suffix is one of this medium."""
        return path.suffix.lower() in self.suffixes
