# SPDX-License-Identifier: Apache-2.0
"""Models and masks as the Hugging Face Hub has them: from_pretrained, save_pretrained, push_to_hub.

    >>> import smnoise, tempfile
    >>> from smnoise.models.videomae import VideoMAE
    >>> mine = Pretrained(VideoMAE("nano", grid=(2, 2, 2)), smnoise.Green3D((2, 2, 2), 0.5, seed=7))
    >>> folder = tempfile.mkdtemp()
    >>> mine.save_pretrained(folder)  # and mine.push_to_hub("name/of-a-repository")
    >>> again = Pretrained.from_pretrained(folder)  # or the name of a repository
    >>> again.sampler == mine.sampler, type(again.model).__name__
    (True, 'VideoMAE')

The folder has model.safetensors and config.json in smnoise's layout, which `smnoise finetune --run FOLDER` and
`smnoise probe --run FOLDER` take too, masks.json (the sampler), the pool of masks that it draws from, if it does, and
README.md, a model card. Repositories of transformers' VideoMAEForPreTraining are read as well, such as
"MCG-NJU/videomae-base": their decoder comes along. Nothing is unpickled but what `smnoise.convert` would read.

Needs huggingface_hub: the extra `hub`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

try:
    from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
except ImportError as error:
    raise ImportError(
        "smnoise.adapters.hub needs huggingface_hub: pip install huggingface_hub, or the extra `hub` of smnoise"
    ) from error

from .. import __version__, pools
from ..convert.architecture import AudioConfig, VideoConfig
from ..convert.files import holds_weights, load_model, write
from ..convert.states import convert_state
from ..errors import CheckpointError
from ..files import write_text
from ..models.audiomae import AudioMAE
from ..models.cavmae import CAVMAE
from ..models.videomae import VideoMAE
from ..pools import PoolSampler
from ..samplers import Sampler
from ..samplers.base import check_sampler
from ..strategies import from_json

MASKS, POOL = "masks.json", "pool.safetensors"
READ = ["config.json", "*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin*", MASKS]

CARD = """\
---
{{ card_data }}
---

# {{ title }}

{{ about }}

```python
from smnoise.adapters.hub import Pretrained

found = Pretrained.from_pretrained("{{ repo_id or 'this repository' }}")
{{ lines }}
```

{% if masks %}
## Masks

`{{ masks }}`

A mask is a function of (seed, sample index, parameters): these parameters give the same masks, bit for bit, on any
machine (mask contract {{ contract }}).
{% endif %}
## Training

- Data: {{ data or "not told" }}
- Steps or epochs: {{ training or "not told" }}
- Results, and how they were measured: {{ results or "none told. The reconstruction loss does not rank masks." }}

## Limits

{{ limits or "Not told: what the data leaves out, and what the model should not be used for." }}

## Citation

