# SPDX-License-Identifier: Apache-2.0
"""What checkpoints hold beside their tensors, by the names that their pickles ask for.

Programs save their settings and their optimiser beside the weights: paths, dates, NumPy numbers, configs of many
packages. None of that is needed, so none of it is built: each such name is given a class that takes anything and keeps
nothing. What is a function, rather than a class of values, is refused, although a stand-in could do no harm either:
a file that asks for os.system is not to be trusted with weights.
"""

from __future__ import annotations

import re
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict


class Inert:
    """Stands for any object: takes whatever that is made of, and keeps nothing."""

    def __new__(cls, *_):
        return super().__new__(cls)

    def __init__(self, *_):
        pass

    def __setstate__(self, _):
        pass


class Keyed:
    """Stands for dicts of other types. torch fills only plain ones."""

    def __new__(cls, *_):
        return OrderedDict()


class Listed:
    """Stands for lists of other types, such as deque."""

    def __new__(cls, *_):
        return []


# What tensors and the containers around them are made of; torch brings it along, and refuses what it does not know.
# bytearray is not among them: it may be told to take any amount of memory.
TENSORS = re.compile(
    r"collections\.(OrderedDict|Counter)|_codecs\.encode|builtins\.(set|complex)"
    r"|torch\.(cuda\.)?\w+(Storage|Tensor)|torch\.storage\.\w+Storage|torch\.(Size|device|Tensor)"
    r"|torch\.(b?float|complex|q?u?int|bool|half|double|long|short)\w*"
    r"|torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_from_type_v2"
    r"|torch\.nn\.parameter\.Parameter|torch\.serialization\._get_layout"
)
# Of Python, NumPy and torch these alone. numpy.core became numpy._core in 2.0; pathlib was a package in Python 3.13.
VALUES = re.compile(
    r"argparse\.Namespace|types\.SimpleNamespace|collections\.(defaultdict|deque|UserDict)"
    r"|pathlib(\._local)?\.(Pure)?(Posix|Windows)?Path"
    r"|datetime\.(date|datetime|time|timedelta|timezone)|decimal\.Decimal|fractions\.Fraction|uuid\.UUID"
    r"|uuid\.SafeUUID|random\.Random|typing\.\w+|_?operator\.getitem|copyreg\._reconstructor"
    r"|re\._compile|logging\.getLogger"
    r"|builtins\.(bool|int|float|str|bytes|list|dict|tuple|frozenset|object|type|range|slice|Ellipsis|NotImplemented)"
    r"|numpy\.(core|_core)\.multiarray\.(scalar|_reconstruct)|numpy\.(core|_core)\.numeric\._frombuffer"
    r"|numpy\.(ndarray|dtype|dtypes\.\w+DType)"
    r"|numpy\.(bool|u?int|u?byte|u?short|u?intc|u?longlong|u?long|float|half|single|double|longdouble"
    r"|complex|csingle|cdouble|clongdouble|str|bytes|void|object|datetime|timedelta)\d*_?"
    r"|numpy\.random\._pickle\.__(randomstate|generator|bit_generator)_ctor"
    r"|numpy\.random\.(\w+\.)?[A-Z]\w*|numpy\.random\.bit_generator\.__pyx_unpickle_\w+"
    r"|torch\.optim\.(\w+\.)*[A-Z]\w*"
)
OWN = {"torch", "torchvision", "torchaudio", "numpy", "smnoise"} | sys.stdlib_module_names


def full_name(module: str, name: str) -> str:
    """Return the name of a pickle's global, which may be of Python 2, as torch reads it."""
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"


def is_value(name: str) -> bool:
    """Whether a global of that full name is a class of values, for which a stand-in will do.

    Of packages other than Python, NumPy and torch (their configs, and anybody's own) it is what is called as classes
    are: with a capital.
    """
    own = name.partition(".")[0] in OWN
    return bool(VALUES.fullmatch(name) if own else re.fullmatch(r"\w+(\.\w+)*\.[A-Z]\w*", name))


def stand_in(name: str, kind: type = Inert) -> type:
    """A class of that kind for a global; it is called as that is, so that torch's errors name it."""
    return type(name, (kind,), {})
