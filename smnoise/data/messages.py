# SPDX-License-Identifier: Apache-2.0
"""What is to be said of files while a run goes on: of each once, however many clips meet it."""

from __future__ import annotations

from collections.abc import Iterable


class FileMessage(str):
    """A message about a file.

    file: its path, under which messages are the same, whatever their words.
    served: whether its clips are read nevertheless, so that it does not count as skipped.
    """

    file: str
    served: bool

    def __new__(cls, text: str, file: object, served: bool = False) -> FileMessage:
        message = super().__new__(cls, text)
        message.file, message.served = str(file), served
        return message

    def __reduce__(self) -> tuple:  # for workers and processes, which send pickles
        return FileMessage, (str(self), self.file, self.served)


def is_served(message: str) -> bool:
    """Whether the file of a message is read nevertheless."""
    return isinstance(message, FileMessage) and message.served


def unheard(messages: Iterable[str], told: set[tuple[str, bool]]) -> list[str]:
    """Return, sorted, the messages about files of which nothing was said yet; `told` remembers them."""
    new = []
    for message in sorted(messages):
        about = (message.file if isinstance(message, FileMessage) else message), is_served(message)
        if about not in told:
            told.add(about)
            new.append(message)
    return new


def as_event(message: str, which: str) -> str:
    """Write a message as a line of the log; `which` says of what files it is, such as (a test file)."""
    return f"{message} {which}" if is_served(message) else f"skipped: {message} {which}"
