# SPDX-License-Identifier: Apache-2.0
"""What a release must and must not hold: python .ci/check_dist.py FOLDER, of one .tar.gz and one wheel or more."""

import re
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
LARGEST_SDIST = 3 << 20  # pictures of the documentation stay out
LARGEST_WHEEL = 8 << 20  # with machine code for all architectures
IN_SDIST = ("setup.py", "pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md",
            "csrc/api.cpp", "kernels/color.py", "smnoise/contract/kat.json", "tests/conftest.py")  # fmt: skip
IN_WHEEL = ("smnoise/libsmnoise_cpu.so", "smnoise/contract/kat.json", "smnoise/csrc/kernels.cu", "smnoise/py.typed",
            "smnoise/kernels/color.py")  # fmt: skip


def faults(folder: Path) -> list[str]:
    """What is wrong, in sentences."""
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    written = re.search(r'^__version__ = "(.*)"', (ROOT / "smnoise/__init__.py").read_text(), re.MULTILINE)[1]
    cited = re.search(r"^version: (.*)", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1]
    found = [f"{what} says version {v}, pyproject.toml {version}"
             for what, v in (("smnoise/__init__.py", written), ("CITATION.cff", cited)) if v != version]  # fmt: skip
    if f"## {version}" not in (ROOT / "CHANGELOG.md").read_text():
        found.append(f"CHANGELOG.md has no section {version}")
    archives, wheels = list(folder.glob("*.tar.gz")), list(folder.glob("*.whl"))
    if len(archives) != 1 or not wheels:
        return [*found, f"expected one .tar.gz and a wheel, got {[p.name for p in (*archives, *wheels)]}"]
    with tarfile.open(archives[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    found += _missing(archives[0], names, IN_SDIST, LARGEST_SDIST)
    for wheel in wheels:
        if not re.fullmatch(rf"smnoise-{re.escape(version)}-py3-none-manylinux\S+\.whl", wheel.name):
            found.append(f"{wheel.name}: a wheel of {version} for any Python 3 on manylinux was expected")
        names = set(zipfile.ZipFile(wheel).namelist())
        found += _missing(wheel, names, IN_WHEEL, LARGEST_WHEEL)
        found += [
            f"{wheel.name} holds {name}"
            for name in names
            if name.startswith(("tests/", "bench/", "kernels/"))
        ]
    return found


def _missing(path: Path, names: set[str], wanted: tuple[str, ...], largest: int) -> list[str]:
    found = [f"{path.name} lacks {name}" for name in wanted if name not in names]
    if path.stat().st_size > largest:
        found.append(f"{path.name} has {path.stat().st_size} bytes, at most {largest} were expected")
    return found


if __name__ == "__main__":
    wrong = faults(Path(sys.argv[1]))
    print("\n".join(wrong) or "what a release holds is as it should be")
    sys.exit(bool(wrong))
