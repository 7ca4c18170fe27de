# SPDX-License-Identifier: Apache-2.0
"""Masks in loops of Hugging Face: transformers' Trainer, and your own under accelerate.

    from transformers import Trainer, TrainingArguments, VideoMAEConfig, VideoMAEForPreTraining
    from smnoise.adapters.huggingface import grid_of
    from smnoise.adapters.trainer import MaskCallback

    model = VideoMAEForPreTraining(VideoMAEConfig())
    masks = MaskCallback(smnoise.Green3D(grid_of(model.config), mask_ratio=0.9))
    Trainer(model, TrainingArguments("out"), train_dataset=clips, callbacks=[masks]).train()

The data set gives pixel_values and nothing else: the callback puts `bool_masked_pos` to them as they enter the model,
on their device. Each row of each pass has a sample number of its own, over all epochs and ranks; a checkpoint of the
Trainer says how many there were, and a resumed run goes on with the next. Evaluation has masks of its own, the same
ones each time. So no mask comes twice because the epoch, the rank or a line was forgotten.

Under accelerate, or in any loop with a rank and a number of ranks:

    masks = LoopMasks(smnoise.Green3D((8, 14, 14), 0.9), batch_size=8, accelerator=accelerator)
    for clips in loader:
        loss, _ = model(clips, masks(len(clips), clips.device))

It is registered with the accelerator, whose save_state and load_state then keep the numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

try:
    from transformers import TrainerCallback
    from transformers.trainer_callback import ExportableState
except ImportError as error:
    raise ImportError(
        "smnoise.adapters.trainer needs transformers: pip install transformers accelerate"
    ) from error

from ..masks import MaskBatch
from ..ops import ALL_OUTPUTS
from ..samplers import Sampler
from ..samplers.base import check_sampler
from ..spec import as_int, with_ones
from ._numbers import EVALUATION, Numbers
from .huggingface import grid_of

if TYPE_CHECKING:
    from accelerate import Accelerator


class MaskCallback(TrainerCallback, ExportableState):
    """Gives the model of a Trainer its masks. For models that take `bool_masked_pos`, True = masked: VideoMAE, BEiT,
    and the like.

    Args:
        sampler: any sampler of smnoise; its grid is that of the model's tokens.
        rows_of: name of the model's argument whose rows are counted.
        argument: name of the argument that the masks are given as.

    Raises ValueError for a VideoMAE of another grid, RuntimeError for several GPUs in one process (use torchrun), when
    the Trainer is made; ValueError, when the model is called, for a batch that has masks already.
    """

    def __init__(self, sampler: Sampler, rows_of: str = "pixel_values", argument: str = "bool_masked_pos"):
        check_sampler(sampler)
        self.sampler, self.rows_of, self.argument = sampler, rows_of, argument
        self.numbers, self.evaluation = Numbers(), Numbers()
        self._hook: Any = None
        self._arguments: Any = None

    def state(self) -> dict:
        """Return what a checkpoint of the Trainer keeps."""
        return {"args": {}, "attributes": {"consumed": self.numbers.consumed}}

    def on_init_end(self, args, state, control, model=None, **others) -> None:
        self._attach(model, args)

    def on_train_begin(self, args, state, control, model=None, **others) -> None:
        self._attach(model, args)
        kept = (state.stateful_callbacks or {}).get(type(self).__name__, {})
        kept = kept[0] if isinstance(kept, list) else kept
        rows = args.train_batch_size * args.world_size
        # A run that began without this callback has had no masks of it, but its steps are counted all the same.
        usual = state.global_step * args.gradient_accumulation_steps * rows
        begun = self.numbers.consumed  # of an earlier call of train()
        self.numbers = Numbers(max(begun, kept.get("attributes", {}).get("consumed", usual)))

    def on_evaluate(self, args, state, control, **others) -> None:
        self.evaluation = Numbers()

    def _attach(self, model, args) -> None:
        if args.n_gpu > 1:
            raise RuntimeError(
                f"{args.n_gpu} GPUs in one process split a batch where masks cannot follow: start the script with "
                "torchrun, one process a GPU"
            )
        config = getattr(model, "config", None)
        if hasattr(config, "tubelet_size") and with_ones(tuple(self.sampler.grid)) != (
            grid := grid_of(config)
        ):
            raise ValueError(
                f"the sampler's grid is {tuple(self.sampler.grid)}, the model's {grid}: make it for that"
            )
        if self._hook is not None:
            self._hook.remove()
        self._arguments = args
        self._hook = model.register_forward_pre_hook(self._put_masks, with_kwargs=True)

    @torch.compiler.disable  # or a compiled model would have the masks of its first pass for good
    def _put_masks(self, module, arguments: tuple, named: dict):
        if named.get(self.argument) is not None:
            raise ValueError(
                f"the batch has {self.argument} already: leave them out of the data set, or leave out MaskCallback"
            )
        if self.rows_of not in named:
            raise ValueError(
                f"the model was called without {self.rows_of}, whose rows are counted; set rows_of"
            )
        given = self._arguments
        rows, device = len(named[self.rows_of]), named[self.rows_of].device
        if module.training:
            samples = self.numbers.take(
                rows, given.train_batch_size, given.process_index, given.world_size, device
            )
        else:
            ranks = given.process_index, given.world_size
            samples = EVALUATION + self.evaluation.take(rows, given.eval_batch_size, *ranks, device)
        masks = self.sampler(samples, outputs="mask")
        return arguments, named | {self.argument: masks.bool_masked_pos()}


class LoopMasks:
    """Masks for the passes of a loop of your own, each row with a sample number that no other row has.

    Args:
        sampler: any sampler of smnoise.
        batch_size: rows of a full batch on one rank.
        accelerator: of accelerate; gives rank and number of ranks, and keeps the numbers in its checkpoints.
        rank, world_size: instead of an accelerator.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        accelerator: Accelerator | None = None,
        *,
        rank: int = 0,
        world_size: int = 1,
    ):
        check_sampler(sampler)
        self.sampler, self.batch_size = sampler, as_int("batch_size", batch_size, 1, 2**31)
        if accelerator is not None:
            rank, world_size = accelerator.process_index, accelerator.num_processes
            accelerator.register_for_checkpointing(self)
        self.world_size = as_int("world_size", world_size, 1, 2**31)
        self.rank = as_int("rank", rank, 0, self.world_size - 1)
        self.numbers = Numbers()

    def __call__(self, rows: int, device=None, outputs: str = ALL_OUTPUTS) -> MaskBatch:
        """Masks of the next pass's `rows` rows. Raises ValueError for more rows than batch_size."""
        samples = self.numbers.take(rows, self.batch_size, self.rank, self.world_size, device)
        return self.sampler(samples, outputs=outputs)

    def state_dict(self) -> dict:
        """Return what a checkpoint needs: how many rows all ranks together have had."""
        return {"consumed": self.numbers.consumed}

    def load_state_dict(self, state: dict) -> None:
        """Go on where the run was whose `state_dict` this is."""
        self.numbers = Numbers(state["consumed"])