The masks are those of "Structured-Noise Masked Modeling for Video, Audio and Beyond",
[arXiv 2503.16311](https://arxiv.org/abs/2503.16311). Written by smnoise {{ version }}.
"""


class Pretrained(
    ModelHubMixin,
    library_name="smnoise",
    tags=["masked-autoencoder", "smnoise"],
    paper_url="https://arxiv.org/abs/2503.16311",
    model_card_template=CARD,
):
    """A pretraining model, its masks, or both, to be saved and loaded.

    Args:
        model: a `VideoMAE` or `AudioMAE` of smnoise, or None for masks alone.
        sampler: the masks that it was trained with, any of smnoise's samplers but a function of your own, or None.

    `save_pretrained(folder)`, `push_to_hub(name)` and `from_pretrained(folder or name)` are those of huggingface_hub's
    ModelHubMixin, with its arguments. What the card cannot know goes in as
    model_card_kwargs={"data": ..., "training": ..., "results": ..., "limits": ..., "title": ...}.
    """

    def __init__(self, model: VideoMAE | AudioMAE | None = None, sampler: Sampler | None = None):
        if model is None and sampler is None:
            raise ValueError("give a model, a sampler, or both")
        if model is not None and not isinstance(model, (VideoMAE, AudioMAE)):
            raise TypeError(f"model must be a VideoMAE or AudioMAE of smnoise, got {type(model).__name__}")
        if sampler is not None:
            check_sampler(sampler)
        self.model, self.sampler = model, sampler
        self._hub_mixin_config = None  # the mixin's own record of the arguments; ours are files

    def push_to_hub(self, repo_id: str, *, model_card_kwargs: dict | None = None, **options: Any) -> str:
        """Push the files to a repository, as the mixin's method of that name does; the model card then names the
        repository.
        """
        told = {"repo_id": repo_id} | (model_card_kwargs or {})
        return super().push_to_hub(repo_id, model_card_kwargs=told, **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        for name in ("model.safetensors", MASKS, POOL):  # of an earlier one, which this may not have
            (save_directory / name).unlink(missing_ok=True)
        if self.model is not None:
            config = config_of(self.model)
            with tempfile.TemporaryDirectory(dir=save_directory, prefix=".writing-") as beside:
                write(convert_state(self.model.state_dict(), "smnoise", config=config), Path(beside) / "new")
                for file in sorted((Path(beside) / "new").iterdir()):
                    os.replace(file, save_directory / file.name)
        if self.sampler is not None:
            if isinstance(self.sampler, PoolSampler):
                pools.save(self.sampler.pool, save_directory / POOL)
            write_text(save_directory / MASKS, self.sampler.to_json() + "\n")

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        model: str | None = None,  # the mixin hands over what config.json has of this name: its kind
        **options: Any,
    ) -> Pretrained:
        """options: those of `smnoise.convert.convert_state`, such as grid or heads, for weights that do not tell."""
        folder = Path(model_id)
        if not folder.is_dir():
            folder = Path(
                snapshot_download(
                    model_id,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    token=token,
                    allow_patterns=READ,
                )
            )
        weights = any(path.name != POOL for path in folder.glob("*.safetensors")) or any(folder.glob("*.bin"))
        found = load_model(folder, **options) if weights and holds_weights(folder) else None
        if isinstance(found, CAVMAE):
            raise CheckpointError(
                f"{model_id} holds a CAV-MAE, which is called with a pair of masks; take smnoise.convert.load_model"
            )
        sampler = _sampler_of(folder) if (folder / MASKS).is_file() else None
        if found is None and sampler is None:
            raise CheckpointError(f"{model_id} has neither weights nor {MASKS}")
        return cls(found, sampler)

    def generate_model_card(self, *arguments: Any, **values: Any) -> ModelCard:
        """Write the model card from huggingface_hub's template: what the model and its masks are, and how they are
        loaded.
        """
        lines = []
        if self.sampler is not None:
            lines.append("masks = found.sampler(batch_size=8, step=0)")
        if isinstance(self.model, VideoMAE):
            t, h, w = self.model.grid
            about = (
                f"A VideoMAE pretrained on clips of {t * self.model.tubelet} frames of {h * self.model.patch} x "
                f"{w * self.model.patch} pixels, encoder and decoder."
            )
            lines.append("loss, prediction = found.model(clips, masks)  # clips: uint8 [8, 3, T, H, W]")
        elif isinstance(self.model, AudioMAE):
            t, f = self.model.grid
            about = (
                f"An AudioMAE pretrained on log-mel spectrograms of {t * self.model.patch} frames and "
                f"{f * self.model.patch} bins, encoder and decoder."
            )
            lines.append("loss, prediction = found.model(spectrograms, masks)  # float [8, time, mel]")
        else:
            about = "Masks for masked autoencoders."
        told: dict[str, Any] = {
            "title": "A model pretrained with smnoise" if self.model is not None else "Masks of smnoise",
            "about": about,
            "lines": "\n".join(lines),
            "masks": None if self.sampler is None else self.sampler.to_json(),
            "contract": 1,
            "version": __version__,
        }
        return super().generate_model_card(*arguments, **told | values)


def config_of(model: VideoMAE | AudioMAE) -> VideoConfig | AudioConfig:
    """Give the config that a model can be built from again."""
    if isinstance(model, VideoMAE):
        mean, std = (tuple(getattr(model, name).flatten().tolist()) for name in ("mean", "std"))
        return VideoConfig(model.size, model.grid, model.tubelet, model.patch, model.channels, mean, std)
    decoder = "local" if model.local else "global"
    positions = "published" if model.decoder_positions.transposed else "right"
    return AudioConfig(model.size, model.grid, model.patch, decoder, positions, model.normalise_target)


def _sampler_of(folder: Path) -> Sampler:
    """That of masks.json. Raises CheckpointError where it is none."""
    try:
        text = (folder / MASKS).read_text()
        pool = pools.load(folder / POOL) if (folder / POOL).is_file() else None
        return from_json(text, pool=pool)
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{folder / MASKS} does not tell a sampler: {error}") from error
