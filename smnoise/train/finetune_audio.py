# SPDX-License-Identifier: Apache-2.0
"""Fine-tune AudioMAE's encoder to classify sounds, and score it after every epoch.

    python -m smnoise.train.finetune_audio --run runs/audio --train TRAIN --test TEST --out runs/classes
    python -m smnoise.train.finetune_audio ... --preset as20k --train train.txt --test test.txt
    python -m smnoise.train.finetune_audio ... --from-scratch          # without pretraining, to compare
    python -m smnoise.train.finetune_audio ... --resume                # go on after a stop

TRAIN and TEST are two folders with a folder a class, or two list files with `path label` or `path label;label`
a line. The folder of the run then holds config.json, log.jsonl with the scores, checkpoints/ (the newest) and
best/checkpoints/ (the one with the best score: accuracy, or mAP for several labels a clip).

Presets are AudioMAE's published recipes for AudioSet-20K, AudioSet-2M and ESC-50; any number of theirs can be given
instead. docs/finetuning.md lists what differs from the released programs.

Besides first weights all that is random is a function of (seed, sample number), or of (seed, pass) for drop path,
so a checkpoint needs to hold just the number of steps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from ..data.audio.augment import kept_patches, mixup, sent, spec_augment, token_dropping
from ..data.audio.clips import SOUND, AudioClips, EveryFile, WeightedClips, class_weights
from ..data.audio.inputs import Spectrograms, Statistics
from ..data.draws import torch_seeded
from ..data.labels import LabelledFiles, labelled_sounds
from ..errors import CheckpointError
from ..lock import one_at_a_time
from ..masks import MaskBatch
from ..models.audiomae import SIZES, AudioEncoder
from ..models.classifier import AudioClassifier
from ..models.common import Size
from ..probes.features import outputs_of
from ..probes.knn import KnnProbe
from ..probes.linear import scores_of
from . import audio
from .finetune import OF_JOB, check_finite, check_labels, recipe, title, within_an_epoch
from .finetune import notes as notes_of_files
from .finetune_config import SCRATCH, Config
from .job import Job
from .loop import train
from .optim import layer_groups
from .pretrained import find as pretraining
from .pretrained.audio import AudioPretrained
from .run import checkpoint
from .run.folder import check_settings, choose_device, command
from .settings import recipe_fields
from .world import join


@one_at_a_time
def finetune(config: Config, stop: Callable[[], bool] = lambda: False) -> AudioClassifier:
    """Train, and return the trained classifier. Files and errors are those of the module's head.

    stop: asked after each step; when it says so, a checkpoint is saved and training ends early.

    Raises DataError, CheckpointError, ValueError or OSError before the first step for what can be known then;
    FloatingPointError when the loss stops being finite.
    """
    device, bfloat16 = choose_device(config.device, config.dtype)
    world = join(device)
    config, made = job(config, device, bfloat16)
    train(config, made, world, device, bfloat16, stop)
    return made.model


def job(config: Config, device: torch.device, bfloat16: bool) -> tuple[Config, Job[AudioClassifier]]:
    """What the loop trains, and the settings with as many passes a step as the files are enough for."""
    files, test = labelled_sounds(config.train, config.test, config.classes)
    notes = check_labels(config, config.loss, files, test)
    with torch_seeded(config.seed, 0, torch.device("cpu")):  # the caller's generator stays as it is
        encoder, inputs, before = _pretrained(config)
        model = AudioClassifier(encoder, len(files.names), drop_path=config.drop_path)
    notes += told_of_inputs(config, encoder, inputs, before)
    inputs.to(device)
    model, clips = model.to(device), clips_of(config, files, inputs)
    clips[0]  # a data set that cannot be read is found out here, not in a worker
    config, few = within_an_epoch(config, clips)

    def loss(train: torch.nn.Module, batch: dict, step: int, number: int) -> Tensor:
        with torch_seeded(config.seed, 1 + number, device):
            return loss_of(config, train, encoder.grid, inputs, batch, device, bfloat16)

    def blank(train: torch.nn.Module) -> Tensor:
        samples = torch.arange(config.batch_size)
        silence = torch.zeros(len(samples), inputs.frames, inputs.log_mel.num_mels, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            return train(silence, dropped(config, samples, encoder.grid, device)).float().mean()

    probe = None
    if config.knn_every:
        seen = partial(EveryFile, rate=inputs.log_mel.sample_rate, samples=inputs.samples)
        probe = KnnProbe(config, SOUND, seen, inputs, lambda function: function, device)
    parts = {
        "size": list(encoder.size.numbers().values()),
        "grid": encoder.grid,
        "patch": encoder.patch,
        "positions": positions_of(encoder),
    }
    read = {"rate": inputs.log_mel.sample_rate, **inputs.statistics._asdict()}
    return config, Job(
        title=title(model, encoder.grid, files, test, SOUND),
        model=model,
        groups=partial(layer_groups, model, config.weight_decay, config.layer_decay),
        clips=clips,
        loss=loss,
        blank=blank,
        recipe=recipe(config, files, test, SOUND, parts, read),
        notes=few + notes + notes_of_files(config, SOUND),
        advice=f"raise --workers ({config.workers} now), or store the sounds at {inputs.log_mel.sample_rate} Hz",
        probe=probe,
        evaluate=lambda last: evaluate(config, model, inputs, test, device),
    )


def pretrained(config: Config) -> tuple[AudioEncoder, Spectrograms]:
    """The encoder, on the CPU, and what makes its inputs.

    Raises CheckpointError where the run holds none, ValueError where it is not as the config says, or the frames do
    not fit its patches.
    """
    return _pretrained(config)[:2]


def _pretrained(config: Config) -> tuple[AudioEncoder, Spectrograms, AudioPretrained | None]:
    """The same, and the model that the encoder is of; None from scratch."""
    if config.run is None:  # from_scratch
        first = audio.Config(
            data=config.train,
            out=config.out,
            mask_ratio=0.5,
            decoder="global",
            seed=config.seed,
            **{name: getattr(config, name) for name in (*SCRATCH, "frames")},
        )
        model, rate, mels, before = audio.untrained(first), first.rate, first.mels, None
    else:
        before = pretraining.pretrained(config.run, "audio")
        model, rate, mels = before.model, before.inputs.log_mel.sample_rate, before.inputs.log_mel.num_mels
        if before.config is None and config.rate is not None:
            rate = config.rate
        size = None if config.model is None else SIZES[config.model]
        for name, asked, found in (
            ("model", size and size.width, model.size.width),
            ("rate", config.rate, rate),
            ("mels", config.mels, mels),
            ("patch", config.patch, model.patch),
        ):
            if asked not in (None, found):
                raise ValueError(
                    f"{config.run} is another architecture: its {name} is not the one asked for "
                    f"({found}, not {asked}); leave it out"
                )
    if config.frames % model.patch:
        raise ValueError(f"frames must be a multiple of the patch of {model.patch}, got {config.frames}")
    grid = config.frames // model.patch, mels // model.patch
    kept_patches(grid, config.drop_time, config.drop_freq)  # raises where nothing is left
    encoder = AudioEncoder(
        model.size,
        grid,
        patch=model.patch,
        positions=positions_of(model.encoder),
        checkpoint_blocks=config.checkpoint_blocks,
    )
    encoder.load_state_dict(model.encoder.state_dict())
    return encoder, Spectrograms(rate, config.frames, mels, statistics_of(config, before)), before


def positions_of(encoder: AudioEncoder) -> str:
    """Its argument of that name."""
    return "published" if encoder.positions.transposed else "right"


def statistics_of(config: Config, before: AudioPretrained | None) -> Statistics:
    """Return the statistics that the config names, which may be the run's."""
    if config.statistics == "run":
        assert before is not None  # from scratch a Config refuses it
        return before.inputs.statistics
    return Statistics.of(config.statistics)


