# SPDX-License-Identifier: Apache-2.0
"""Lets pages link to files outside of docs/, as ../bench/results/cpu.json, which a reader of the repository can follow.

Such a file is copied into the site, below files/, and the link is made to point there. One that does not exist is left
as it is, and fails the build. The changelog of the repository is the page of that name.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\((\.\./[^)#\s]+)")


def on_files(files, config):
    for page in list(files.documentation_pages()):
        for target in outside(page):
            if files.get_file_from_path(copy_of(target)) is None:
                source = str(ROOT / target)
                files.append(File.generated(config, copy_of(target), abs_src_path=source))
    return files


def on_page_markdown(markdown, page, config, files):
    if page.file.src_uri == "changelog.md":
        return (ROOT / "CHANGELOG.md").read_text().replace("](docs/", "](")
    found = outside(page.file)

    def moved(match: re.Match) -> str:
        target = resolved(page.file, match[1])
        return f"]({relative(page.file, copy_of(target))}" if target in found else match[0]

    return LINK.sub(moved, markdown)


def outside(page: File) -> set[str]:
    """Files of the repository that a page links to and docs/ does not hold, as paths from its root."""
    targets = {resolved(page, link) for link in LINK.findall(page.content_string)}
    return {t for t in targets if not t.startswith(("docs/", "..")) and (ROOT / t).is_file()}


def resolved(page: File, link: str) -> str:
    return posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.src_uri), link))


def copy_of(target: str) -> str:
    """Where the site has it. Tables of results become pages; other text stays text, which browsers show."""
    shown = target.startswith("bench/results/")
    text = not shown and target.endswith((".md", ".py", ".cpp", ".h", ".cu"))
    return f"files/{target}.txt" if text else f"files/{target}"


def relative(page: File, target: str) -> str:
    return os.path.relpath(target, posixpath.dirname(page.src_uri) or ".")
