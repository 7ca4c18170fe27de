# SPDX-License-Identifier: Apache-2.0
"""Modules by the names that they had before version 0.2: imports and `python -m` of them work, and warn once."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType

MODULES = {
    "smnoise.diversity": "smnoise.measures.diversity",
    "smnoise.fbank": "smnoise.data.audio.fbank",
    "smnoise.metrics": "smnoise.probes.metrics",
    "smnoise.spread": "smnoise.measures.spread",
    "smnoise.train.audio_runs": "smnoise.train.pretrained.audio",
    "smnoise.train.video_runs": "smnoise.train.pretrained.video",
    "smnoise.train.attentive": "smnoise.probes.attentive",
    "smnoise.train.audio_data": "smnoise.data.audio.clips",
    "smnoise.train.audio_inputs": "smnoise.data.audio.inputs",
    "smnoise.train.audio_pictures": "smnoise.demos.audio_pictures",
    "smnoise.train.augment": "smnoise.data.audio.augment",
    "smnoise.train.cache_clips": "smnoise.data.video.cache",
    "smnoise.train.checkpoint": "smnoise.train.run.checkpoint",
    "smnoise.train.classes": "smnoise.data.classes",
    "smnoise.train.curves": "smnoise.train.run.curves",
    "smnoise.train.demo_audio": "smnoise.demos.audio",
    "smnoise.train.demo_folder": "smnoise.demos.folder",
    "smnoise.train.demo_sounds": "smnoise.data.installed.sounds",
    "smnoise.train.demo_video": "smnoise.demos.video",
    "smnoise.train.draws": "smnoise.data.draws",
    "smnoise.train.features": "smnoise.probes.features",
    "smnoise.train.file_messages": "smnoise.data.messages",
    "smnoise.train.gather": "smnoise.train.run.gather",
    "smnoise.train.knn": "smnoise.probes.knn",
    "smnoise.train.labels": "smnoise.data.labels",
    "smnoise.train.ledger": "smnoise.train.run.ledger",
    "smnoise.train.linear": "smnoise.probes.linear",
    "smnoise.train.lists": "smnoise.data.lists",
    "smnoise.train.lock": "smnoise.lock",
    "smnoise.train.log": "smnoise.train.run.log",
    "smnoise.train.logistic": "smnoise.probes.logistic",
    "smnoise.train.media_bytes": "smnoise.data.audio.media_bytes",
    "smnoise.train.media_files": "smnoise.data.found",
    "smnoise.train.memory": "smnoise.train.run.memory",
    "smnoise.train.motion": "smnoise.data.video.motion",
    "smnoise.train.nearest": "smnoise.probes.nearest",
    "smnoise.train.numbered": "smnoise.data.numbered",
    "smnoise.train.pictures": "smnoise.demos.pictures",
    "smnoise.train.shards": "smnoise.train.run.shards",
    "smnoise.train.signals": "smnoise.data.signals",
    "smnoise.train.sound_decoding": "smnoise.data.audio.decoding",
    "smnoise.train.sound_file": "smnoise.data.audio.reader",
    "smnoise.train.throughput": "smnoise.train.run.throughput",
    "smnoise.train.torchcodec_reader": "smnoise.data.video.torchcodec_reader",
    "smnoise.train.upright": "smnoise.data.video.upright",
    "smnoise.train.video_augment": "smnoise.data.video.augment",
    "smnoise.train.video_data": "smnoise.data.video.clips",
    "smnoise.train.video_eval": "smnoise.data.video.views",
    "smnoise.train.video_file": "smnoise.data.video.reader",
    "smnoise.train.video_index": "smnoise.data.video.index",
    "smnoise.train.video_packets": "smnoise.data.video.packets",
    "smnoise.train.video_pass": "smnoise.data.video.decoding",
    "smnoise.viz.measures": "smnoise.measures.spectra",
}


class _Renamed(MetaPathFinder, Loader):
    """Finds a module of `MODULES` under its old name and gives the module of the new one, the same object."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        _warn(spec.name)
        module = import_module(MODULES[spec.name])
        self._own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own  # the import system has put the old name's there

    def get_code(self, fullname: str) -> CodeType:
        """What `python -m` runs."""
        _warn(fullname)
        program = (
            f"import runpy; runpy.run_module({MODULES[fullname]!r}, run_name='__main__', alter_sys=True)"
        )
        return compile(program, fullname, "exec")


def _warn(name: str) -> None:
    text = f"{name} is now {MODULES[name]}; the old name goes with version 0.3"
    warnings.warn(text, FutureWarning, stacklevel=2)


def find_renamed() -> None:
    """Let imports find modules under their old names as well."""
    if not any(isinstance(finder, _Renamed) for finder in sys.meta_path):
        sys.meta_path.append(_Renamed())
