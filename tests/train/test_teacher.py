# SPDX-License-Identifier: Apache-2.0
"""Students that predict a frozen teacher's latents, of both media: what they are taught, what a recipe says of it, what
goes on after a stop, and who can use the student."""

from dataclasses import replace

import pytest
import torch
from media import write_clips_and_sounds

from smnoise import CheckpointError
from smnoise.convert.files import read
from smnoise.models.audiomae import AudioMAE
from smnoise.models.latent import LatentAudioMAE, LatentVideoMAE
from smnoise.models.videomae import VideoMAE
from smnoise.train import audio, probe, video
from smnoise.train.pretrained.find import pretrained
from smnoise.train.run import checkpoint, log
from smnoise.train.teacher import Teacher, checksum

pytestmark = pytest.mark.slow
TRAINERS = {"video": video, "audio": audio}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_clips_and_sounds(tmp_path_factory.mktemp("data"))


def settings(medium, data, out, **more):
    common = {
        "data": data,
        "out": out,
        "model": "tiny",
        "patch": 8,
        "mask_ratio": 0.75,
        "batch_size": 2,
        "epochs": 2,
        "warmup_epochs": 1,
        "base_lr": 0.128,
        "workers": 0,
        "device": "cpu",
        "log_every": 1,
        "save_every": 3,
    }
    if medium == "video":
        own = {"frames": 4, "stride": 2, "size": 32, "clips_per_video": 4}
        return video.Config(**common | own | more)
    own = {"rate": 8000, "frames": 32, "mels": 32, "clips_per_file": 4, "statistics": (-5.0, 3.0)}
    return audio.Config(**common | own | more)


@pytest.fixture(scope="module", params=["video", "audio"])
def medium(request):
    return request.param


@pytest.fixture(scope="module")
def teacher(medium, data, tmp_path_factory):
    """A run of a step or six, which is enough to be read."""
    config = settings(medium, data, tmp_path_factory.mktemp("teacher") / "run", seed=5)
    TRAINERS[medium].pretrain(config)
    return config.out


@pytest.fixture
def config(medium, data, tmp_path, teacher):
    model = {"model": "nano"} if medium == "video" else {"statistics": (-4.0, 2.0)}
    return settings(medium, data, tmp_path / "run", teacher=teacher, **model)


def losses(run):
    return {r["step"]: r["loss"] for r in log.read(run) if "loss" in r}


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def train(config, **more):
    return TRAINERS[config.MEDIUM].pretrain(config, **more)


