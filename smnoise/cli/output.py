# SPDX-License-Identifier: Apache-2.0
"""What commands say: results on stdout, for people or as JSON; progress on stderr, and only on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table


def print_json(value, indent: int | None = 2) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=indent))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """A table as wide as it needs where stdout is no terminal, so that nothing is cut off in a file."""
    console = _Console() if sys.stdout.isatty() else _Console(width=200)
    table = Table(
        *columns, title=title, title_justify="left", box=None, pad_edge=False, show_header=any(columns)
    )
    for row in rows:
        table.add_row(*row)
    console.print(table)


class _Console(Console):
    """Says that a reader has gone as print does; rich's own ends the program with status 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A function to be called with the amount of work done since the last call; it moves a bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda amount: bar.advance(task, amount)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A sign of life where nobody knows how much there is to do."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(
        *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        bar.add_task(what, total=None)
        yield
