# SPDX-License-Identifier: Apache-2.0
"""The `smnoise` command. Each subcommand is a module, imported only when it is the one that is asked for.

Exit codes: 0 all well; 1 a check failed; 2 the command, a file or the machine cannot do it; 130 after Ctrl-C and 143
after SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from types import FrameType

from .. import install
from ..nearest import hint
from ..programs import drop_output
from .commands import COMMANDS, INTERRUPTED, TERMINATED, TRAINERS, WRONG_USE

BEGIN = """\
  smnoise list                                   the masks there are, with their counts
  smnoise sample green-3d                        one mask of a 16-frame clip, drawn with letters
  smnoise viz video --out pictures               masks over a real clip: a GIF and a film strip
  smnoise report optim-blue --grid 64 8 --out pictures/optim-blue
  smnoise doctor"""


def usage() -> str:
    """Return the text of `smnoise --help`."""
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return (
        "usage: smnoise COMMAND ...        smnoise COMMAND --help\n\n"
        "Structured-noise masks for masked autoencoders on video and audio, bit for bit the same everywhere.\n\n"
        f"{lines}\n\nTo begin with:\n{BEGIN}\n\n"
        "Most take --json. Exit codes: 0 well, 1 a check failed, 2 wrong use, 130 and 143 stopped by a signal."
    )


def main(arguments: list[str] | None = None) -> int:
    """Run a command line, by default that of the program, and return its exit code."""
    try:
        if arguments is None:
            arguments = sys.argv[1:]
            _fill_closed_streams()
            signal.signal(signal.SIGTERM, _terminated)
        code = _run(arguments)
        sys.stdout.flush()  # here, and not at exit, where a reader that has gone would be an error
        return code
    except KeyboardInterrupt:
        print("smnoise: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        drop_output()  # whoever read it has had enough of it
        return 0
    except OSError as error:  # of writing to stdout, such as to a full disk
        print(f"smnoise: {error}", file=sys.stderr)
        drop_output()
        return WRONG_USE


def _fill_closed_streams() -> None:
    """Of a stream that is closed from the start Python has None, and print(file=None) is the other one."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)  # files that are being written are taken away on the way out


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] in ("-V", "--version"):
        from .. import __version__

        print(__version__)
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        print(
            f"smnoise: no command {name!r}{hint(name, COMMANDS) or '.'} Commands: {', '.join(COMMANDS)}",
            file=sys.stderr,
        )
        return WRONG_USE
    if name in TRAINERS:
        from .trainers import forward

        return forward(name, rest)
    return _own(name, rest)


def _own(name: str, arguments: list[str]) -> int:
    import tyro

    module = import_module(f".{name}", __name__)
    # tyro leaves with 2 for a wrong command line and 0 after --help.
    try:
        options = tyro.cli(
            module.Options,
            prog=f"smnoise {name}",
            description=module.__doc__,
            args=arguments,
            config=(
                tyro.conf.OmitArgPrefixes,
                tyro.conf.OmitSubcommandPrefixes,
                tyro.conf.FlagCreatePairsOff,
            ),
        )
    except SystemExit as leaving:
        return int(leaving.code or 0)
    try:
        return module.run(options)
    except BrokenPipeError:
        raise
    except MemoryError as error:
        print(f"smnoise {name}: there is not enough memory for that {error}".rstrip(), file=sys.stderr)
        return WRONG_USE
    except ModuleNotFoundError as error:
        print(f"smnoise {name}: {error.name} is missing: {install.command('train')}", file=sys.stderr)
        return WRONG_USE
    except (TypeError, ValueError, OSError, RuntimeError, ImportError) as error:
        print(f"smnoise {name}: {error}", file=sys.stderr)
        return WRONG_USE
