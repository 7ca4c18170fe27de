# SPDX-License-Identifier: Apache-2.0
"""What was probably meant by a name that there is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


def meant(name: object, known: Iterable[str]) -> list[str]:
    """Up to three names that are like this one: those that begin with it first, then what is spelled alike, whatever
    the case, dashes and underscores.

    >>> meant("videomae", ["mae", "videomae-tube", "videomaev2-decoder"])
    ['videomae-tube', 'videomaev2-decoder']
    >>> meant("Green_3D", ["green-2d", "green-3d"])[0]
    'green-3d'
    """
    if not isinstance(name, str) or not name:
        return []
    plain = {_plain(other): other for other in known}
    wanted = _plain(name)
    first = [other for text, other in plain.items() if text.startswith(wanted)]
    alike = [plain[text] for text in difflib.get_close_matches(wanted, plain, n=3, cutoff=0.6)]
    return list(dict.fromkeys([*first, *alike]))[:3]


def hint(name: object, known: Iterable[str]) -> str:
    """The end of a sentence: ", did you mean A or B?", or nothing.

    >>> hint("tubes", ["tube", "random"])
    ', did you mean tube?'
    """
    names = meant(name, known)
    return (
        f", did you mean {' or '.join([', '.join(names[:-1]), names[-1]] if names[1:] else names)}?"
        if names
        else ""
    )


def _plain(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "").replace(" ", "")


class UnknownName(KeyError):
    """A KeyError whose text is a sentence, not the repr of one."""

    def __str__(self) -> str:
        return str(self.args[0])


class Named(dict[str, T], Generic[T]):
    """Things by name. Asked for a name that there is not, it says which ones there are, and which is like it."""

    def __init__(self, kind: str, things: dict[str, T]):
        super().__init__(things)
        self.kind = kind

    def __missing__(self, name: object) -> T:
        raise UnknownName(
            f"there is no {self.kind} {name!r}{hint(name, self) or '.'} There are {', '.join(self)}"
        )

    def __reduce__(self):
        return Named, (self.kind, dict(self))
