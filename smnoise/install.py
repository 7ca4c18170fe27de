# SPDX-License-Identifier: Apache-2.0
"""The command that installs more of this package, as it was installed: from a clone, a wheel, or an index."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlparse

ROOT = Path(__file__).parent.parent


def requirement(extra: str = "") -> str:
    """What pip is to be given for smnoise with an extra, in quotes for the shell.

    Of a clone its folder; of a wheel or an archive its address; else, as from an index, the name.
    """
    brackets = f"[{extra}]" if extra else ""
    try:
        text = distribution("smnoise").read_text("direct_url.json")  # PEP 610
        told = json.loads(text) if text else {}
    except PackageNotFoundError:
        told = {"url": ROOT.as_uri(), "dir_info": {}} if (ROOT / "pyproject.toml").is_file() else {}
    except ValueError:
        told = {}
    url = told.get("url", "")
    if "dir_info" in told:
        folder = Path(unquote(urlparse(url).path))
        # A clone that was moved or thrown away after the install.
        return (
            f"'{folder}{brackets}'"
            if (folder / "pyproject.toml").is_file()
            else f"'.{brackets}'  # in a clone"
        )
    if "vcs_info" in told:
        url = f"{told['vcs_info'].get('vcs', 'git')}+{url}"
    return f"'smnoise{brackets} @ {url}'" if url else f"'smnoise{brackets}'"


def command(extra: str = "", options: str = "") -> str:
    """pip install ..., for a message. options: of pip, with a space behind them."""
    return f"pip install {options}{requirement(extra)}"
