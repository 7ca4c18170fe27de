# SPDX-License-Identifier: Apache-2.0
"""The AudioMAE trainer, run as a user runs it: real files in, a run folder out."""

import hashlib
import json
import os
import signal
import time
from dataclasses import replace

import pytest
import torch

from smnoise import CheckpointError, OptimBlue
from smnoise.data.audio.clips import AudioClips, find_sounds
from smnoise.data.draws import torch_seeded
from smnoise.samplers import White3D
from smnoise.train import audio as trainer
from smnoise.train.audio import pretrain, untrained
from smnoise.train.pretrained.audio import trained
from smnoise.train.run import checkpoint
from smnoise.train.run.log import RunLog

from .runs import CPU, RATE, losses, same, start, weights


def test_the_loss_falls_and_the_run_is_on_disk(config):
    longer = replace(config, epochs=20)
    model = pretrain(longer)
    by_step = losses(config.out)
    assert list(by_step) == list(range(1, 61))
    first, last = (sum(by_step[s] for s in steps) / 10 for steps in (range(1, 11), range(51, 61)))
    assert last < 0.9 * first
    assert json.loads((config.out / "config.json").read_text())["mask"] == "optim-blue"
    tensors, _, state, _ = checkpoint.newest(config.out)
    assert state["step"] == 60
    assert same(tensors, model.state_dict())


@pytest.mark.parametrize("mask", ["random", "optim-blue-independent", "green"])
def test_other_masks_and_the_global_decoder_train(config, mask):
    pretrain(replace(config, epochs=1, mask=mask, decoder="global", positions="published", roll=True))
    assert len(losses(config.out)) == 3


def test_masks_are_the_samplers_for_the_global_sample_numbers(config, monkeypatch):
    seen, forward = [], trainer.AudioMAE.forward
    monkeypatch.setattr(
        trainer.AudioMAE, "forward", lambda self, x, masks: seen.append(masks) or forward(self, x, masks)
    )
    pretrain(replace(config, seed=5, mask='{"sampler": "OptimBlue", "delta": 2, "steps": 9}'))
    pretrain(replace(config, seed=5, mask="random", out=config.out / "random", epochs=1))
    expected = OptimBlue((4, 4), 0.75, delta=2, steps=9, seed=5)
    for number, masks in enumerate(seen[:18]):
        assert torch.equal(masks.ids_keep, expected(range(4 * number, 4 * number + 4)).ids_keep)
    # Four complementary masks of 4 of 16 tokens: a batch is a partition.
    assert seen[0].ids_keep.flatten().sort().values.tolist() == list(range(16))
    assert torch.equal(seen[18].ids_keep, White3D((1, 4, 4), 0.75, seed=5)(range(4)).ids_keep)


def test_two_runs_are_the_same_run(config, tmp_path):
    first = weights(pretrain(config))
    second = weights(pretrain(replace(config, out=tmp_path / "other", workers=2)))
    assert same(first, second)
    assert losses(config.out) == losses(tmp_path / "other")


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(config, tmp_path, monkeypatch):
    whole = weights(pretrain(config))
    broken = replace(config, out=tmp_path / "broken")
    write = RunLog.step

    def stop(self, record):
        write(self, record)
        if record["step"] == 9:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain(broken)
    assert checkpoint.newest(broken.out)[2]["step"] == 6
    torch.rand(7)  # dropout must not depend on the caller's generator
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "measure", None)  # a resumed run has the statistics of its checkpoint
        resumed = weights(pretrain(replace(broken, resume=True)))
    assert same(whole, resumed)
    assert losses(broken.out) == losses(config.out)  # steps 7 to 9 are there once


def wait_for_step(process, run, step):
    deadline = time.monotonic() + 120
    while max(losses(run), default=0) < step:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_process_that_is_killed_goes_on_with_the_same_bits(config, tmp_path, number):
    """Killed, it goes on from a checkpoint. Asked to stop, as a scheduler or Ctrl-C asks the whole group, it saves
    first, and says by its exit status that it is not done."""
    config = replace(config, epochs=25, workers=1, save_every=4)
    killed = replace(config, out=tmp_path / "killed")
    process = start(killed)
    wait_for_step(process, killed.out, 9)
    os.killpg(process.pid, number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), said
    assert ("go on with --resume" in said) == (number != signal.SIGKILL)
    resumed = start(killed, "--resume")
    said, _ = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, said
    pretrain(config)
    assert losses(killed.out) == losses(config.out)
    assert same(checkpoint.newest(killed.out)[0], checkpoint.newest(config.out)[0])


def test_accumulating_is_a_larger_batch(config, tmp_path):
    pretrain(replace(config, batch_size=12, epochs=3))
    pretrain(replace(config, batch_size=4, accumulate=3, epochs=3, out=tmp_path / "other"))
    assert list(losses(config.out).values()) == pytest.approx(
        list(losses(tmp_path / "other").values()), rel=1e-4
    )


