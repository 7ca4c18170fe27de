# SPDX-License-Identifier: Apache-2.0
"""The settings that trainers share. Each stands once: a trainer's Config inherits them, has its own defaults for some,
and adds those of its medium.

A field that is marked How says where and how a run is trained, and may be another one after a restart, or stands in a
checkpoint's recipe in another form. All other fields are the recipe, which a resumed run must share: see
`recipe_fields`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    Optional,
    TypeVar,
    get_args,
    get_type_hints,
)

from ..dual import DualMasks
from ..masks import MaskBatch
from ..samplers import Sampler
from ..strategies import sampler_of
from .world import processes

T = TypeVar("T")
HOW = "how a run is trained, not what"
How = Annotated[T, HOW]
LEFT_OUT: Any = (
    None  # the default of a setting that a Config fills in from its preset as it is made, and of such a type:
)
if TYPE_CHECKING:
    Filled = Annotated[T, "LEFT_OUT until the Config is made"]
else:
    Filled = Optional  # what the command line is built from


@dataclass(frozen=True, kw_only=True)
class Run:
    """What every run has."""

    MEDIUM: ClassVar[str]
    """One of `media.MEDIA`."""

    out: How[Path]
    """Folder of the run; made if it does not exist."""
    resume: How[bool] = False
    """Go on from the newest whole checkpoint in `out`. On the command line --resume --out RUN is enough: the other
    settings are those of the run."""
    recipe: How[str | None] = None
    """Begin with the settings of a published recipe, by name, or of a file, @FILE. What else is given goes first."""

    epochs: int = 1
    warmup_epochs: float = 0.0
    """Linear warm-up of the learning rate from 0."""
    batch_size: int = 1
    """Clips in a forward pass of a process, each of which has `views` rows there."""
    accumulate: int = 1
    """Forward passes of a process in a step; a step sees batch_size * accumulate * processes clips."""
    base_lr: float = 1e-3
    """Peak learning rate for 256 clips a step; scaled by clips / 256. In fine-tuning that of the head."""
    min_lr: float = 0.0
    """End of the cosine, scaled likewise."""
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW."""
    clip_grad: float | None = None
    """Largest gradient norm; None: no clipping."""

    seed: int = 0
    """Of weights, order, clips, masks, and all that is done to them."""
    device: How[str] = "auto"
    """auto: cuda where there is one, else cpu."""
    dtype: How[Literal["auto", "float32", "bfloat16"]] = "auto"
    """Of autocast. auto: bfloat16 on GPUs of capability 8.0 and later, else float32."""
    compile: How[bool] = False
    """torch.compile the model."""
    checkpoint_blocks: How[bool] = False
    """Recompute activations in the backward pass, to save memory."""
    shard: How[bool] = False
    """Spread weights and optimiser state over the processes (FSDP2), to save memory; checkpoints then have a file from
    each. Any run can be resumed with or without."""
    workers: How[int] = 4
    """Processes that read files; 0: read in the training process."""
    log_every: How[int] = 10
    """Steps from one log line to the next."""
    save_every: How[int] = 500
    """Steps from one checkpoint to the next; the last step is always saved."""
    tensorboard: How[bool] = False
    """Also write events for TensorBoard, into the folder tensorboard/ of `out`: the numbers of log.jsonl, and after the
    last step of pretraining a mask and what the model fills in under it (not of a sharded model). It needs
    smnoise[tensorboard]."""
    keep_every: How[int | None] = None
    """Steps, a multiple of save_every: checkpoints of a multiple of it are kept for good, besides the two newest."""
    knn_every: How[int] = 0
    """Steps from one k-NN probe of the frozen features to the next, which changes nothing in training; 0: none."""
    knn_train: How[Path | None] = None
    """For it: folder with a folder a class, or list file with `path label` a line."""
    knn_test: How[Path | None] = None
    """For it: the files to classify, by their neighbours among those of knn_train; a folder or a list likewise."""

    def check(self) -> None:
        """ValueError for the first setting that is out of its range. A Config calls it when it is complete."""
        at_least(1, self, ("epochs", "batch_size", "accumulate", "log_every", "save_every"))
        at_least(0, self, ("workers", "knn_every", "warmup_epochs", "weight_decay", "min_lr"))
        positive(self, ("clip_grad",))
        if not self.base_lr > 0 or self.min_lr > self.base_lr:
            raise ValueError(f"need 0 < base_lr and min_lr <= base_lr, got {self.base_lr} and {self.min_lr}")
        if self.keep_every is not None and (self.keep_every < 1 or self.keep_every % self.save_every):
            raise ValueError(
                f"keep_every must be a multiple of save_every {self.save_every}, got {self.keep_every}"
            )
        given = [self.knn_train is not None, self.knn_test is not None]
        if any(given) != bool(self.knn_every) or any(given) != all(given):
            raise ValueError(
                "a k-NN probe needs knn_every, knn_train and knn_test; got "
                f"{self.knn_every}, {self.knn_train} and {self.knn_test}"
            )
        if self.knn_every and self.shard:
            raise ValueError(
                "a sharded model has no k-NN probe while it trains; leave out knn_every and score its checkpoints with "
                "`smnoise probe --all-checkpoints --probes nearest`"
            )

    @property
    def clips_per_step(self) -> int:
        """The global batch."""
        return self.batch_size * self.accumulate * processes()