def test_a_student_learns_what_its_teacher_makes_of_whole_clips(config, teacher, monkeypatch):
    """The loss is computed anew of the clips, with the teacher as it is read from its run."""
    kind = LatentVideoMAE if config.MEDIUM == "video" else LatentAudioMAE
    seen, forward = [], kind.forward
    monkeypatch.setattr(
        kind, "forward", lambda self, *given: seen.append((given, found := forward(self, *given))) or found
    )
    before = checksum(pretrained(teacher).model)
    student = train(config)
    assert isinstance(student, kind)
    assert student.head.out_features == 192
    assert checksum(pretrained(teacher).model) == before
    by_step = losses(config.out)
    assert by_step[12] < 0.9 * by_step[1]
    found = pretrained(teacher)
    for step, ((inputs, masks, targets), (loss, prediction)) in enumerate(seen, 1):
        assert by_step[step] == pytest.approx(loss.item())
        assert not targets.requires_grad
        if config.MEDIUM == "audio":  # to the teacher's own statistics: (x - mean) / (2 std)
            inputs = (inputs * 4 - 4 + 5) / 6
        tokens = found.model.eval().tokens(inputs)
        torch.testing.assert_close(targets, tokens, rtol=1e-4, atol=1e-4)
        for row in range(2):
            wanted = tokens[row, masks.ids_mask[row]]
            wanted = (wanted - wanted.mean(1, keepdim=True)) / (
                wanted.var(1, correction=0, keepdim=True) + 1e-5
            ).sqrt()
            error = (prediction[row] - wanted).abs().mean()
            each = student.losses(prediction, targets, masks)
            torch.testing.assert_close(each[row], error, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(each.mean(), loss)


def test_a_resumed_student_ends_where_an_uninterrupted_one_does(config, tmp_path):
    whole = weights(train(config))
    broken = replace(config, out=tmp_path / "broken")
    asked = iter([False] * 3 + [True])
    train(broken, stop=lambda: next(asked))
    assert same(whole, weights(train(replace(broken, resume=True))))
    assert losses(broken.out) == losses(config.out)


def test_the_recipe_has_a_checksum_of_the_teachers_weights(config, medium, data, teacher, tmp_path):
    train(replace(config, epochs=1))
    record = checkpoint.newest(config.out)[2]["recipe"]["teacher"]
    assert record == {"width": 192, "weights": checksum(pretrained(teacher).model)}
    other = settings(medium, data, tmp_path / "other", seed=6, epochs=1)
    train(other)
    with pytest.raises(CheckpointError, match=r"teacher, weights: sha256 .* then, sha256 .* now"):
        train(replace(config, epochs=1, teacher=other.out, resume=True))
    with pytest.raises(CheckpointError, match=r"teacher: \{.*\} then, \(no such setting\) now"):
        train(replace(config, epochs=1, teacher=None, resume=True))
    with pytest.raises(CheckpointError, match=r"teacher: \(no such setting\) then"):
        train(replace(other, teacher=teacher, resume=True))


def test_a_student_can_be_probed_and_taught_from_and_not_converted(config, data, tmp_path):
    """Without its teacher, which it does not need any more."""
    student = train(replace(config, epochs=1))
    found = pretrained(config.out)
    assert same(weights(found.model), weights(student))
    assert found.first().head.out_features == 192
    suffix = "mp4" if config.MEDIUM == "video" else "wav"
    (data / f"{suffix}.txt").write_text("".join(f"{n}.{suffix} {n % 2}\n" for n in range(3)))
    lists = {"train": data / f"{suffix}.txt", "test": data / f"{suffix}.txt"}
    scores = probe.probe_run(
        probe.Config(
            run=config.out, **lists, all_checkpoints=True, probes=("linear", "nearest"), device="cpu"
        )
    )
    assert next(at["step"] for at in scores["checkpoints"]) == 0
    assert all(0 <= at["nearest_accuracy"] <= 1 for at in scores["checkpoints"])
    again = replace(config, teacher=config.out, out=tmp_path / "second", epochs=1)
    assert train(again).latents == found.model.size.width
    with pytest.raises(CheckpointError, match="predicts a teacher's latents"):
        read(config.out)


def test_views_and_sigmas_and_accumulation_go_with_a_teacher(config, tmp_path):
    more = {"mask": "green-2d", "sigmas": "bandit", "bandit_every": 2, "views": 2, "epochs": 1}
    train(replace(config, **more))
    shares = [r["sigma_shares"] for r in log.read(config.out) if "sigma_shares" in r]
    assert len(shares) == 5
    assert shares[-1] != shares[0]
    train(replace(config, epochs=1, accumulate=2, batch_size=1, out=tmp_path / "accumulated"))
    train(replace(config, epochs=1, out=tmp_path / "plain"))
    assert list(losses(tmp_path / "plain").values()) == pytest.approx(
        list(losses(tmp_path / "accumulated").values()), rel=1e-3
    )


def test_teachers_that_do_not_fit_are_told_before_the_first_step(config, medium, data, teacher, tmp_path):
    def told(words, error=CheckpointError, **change):
        with pytest.raises(error, match=words):
            train(replace(config, out=tmp_path / "none", **change))
        assert not (tmp_path / "none").exists()

    told("no whole checkpoint", teacher=tmp_path / "missing")
    (tmp_path / "file.pth").write_bytes(b"weights")
    told("is a file; make a folder of it", teacher=tmp_path / "file.pth")
    if medium == "video":
        told(r"has grid \(2, 4, 4\), and the student \(4, 4, 4\)", ValueError, frames=8)
        told(r"has patch 8, and the student 16", ValueError, patch=16)
        told("has tubelet 2, and the student 4", ValueError, tubelet=4)
    else:
        told(r"has grid \(4, 4\), and the student \(8, 4\)", ValueError, frames=64)
        told("hears 8000 Hz, and the student 16000", ValueError, rate=16000)
    other = settings("audio" if medium == "video" else "video", data, tmp_path / "other", epochs=1)
    train(other)
    told(f"no run of smnoise.train.{medium}", teacher=other.out)


def test_a_teacher_that_diverged_is_refused(config, teacher, monkeypatch, tmp_path):
    found = pretrained(teacher)
    next(found.model.parameters()).data[0] = float("nan")
    monkeypatch.setattr("smnoise.train.teacher.pretrained", lambda *given: found)
    with pytest.raises(CheckpointError, match="NaN or Inf"):
        train(config)


def test_students_without_a_width_and_targets_of_another_are_refused():
    for width in (0, -1, 1.5, True, None):
        with pytest.raises(ValueError, match="latents must be the width"):
            LatentVideoMAE(width, "nano", (2, 2, 2), patch=8)
    student = LatentAudioMAE(12, "tiny", (2, 2), patch=8)
    from smnoise import Random

    masks = Random((1, 2, 2), num_visible=1)([0])
    for shape in ((1, 4, 13), (2, 4, 12), (4, 12)):
        with pytest.raises(ValueError, match="targets must be what the teacher makes"):
            student(torch.zeros(1, 16, 16), masks, torch.zeros(shape))


def test_a_checksum_tells_any_change():
    model = VideoMAE("nano", (1, 2, 2), tubelet=1, patch=8)
    before = checksum(model)
    assert before == checksum(model)
    with torch.no_grad():
        model.mask_token[0, 0, 0] += 1e-3
    assert checksum(model) != before


def test_the_names_of_weights_stay_but_for_the_head():
    for plain, student in (
        (
            VideoMAE("nano", (1, 2, 2), tubelet=1, patch=8),
            LatentVideoMAE(5, "nano", (1, 2, 2), tubelet=1, patch=8),
        ),
        (AudioMAE("tiny", (2, 2), patch=8), LatentAudioMAE(5, "tiny", (2, 2), patch=8)),
    ):
        one, other = ({n: v.shape for n, v in m.state_dict().items()} for m in (plain, student))
        assert one.keys() == other.keys()
        assert {n for n in one if one[n] != other[n]} == {"head.weight", "head.bias"}


def test_a_teacher_gives_no_gradient(teacher, medium):
    found = pretrained(teacher)
    needed = {"patch": found.model.patch, "grid": found.model.grid}
    frozen = Teacher(teacher, medium, needed, CPU)
    assert not any(p.requires_grad for p in frozen.model.parameters())
    assert not frozen.model.training