def test_bfloat16_trains(config):
    pretrain(replace(config, dtype="bfloat16", clip_grad=1.0, epochs=1, checkpoint_blocks=True))
    assert max(losses(config.out).values()) < 10


def test_the_callers_generator_is_left_alone(config):
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    pretrain(replace(config, epochs=1))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_seeded_draws_are_functions_of_seed_and_step():
    def draw(seed, step):
        with torch_seeded(seed, step, CPU):
            return torch.rand(4).tolist()

    assert draw(1, 2) == draw(1, 2)
    assert len({tuple(draw(*pair)) for pair in ((1, 2), (2, 1), (1, 3), (2**63, 2))}) == 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.filterwarnings("ignore:.*not have a deterministic implementation")
def test_a_gpu_run_resumes_with_the_same_bits_and_leaves_generators_alone(config, tmp_path):
    torch.cuda.manual_seed(3)
    state = torch.cuda.get_rng_state()
    config = replace(config, device="cuda", dtype="float32")
    pretrain(config)
    stopped = replace(config, out=tmp_path / "stopped")
    asked = iter([False] * 6 + [True])
    pretrain(stopped, stop=lambda: next(asked))
    pretrain(replace(stopped, resume=True))
    assert losses(stopped.out) == losses(config.out)
    assert torch.equal(torch.cuda.get_rng_state(), state)


def test_a_run_is_never_overwritten_by_accident(config):
    pretrain(replace(config, epochs=1))
    with pytest.raises(CheckpointError, match="already holds a run"):
        pretrain(replace(config, epochs=1))
    for change, words in (
        ({"mask": "random"}, "sampler, sampler: OptimBlue then, Random now"),
        ({"mask": '{"sampler": "OptimBlue", "steps": 3}'}, "sampler, steps: 256 then, 3 now"),
        ({"statistics": (-7.0, 4.0)}, "statistics: auto then"),
    ):
        with pytest.raises(CheckpointError, match=rf"another recipe(?s:.*){words}"):
            pretrain(replace(config, epochs=1, resume=True, **change))


def test_a_trained_model_comes_back_with_its_inputs(config):
    model = pretrain(replace(config, epochs=1)).eval()
    again, inputs = trained(config.out)
    assert same(model.state_dict(), again.state_dict())
    clip = AudioClips(find_sounds(config.data), rate=RATE, samples=inputs.samples)[0]["wave"][None]
    assert inputs(clip).shape == (1, 32, 32)
    torch.testing.assert_close(again.eval().features(inputs(clip)), model.features(inputs(clip)))
    assert inputs.statistics == tuple(checkpoint.newest(config.out)[2]["recipe"][n] for n in ("mean", "std"))


def test_a_run_of_another_trainer_is_not_taken_for_one(tmp_path):
    layer = torch.nn.Linear(2, 2)
    checkpoint.save(tmp_path, 1, layer, torch.optim.AdamW(layer.parameters()), {"recipe": {"model": "tiny"}})
    with pytest.raises(CheckpointError, match=r"no run of smnoise\.train\.audio: its recipe has no rate"):
        trained(tmp_path)


def test_first_weights_are_a_function_of_the_seed(config):
    assert same(untrained(config).state_dict(), untrained(replace(config, mask="random")).state_dict())
    other = untrained(replace(config, seed=1)).state_dict()
    assert not same(untrained(config).state_dict(), other)


def test_a_run_that_diverges_stops_and_its_checkpoints_are_sound(config):
    diverging = replace(config, base_lr=1e12, min_lr=0, save_every=1, log_every=100)
    with pytest.raises(FloatingPointError, match="Lower base_lr"):
        pretrain(diverging)
    for folder in checkpoint.steps(config.out):
        assert all(v.isfinite().all() for v in checkpoint.read(folder)[0].values())


def test_a_checkpoint_of_before_there_were_several_processes_is_resumed(config):
    """Its recipe has batch_size and accumulate, and no setting that was added later."""
    pretrain(replace(config, epochs=1))
    file = checkpoint.steps(config.out)[0] / "state.json"
    state = json.loads(file.read_text())
    clips = state["recipe"].pop("clips_per_step")
    state["recipe"] |= {"batch_size": clips, "accumulate": 1}
    del state["recipe"]["roll"]
    file.write_text(json.dumps(state))
    manifest = file.parent / "manifest.json"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"state.json": digest}))
    trained(config.out)
    pretrain(replace(config, epochs=1, resume=True, batch_size=2, accumulate=2))
    with pytest.raises(CheckpointError, match="clips_per_step: 4 then, 8 now"):
        pretrain(replace(config, epochs=1, resume=True, batch_size=2, accumulate=4))


def test_an_error_ends_the_workers_too(config):
    """Also those that ignore the signals of a terminal and a scheduler."""
    diverging = replace(config, base_lr=1e12, min_lr=0, save_every=1, workers=2)
    process = start(diverging)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Lower base_lr" in said
