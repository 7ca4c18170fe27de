# SPDX-License-Identifier: Apache-2.0
"""What can be checked of docstrings by a program: they are there, they are sentences, and arrays have shape and dtype.

What a function refers to in code type, such as "arguments as in `color_mask`", may say it in its place.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

import smnoise

# Still to be brought to this.
LATER = {"smnoise.models.cavmae", "smnoise.sigmas", "smnoise.train.audiovisual"}
FOLDER = Path(smnoise.__file__).parent
MODULES = sorted(
    ".".join(("smnoise", *path.relative_to(FOLDER).with_suffix("").parts)).removesuffix(".__init__")
    for path in FOLDER.rglob("*.py")
    if path.name != "__main__.py" and not {"demos", "backends"} & set(path.relative_to(FOLDER).parts)
)
MODULES = [name for name in MODULES if name not in LATER]
# The entries of programs, whose modules' heads are what a person reads.
ENTRIES = {"main", "run"}
# Words with which no sentence begins, but many a note to oneself.
FRAGMENTS = re.compile(r"(Of|Those|That of|Theirs|Ours|By|As|The same|So|For|On|See|Also|Within|Whatever)\b")
SHAPE = re.compile(r"\[[^\]\[]*\]|\bshapes?\b|\bscalars?\b|\bone element\b")
DTYPE = re.compile(r"\b(u?int(8|16|32|64)|float(16|32|64)?s?|floating|bool|booleans?|integers?|dtypes?)\b")
REFERENCE = re.compile(r"`([\w.]+)(?:\(\))?`")


class Public(NamedTuple):
    """A function, class, method or property, and where it stands."""

    name: str
    value: object
    owner: type | None

    @property
    def doc(self) -> str:
        """Its docstring, or that of the method that it replaces."""
        attribute = self.name.rpartition(".")[2]
        return (
            inspect.getdoc(getattr(self.owner, attribute)) if self.owner else inspect.getdoc(self.value)
        ) or ""


def own(value: object) -> object:
    """The function behind a property, a class method, a cache or a context manager."""
    if isinstance(value, property):
        value = value.fget
    if isinstance(value, cached_property):
        value = value.func
    return inspect.unwrap(getattr(value, "__func__", value))


def members(module: str) -> Iterator[Public]:
    """All that is public in a module and was written there."""
    for name, value in vars(import_module(module)).items():
        there = own(value)
        if name.startswith("_") or getattr(there, "__module__", None) != module:
            continue
        if inspect.isclass(there) or inspect.isfunction(there):
            yield Public(f"{module}.{name}", there, None)
        if inspect.isclass(there):
            for attribute, method in vars(there).items():
                function = own(method)
                written = inspect.isfunction(function) and function.__module__ == module
                if written and not attribute.startswith("_") and function.__name__ != "<lambda>":
                    yield Public(f"{module}.{name}.{attribute}", function, there)


@cache
def everything() -> dict[str, list[Public]]:
    """What is public, by module; nothing of an adapter whose other package is not there or does not load."""
    found: dict[str, list[Public]] = {}
    for module in MODULES:
        try:
            found[module] = list(members(module))
        except (ImportError, RuntimeError):
            assert module.startswith("smnoise.adapters."), module
            found[module] = []
    return found


@cache
def docs_by_name() -> dict[str, list[str]]:
    """Docstrings by the last word of their name, and by the last two."""
    found = defaultdict(list)
    for public in (one for module in MODULES for one in everything()[module]):
        words = public.name.split(".")
        found[words[-1]].append(public.doc)
        found[".".join(words[-2:])].append(public.doc)
    return found


def is_array(annotation: str) -> bool:
    """Whether an annotation is of an array, of a tuple of them, or of one that may be None."""

    def within(node: ast.expr) -> bool:
        match node:
            case ast.BinOp():
                return within(node.left) or within(node.right)
            case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=parts)):
                return any(within(part) for part in parts)
            case ast.Attribute(attr=name) | ast.Name(id=name):
                return name in ("Tensor", "ndarray")
        return False

    return within(ast.parse(annotation, mode="eval").body)


def arrays(function: object) -> list[str]:
    """The arguments that must be arrays, and "return" where an array comes back."""
    found = []
    for name, annotation in getattr(function, "__annotations__", {}).items():
        mixed = re.search(r"\b(int|Sequence|str|float)\b", str(annotation)) and name != "return"
        if isinstance(annotation, str) and not mixed and is_array(annotation):
            found.append(name)
    return found


def says_of_arrays(doc: str, depth: int = 2) -> bool:
    """Whether a docstring, or one that it refers to, says shape and dtype."""
    if SHAPE.search(doc) and DTYPE.search(doc):
        return True
    names = [name.split(".") for name in REFERENCE.findall(doc)]
    referred = [
        doc for words in names for doc in docs_by_name()[".".join(words[-2:])] + docs_by_name()[words[-1]]
    ]
    return depth > 0 and any(says_of_arrays(other, depth - 1) for other in referred)


def test_the_rules_themselves():
    assert all(map(is_array, ("Tensor", "torch.Tensor | None", "tuple[np.ndarray, int]")))
    assert not any(map(is_array, ("dict[str, Tensor]", "Callable[[Tensor], Tensor]")))
    assert says_of_arrays("Give float32 [B, L].")
    assert says_of_arrays("Arguments are as in `color_mask`.")
    assert not any(map(says_of_arrays, ("Give a tensor.", "See `no_such_name`.")))
    assert FRAGMENTS.match("Of the compiler.")
    assert not FRAGMENTS.match("Offsets of the tokens.")


@pytest.mark.parametrize("module", MODULES)
def test_what_is_public_is_described(module):
    wrong = []
    for name, value, owner in everything()[module]:
        doc = Public(name, value, owner).doc
        if name.rpartition(".")[2] in ENTRIES and owner is None:
            continue
        if not doc or (inspect.isclass(value) and doc.startswith(f"{value.__name__}(")):
            wrong.append(f"{name} has no docstring")
        elif FRAGMENTS.match(doc) or not re.search(r"[.:!?`)]$", doc.split("\n\n")[0]):
            wrong.append(f"{name} does not begin with a sentence: {doc.splitlines()[0]}")
        if inspect.isfunction(value) and (given := arrays(value)) and not says_of_arrays(doc):
            wrong.append(f"{name} does not say shape and dtype of {', '.join(given)}")
    assert not wrong, "\n".join(wrong)