def told_of_inputs(
    config: Config, encoder: AudioEncoder, inputs: Spectrograms, before: AudioPretrained | None
) -> list[str]:
    """What is worth knowing of the inputs: where they come from, and where they are not the pretraining's."""
    mean, std = inputs.statistics
    notes = [
        f"preset {config.preset}: {config.frames} frames, log-mel mean {mean:.4g} and deviation {std:.4g}"
    ]
    if before is not None:
        notes += before.notes
        usual = before.inputs
        if usual.frames != config.frames:
            notes.append(
                f"the run was trained on {usual.frames} frames; --frames {usual.frames} has as many here"
            )
            if positions_of(encoder) == "published":
                notes.append(
                    "published positions are right at the run's own length only: others have other codes"
                )
        if usual.statistics != inputs.statistics:
            mean, std = usual.statistics
            notes.append(
                f"the run was trained with mean {mean:.4g} and deviation {std:.4g}; --statistics run has the same here"
            )
    return notes


def clips_of(config: Config, train: LabelledFiles, inputs: Spectrograms) -> AudioClips:
    """The training clips by sample number, each with its row of targets."""
    common: dict[str, Any] = {
        "paths": train.paths,
        "rate": inputs.log_mel.sample_rate,
        "samples": inputs.samples,
        "seed": config.seed,
        "gain": config.gain,
        "roll": config.roll,
        "labels": train.targets,
    }
    if config.balanced:
        return WeightedClips(**common, weights=class_weights(train.targets), draws=config.draws or None)
    return AudioClips(**common)


