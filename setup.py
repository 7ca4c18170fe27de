# SPDX-License-Identifier: Apache-2.0
"""Builds the CPU library: C++17 with a C ABI, no torch, no nvcc. Without a compiler the install goes on.

SMNOISE_CUDA_ARCHITECTURES=80,90 also puts the CUDA kernels, compiled by nvcc, into the wheel, "all" for every
architecture below; without it they are compiled at first use.
"""

import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools < 70.1
    from wheel.bdist_wheel import bdist_wheel

X86 = platform.machine().lower() in ("x86_64", "amd64")
# Contraction off: a fused multiply-add would change masks. -O2: GCC 12 miscompiles Philox loops at -O3.
FLAGS = ["-std=c++17", "-O2", "-ffp-contract=off", "-fvisibility=hidden", "-Wall", "-Wextra"]
FLAGS += os.environ.get("SMNOISE_CXXFLAGS", "").split()
ISA_FLAGS = {
    "csrc/isa_avx2.cpp": ["-mavx2"],
    # GCC 12's own AVX-512 header trips its uninitialised-variable warning.
    "csrc/isa_avx512.cpp": [
        *("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"),
        *("-Wno-uninitialized", "-Wno-maybe-uninitialized"),
    ],
}
SOURCES = ["csrc/api.cpp", "csrc/isa_portable.cpp", "csrc/isa_block.cpp"] + (list(ISA_FLAGS) if X86 else [])
CUDA_SOURCES = ["kernels.cu", "contract.h", "plan.h", "block.h", "threshold_block.h", "color_block.h"]
CUDA_SOURCES += ["gaussian_block.h", "optim_blue.h", "optim_blue_block.h", "strategy.h"]
CUDA_SOURCES += [
    "strategy_block.h",
    "words_block.h",
    "points.h",
    "points_block.h",
    "ragged.h",
    "ragged_block.h",
]


CUDA_ARCHITECTURES = ("75", "80", "86", "89", "90", "100", "120")


def cuda_architectures():
    """Those that SMNOISE_CUDA_ARCHITECTURES asks for."""
    asked = [a.strip() for a in os.environ.get("SMNOISE_CUDA_ARCHITECTURES", "").split(",") if a.strip()]
    if wrong := [a for a in asked if a != "all" and not a.isdecimal()]:
        sys.exit(
            f"SMNOISE_CUDA_ARCHITECTURES must be numbers with commas between, such as 80,90, or all; got {wrong}"
        )
    return list(dict.fromkeys(n for a in asked for n in (CUDA_ARCHITECTURES if a == "all" else (a,))))


def precompile_cuda(folder, architecture):
    """kernels_sm_NN.cubin: the sha256 of the sources, a new line, the machine code (smnoise/backends/nvrtc.py)."""
    path = Path(folder) / f"kernels_sm_{architecture}.cubin"
    digest = hashlib.sha256(b"".join(Path("csrc", name).read_bytes() for name in CUDA_SOURCES)).hexdigest()
    options = [f"-arch=sm_{architecture}", "-std=c++17", "-fmad=false", "-cubin", "-o", str(path)]
    subprocess.run([os.environ.get("NVCC", "nvcc"), *options, "csrc/kernels.cu"], check=True)
    path.write_bytes(digest.encode() + b"\n" + path.read_bytes())


class BuildLibrary(build_ext):
    """Compiles each source with its own instruction set; the file name carries no Python version."""

    def run(self):
        super().run()
        folder = os.path.dirname(self.get_ext_fullpath("smnoise.libsmnoise_cpu"))
        for architecture in cuda_architectures():
            precompile_cuda(folder, architecture)

    def get_ext_filename(self, fullname):
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extension(self, ext):
        define = [("SMN_X86", None)] if X86 else []
        objects = []
        for source in ext.sources:
            flags = FLAGS + ISA_FLAGS.get(source, [])
            objects += self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                macros=define,
                extra_postargs=flags,
                depends=ext.depends,
            )
        path = self.get_ext_fullpath(ext.name)
        extra = os.environ.get("SMNOISE_LDFLAGS", "").split()
        self.compiler.link_shared_object(objects, path, extra_postargs=extra, target_lang="c++")

    def get_export_symbols(self, ext):
        return []


class Wheel(bdist_wheel):
    """The library depends on the platform, not on the Python version."""

    def finalize_options(self):
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[]
    if sys.platform == "win32"  # the library is written for GCC and Clang; smnoise says what is missing
    else [
        Extension(
            "smnoise.libsmnoise_cpu",
            sources=SOURCES,
            depends=sorted(str(p) for p in Path("csrc").glob("*.h")),
            language="c++",
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildLibrary, "bdist_wheel": Wheel},
)
