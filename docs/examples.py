# SPDX-License-Identifier: Apache-2.0
"""Examples of docstrings as blocks of code: Markdown would read >>> as quotations."""

from __future__ import annotations

import re
from textwrap import dedent

import griffe

EXAMPLE = re.compile(r"^([ ]*)>>> .*(?:\n(?![ ]*$).*)*", re.M)


class Examples(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(
                lambda found: f"```pycon\n{dedent(found[0])}\n```", obj.docstring.value
            )