COLORS = ("white", "red", "blue", "green", "purple")


def full_name(mask: str) -> str:
    """What a mask is called now: colours used to be named without their axes, and Optim Blue's independent masks had a
    name of their own."""
    if mask == "optim-blue-independent":
        return '{"sampler": "OptimBlue", "masks": "independent"}'
    return f"{mask}-3d" if mask in COLORS else mask


def named_mask(mask: str, grid: tuple[int, ...], mask_ratio: float | None, **more) -> Sampler:
    """Make a sampler as `sampler_of` does, but raise ValueError for whatever is wrong: it is a wrong setting."""
    try:
        return sampler_of(full_name(mask), grid, mask_ratio, **more)
    except TypeError as error:
        raise ValueError(f"mask {mask}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Pretraining(Run):
    """What pretraining of every medium has."""

    data: How[Path]
    """Folder of files, or list file with one path a line."""

    mask: How[str] = "random"
    """A strategy (`smnoise.STRATEGIES`), a published recipe's mask, a function of yours as module:function, a sampler's
    JSON, @FILE that holds it, or a pool's .safetensors."""
    mask_ratio: How[float | None] = None
    """Share of tokens that is hidden; by default that of the mask's recipe or JSON, else 0.9 of a clip and 0.8 of a
    spectrogram."""
    num_visible: How[int | None] = None
    """Visible tokens of a clip, instead of a ratio."""
    sigma1: How[tuple[float, float] | None] = None
    """Of colour masks: range of the smaller filter width, in tokens."""
    sigma2: How[tuple[float, float] | None] = None
    """Of colour masks: range of the larger filter width, in tokens."""
    boundary: How[Literal["field", "wrap"] | None] = None
    """Of colour masks. field: a window of unbounded noise. wrap: a torus, three times faster."""
    per: How[Literal["clip", "frame"] | None] = None
    """clip: rank all tokens of a clip together. frame: as many visible ones in each time step."""

    batch_size: How[int] = 32
    accumulate: How[int] = 1
    views: int = 1
    """Crops or gains, and masks, of each clip that is read. Epochs, batch_size and learning rate count clips, not
    views."""

    def check(self) -> None:
        super().check()
        at_least(1, self, ("views",))
        self.sampler()  # raises for a ratio that leaves nothing visible, and the like

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens of a clip along (T, H, W)."""
        raise NotImplementedError

    @cached_property
    def _sampler(self) -> Sampler:
        names = ("sigma1", "sigma2", "boundary", "per")
        return named_mask(
            self.mask,
            self.grid,
            self.mask_ratio,
            num_visible=self.num_visible,
            seed=self.seed,
            **{name: getattr(self, name) for name in names},
        )

    def sampler(self) -> Sampler:
        """What makes the masks."""
        return self._sampler

    def masks(self) -> Callable[..., MaskBatch | DualMasks]:
        """Makes of sample numbers, int64 [B] on the device, what the model is given."""
        return self.sampler()

    def samplers(self) -> dict[str, dict | None]:
        """What stands in the recipe for the masks: the sampler as JSON."""
        return {"sampler": described(self.sampler(), self.seed)}


@dataclass(frozen=True, kw_only=True)
class FineTuning(Run):
    """What fine-tuning of every medium has. What is left out comes from the preset, or from the pretraining run."""

    train: How[Path]
    """Folder with a folder a class, or list file with `path label` a line."""
    test: How[Path]
    """Files to score by after each epoch; a folder or a list likewise."""
    run: How[Path | None] = None
    """Folder of a pretraining run, whose newest whole checkpoint is read; or of converted weights."""
    from_scratch: bool = False
    """Begin with random weights instead."""
    classes: How[int | None] = None
    """Of list files; by default one more than the highest label in `train`."""

    epochs: Filled[int] = LEFT_OUT
    warmup_epochs: Filled[float] = LEFT_OUT
    batch_size: Filled[int] = LEFT_OUT
    accumulate: Filled[int] = LEFT_OUT
    """Forward passes of a process in a step; a step sees batch_size * accumulate * processes clips. Where that is more
    than the clips of an epoch, as with a preset and few files, so many passes as fit into one, but at least one."""
    base_lr: Filled[float] = LEFT_OUT
    min_lr: Filled[float] = LEFT_OUT
    layer_decay: Filled[float] = LEFT_OUT
    """Learning rate of a layer, as a share of the next one's."""
    smoothing: Filled[float] = LEFT_OUT
    """Of labels, with softmax: this share is spread over all classes."""
    drop_path: Filled[float] = LEFT_OUT
    """Share of the residual branches that are dropped in training, in the last block."""

    def fill(self, preset: dict, scratch: dict) -> None:
        """Put in what was left out, and check it."""
        if (self.run is None) != self.from_scratch:
            raise ValueError("give either run, the folder of a pretraining run, or from_scratch")
        for name, value in (preset | (scratch if self.from_scratch else {})).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        self.check()
        positive(self, ("classes",))
        shares(self, ("smoothing", "drop_path"))
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay must be in (0, 1], got {self.layer_decay}")


def described(sampler: Sampler, seed: int) -> dict:
    """A sampler's JSON, without the seed where that is the run's own."""
    values = json.loads(sampler.to_json())
    if values["seed"] == seed:
        del values["seed"]
    return values


def recipe_fields(config_type: type) -> tuple[str, ...]:
    """The settings that are a run's recipe: those that are not marked How."""
    hints = get_type_hints(config_type, include_extras=True)
    return tuple(f.name for f in fields(config_type) if HOW not in get_args(hints[f.name]))


def recipe_of(config: Run, **more) -> dict:
    """What a checkpoint says of its run, as JSON gives it back: its settings, its global batch, and what is given."""
    settings = {name: getattr(config, name) for name in recipe_fields(type(config))}
    always = {"medium": config.MEDIUM, "clips_per_step": config.clips_per_step}
    return as_json(settings | always | more)


def as_json(value):
    """What JSON gives back of a value."""
    return json.loads(json.dumps(value))


def at_least(low: int, config, names: Iterable[str]) -> None:
    """ValueError for the first of the named settings that is smaller, or no finite number."""
    for name in names:
        if not low <= getattr(config, name) < math.inf:
            wanted = f"at least {low}" if low else "a number and not negative"
            raise ValueError(f"{name} must be {wanted}, got {getattr(config, name)}")


def positive(config, names: Iterable[str]) -> None:
    """ValueError for the first of the named settings that is given and not above 0."""
    for name in names:
        if (value := getattr(config, name)) is not None and not value > 0:
            raise ValueError(f"{name} must be positive, or left out; got {value}")


def shares(config, names: Iterable[str]) -> None:
    """ValueError for the first of the named settings that is not in [0, 1)."""
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise ValueError(f"{name} must be in [0, 1), got {getattr(config, name)}")


def settings_of_old(settings: dict) -> dict:
    """Settings as config.json or a recipe has them, of this version or of one that named its masks in another way."""
    settings = dict(settings)
    blue = {name: settings.pop(f"blue_{name}", None) for name in ("delta", "weights", "decay", "steps")}
    mask = settings.get("mask")
    if isinstance(mask, str) and mask.startswith("optim-blue") and blue["delta"] is not None:
        kind = "independent" if mask.endswith("independent") else "complementary"
        settings["mask"] = json.dumps({"sampler": "OptimBlue", "masks": kind, **blue})
    elif isinstance(mask, str):
        settings["mask"] = full_name(mask)
    return settings