def loss_of(
    config: Config,
    train: torch.nn.Module,
    grid: tuple[int, int],
    inputs: Spectrograms,
    batch: dict,
    device: torch.device,
    bfloat16: bool,
) -> Tensor:
    """Compute the loss of a training batch, augmented: a float32 scalar."""
    wave, length, target = (batch[name].to(device, non_blocking=True) for name in ("wave", "length", "label"))
    samples = batch["sample"]
    wave, length, target = mixup(wave, length, target, samples, seed=config.seed, chance=config.mixup)
    mean, std = inputs.statistics
    spectrograms = spec_augment(
        inputs(wave, length),
        samples,
        seed=config.seed,
        bins=config.mask_bins,
        frames=config.mask_frames,
        value=-mean / (2 * std),  # what padding has
    )
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        logits = train(spectrograms, dropped(config, samples, grid, device))
    if config.loss == "binary":
        return binary_cross_entropy_with_logits(logits.float(), target)
    return cross_entropy(logits.float(), target, label_smoothing=config.smoothing)


def dropped(config: Config, samples: Tensor, grid: tuple[int, int], device: torch.device) -> MaskBatch | None:
    """Choose the tokens of each clip left out in training, for sample numbers int64 [B]; None where none are."""
    if not config.drop_time and not config.drop_freq:
        return None
    masks = token_dropping(
        samples, grid, seed=config.seed, drop_time=config.drop_time, drop_freq=config.drop_freq
    )
    return masks._replace(ids_keep=sent(masks.need("ids_keep"), device))


def evaluate(
    config: Config, model: AudioClassifier, inputs: Spectrograms, test: LabelledFiles, device: torch.device
) -> tuple[dict[str, float], list[str]]:
    """Scores of the middle of each test file, in float32: mAP, with one label a clip also accuracy, and "score",
    the one of these that checkpoints are ranked by; and what was wrong with files left out.

    Raises DataError where none decodes, FloatingPointError where the model's answer is no number.
    """
    model.eval()
    clips = EveryFile(test.paths, inputs.log_mel.sample_rate, inputs.samples)
    logits, places, broken = outputs_of(model, clips, inputs, device, config.batch_size, config.workers)
    check_finite(logits, config)
    right, precision = scores_of(logits, test.targets[places], config.loss == "binary")
    if config.loss == "binary":
        return {"mean_average_precision": precision.value, "score": precision.value}, broken
    return {"accuracy": right, "mean_average_precision": precision.value, "score": right}, broken


def classifier_of(run: Path) -> tuple[AudioClassifier, Spectrograms, list[str]]:
    """The classifier of a run's newest whole checkpoint (or of its best one: run / "best"), on the CPU and in
    evaluation mode, what makes its inputs of waveforms, and the names of its classes.

    Raises CheckpointError where there is none, or it is not of this trainer.
    """
    tensors, _, state, _ = checkpoint.newest(run)
    before = state["recipe"]
    if missing := [name for name in ("classes", "encoder", "inputs") if name not in before]:
        raise CheckpointError(
            f"{run} is no run of smnoise.train.finetune_audio: its recipe has no {missing[0]}"
        )
    check_settings(before, (*recipe_fields(Config), *OF_JOB), run)
    parts, sound = before["encoder"], before["inputs"]
    encoder = AudioEncoder(
        Size(*parts["size"]),
        tuple(parts["grid"]),
        patch=parts["patch"],
        positions=parts["positions"],
        checkpoint_blocks=False,
    )
    model = AudioClassifier(encoder, len(before["classes"]))
    model.load_state_dict(tensors)
    statistics = Statistics(sound["mean"], sound["std"])
    inputs = Spectrograms(sound["rate"], before["frames"], parts["grid"][1] * parts["patch"], statistics)
    return model.eval(), inputs, before["classes"]


def main() -> None:
    command(Config, finetune, __doc__)


if __name__ == "__main__":
    main()
