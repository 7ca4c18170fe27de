# SPDX-License-Identifier: Apache-2.0
"""The linear probe: the right minimum, nothing learned from the test set, whole groups left out."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from scipy.optimize import minimize
from torch.nn.functional import binary_cross_entropy_with_logits as sigmoid_loss
from torch.nn.functional import cross_entropy

from smnoise import DataError
from smnoise.data.audio.clips import EveryFile
from smnoise.data.audio.fbank import LogMel, fit_length, normalise
from smnoise.data.labels import labelled_sounds
from smnoise.models.audiomae import AudioMAE
from smnoise.models.common import Size
from smnoise.probes.logistic import BIAS_STRENGTH, FOLDS, Labelled, fit, folds
from smnoise.train import audio as pretraining
from smnoise.train.probe import STRENGTHS, Config, features_of, few_shot, linear_probe, probe_run

from .clusters import clusters

RATE = 8000

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def sets():
    return *clusters(90, spread=2.0, seed=1), *clusters(60, spread=2.0, seed=2)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("strength", [0.5, 1e-3])
def test_the_classifier_is_the_minimum_that_another_solver_finds(several, strength):
    x, y = clusters(40, classes=3, width=4, spread=2.0)
    if several:
        y = (torch.rand(40, 3, generator=torch.Generator().manual_seed(5)) < 0.4).int()
    found = fit(Labelled.checked("train", x, y), [1.0, strength])[1]
    standard = (x.double() - x.double().mean(0)) / x.double().std(0, correction=0)

    def loss(flat):
        flat = torch.tensor(flat, requires_grad=True)
        weight, bias = flat[:12].view(4, 3), flat[12:]
        logits = standard @ weight + bias
        value = 3 * sigmoid_loss(logits, y.double()) if several else cross_entropy(logits, y)
        value = value + strength / 2 * weight.square().sum() + BIAS_STRENGTH / 2 * bias.square().sum()
        value.backward()
        return value.item(), flat.grad.numpy()

    want = minimize(loss, np.zeros(15), jac=True, method="BFGS", options={"gtol": 1e-10}).x
    np.testing.assert_allclose(found.weight.flatten().numpy(), want[:12], atol=1e-5)
    np.testing.assert_allclose(found.bias.numpy(), want[12:], atol=1e-4)
    torch.testing.assert_close(found(x), standard @ found.weight + found.bias)


def test_separable_classes_are_told_apart_without_fail():
    probe = linear_probe(*clusters(30, spread=0.1), *clusters(300, spread=0.1, seed=3))
    assert probe.accuracy == probe.mean_average_precision == 1
    assert probe.left_out == []


def test_noise_is_told_apart_by_chance():
    x = torch.randn(600, 20, generator=torch.Generator().manual_seed(0))
    y = torch.arange(600) % 4
    probe = linear_probe(x[:400], y[:400], x[400:], y[400:])
    assert abs(probe.accuracy - 0.25) < 0.1  # three deviations of 200 trials
    assert probe.strength == max(STRENGTHS)
    assert abs(few_shot(x[:400], y[:400], x[400:], y[400:]).accuracy - 0.25) < 0.05


def test_several_labels_a_clip():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 6, generator=generator)
    y = (x @ torch.randn(6, 5, generator=generator) > 1).int()
    probe = linear_probe(x[:200], y[:200], x[200:], y[200:])
    assert math.isnan(probe.accuracy)
    assert probe.mean_average_precision > 0.95
    y[200:, 2] = 0
    probe = linear_probe(x[:200], y[:200], x[200:], y[200:])
    assert probe.left_out == [2]
    y[:200, 3] = 0  # a class that training has none of: by chance, and finite
    assert linear_probe(x[:200], y[:200], x[200:], y[200:]).classifier.bias.isfinite().all()


def test_the_order_of_clips_changes_nothing(sets):
    x, y, test_x, test_y = sets
    groups = [f"group {i // 2}" for i in range(len(x))]
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    for grouped in (None, groups):
        one = linear_probe(x, y, test_x, test_y, groups=grouped)
        moved = grouped and [grouped[i] for i in order]
        two = linear_probe(x[order], y[order], test_x.flip(0), test_y.flip(0), groups=moved)
        assert (one.strength, one.accuracy) == (two.strength, two.accuracy)
        torch.testing.assert_close(one.classifier.weight, two.classifier.weight, atol=1e-6, rtol=0)


def test_the_same_features_give_the_same_bits(sets):
    one, two = linear_probe(*sets), linear_probe(*sets)
    assert one[:4] == two[:4]
    assert torch.equal(one.classifier.weight, two.classifier.weight)
    assert few_shot(*sets, draws=3) == few_shot(*sets, draws=3)
    assert few_shot(*sets, draws=3) != few_shot(*sets, draws=3, seed=1)


def test_the_test_set_chooses_nothing(sets):
    x, y, test_x, test_y = sets
    probe = linear_probe(*sets)
    other = linear_probe(x, y, torch.randn(7, 8), torch.tensor([0, 0, 2, 1, 0, 1, 2]))
    wrong = linear_probe(x, y, test_x, (test_y + 1) % 3)
    for changed in (other, wrong):
        assert changed.strength == probe.strength
        for name in ("mean", "scale", "weight", "bias"):
            assert torch.equal(getattr(changed.classifier, name), getattr(probe.classifier, name))
    assert wrong.accuracy < 0.5 < probe.accuracy


def test_a_group_is_in_one_part_and_every_part_has_every_class():
    x, y = clusters(120)
    groups = [(i * 7 % 24, int(y[i])) for i in range(120)]
    part = folds(Labelled.checked("train", x, y), groups)
    assert all(
        len({int(p) for p, g in zip(part, groups, strict=True) if g == group}) == 1 for group in groups
    )
    assert {(int(p), int(c)) for p, c in zip(part, y, strict=True)} == {
        (p, c) for p in range(FOLDS) for c in range(3)
    }
    assert torch.bincount(part).min() >= 24


def test_groups_keep_the_choice_from_rewarding_memory():
    """Each group has a feature of its own that tells it from all others, and labels that nothing tells."""
    generator = torch.Generator().manual_seed(0)
    group = torch.arange(120) // 10
    y = group % 2
    x = torch.nn.functional.one_hot(group, 12) + 0.05 * torch.randn(120, 12, generator=generator)
    test_x, test_y = torch.randn(4, 12, generator=generator), torch.arange(4) % 2
    assert linear_probe(x, y, test_x, test_y).strength == min(STRENGTHS)
    assert linear_probe(x, y, test_x, test_y, groups=group.tolist()).strength > 0.01


def test_one_group_a_class_leaves_nothing_to_choose_by(sets):
    _, y, *_ = sets
    assert linear_probe(*sets, groups=(y == 0).tolist()).strength in STRENGTHS
    two = y < 2
    probe = linear_probe(sets[0][two], y[two], sets[2][:2], sets[3][:2], groups=y[two].tolist())
    assert probe.strength == STRENGTHS[2]


def test_a_constant_feature_is_no_feature(sets):
    x, y, test_x, test_y = sets
    wide = torch.cat([x, torch.full((len(x), 1), 3.0)], dim=1)
    test = torch.cat([test_x, torch.randn(len(test_x), 1)], dim=1)
    assert linear_probe(wide, y, test, test_y)[:3] == linear_probe(*sets)[:3]


def test_few_shot_sees_so_many_clips_of_each_class(sets, monkeypatch):
    seen = []

    def note(x, y, *rest, **kw):
        seen.append((x, y))
        return linear_probe(x, y, *rest, **kw)

    monkeypatch.setattr("smnoise.probes.linear.linear_probe", note)
    result = few_shot(*sets, per_class=5, draws=4)
    assert result.accuracy == pytest.approx(sum(result.accuracies) / 4)
    assert all(y.bincount().tolist() == [5, 5, 5] for _, y in seen)
    assert not torch.equal(seen[0][0], seen[1][0])
    assert 1 / 3 < result.accuracy <= linear_probe(*sets).accuracy + 0.05


NAN = torch.full((6, 2), math.nan)
X, Y = torch.randn(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((NAN, Y, X, Y), r"train features hold NaN or Inf in 6 of 6 rows"),
        ((X, Y, NAN, Y), r"test features hold NaN"),
        ((X[:0], Y[:0], X, Y), r"train needs .* at least one; got \(0, 2\) and \(0,\)"),
        ((X, Y, X[:0], Y[:0]), r"test needs"),
        ((X, Y[:5], X, Y), r"got \(6, 2\) and \(5,\)"),
        ((X, Y * 0 + 1, X, Y * 0 + 1), r"one class only, 1"),
        ((X, Y * 2, X, Y), r"test has clips of class 1, and train has none"),
        ((X, Y.clamp(max=1), X, Y), r"2 in number; got 3"),
        ((X, Y, X[:, :1], Y), r"width 2, test of 1"),
        ((X, Y - 1, X, Y), r"got -1 to 1"),
        ((X, X, X, X), r"0 and 1 \[N, C\]"),
        ((X, X * 0, X, X * 0), r"no class that some clips are of"),
    ],
)
def test_what_cannot_be_probed_is_an_error(arguments, words):
    with pytest.raises(ValueError, match=words):
        linear_probe(*arguments)


def test_other_errors():
    with pytest.raises(TypeError, match="integers"):
        linear_probe(X, Y.double(), X, Y)
    with pytest.raises(ValueError, match="a group for each of 6 training clips, got 1"):
        linear_probe(X, Y, X, Y, groups=[0])
    with pytest.raises(ValueError, match="strengths must be positive"):
        linear_probe(X, Y, X, Y, strengths=[0.0])
    with pytest.raises(ValueError, match="per_class=4, and 2 clips of class 0"):
        few_shot(X, Y, X, Y)
    with pytest.raises(ValueError, match="one label a clip"):
        few_shot(X, (X > 0).int(), X, Y)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    generator = np.random.default_rng(0)
    for n in range(6):
        soundfile.write(folder / f"{n}.wav", 0.1 * generator.standard_normal(RATE // 2 + 3000 * n), RATE)
    return folder


@pytest.fixture
def model():
    torch.manual_seed(0)
    return AudioMAE(Size(24, 2, 2, 16, 2, 2), (4, 2))


def inputs(waves, lengths):
    return normalise(fit_length(LogMel(RATE, 32)(waves, lengths), 64), -4.0, 4.0)


def test_features_are_the_models_own_in_order_whatever_the_batch(sounds, model):
    clips = EveryFile(sorted(sounds.glob("*.wav")), RATE, LogMel(RATE, 32).num_samples(64))
    one = features_of(model, clips, inputs, batch_size=1)
    for size, workers in ((4, 0), (6, 1)):
        many = features_of(model, clips, inputs, batch_size=size, workers=workers)
        torch.testing.assert_close(one.features, many.features, atol=1e-5, rtol=1e-5)
        assert many.places == list(range(6))
    for i, row in enumerate(one.features):
        wave = clips[i]["wave"][None]
        want = model.features(inputs(wave, torch.tensor([clips[i]["length"]])))[0]
        torch.testing.assert_close(row, want, atol=1e-5, rtol=1e-5)


def test_a_clip_is_the_middle_of_a_longer_file(sounds):
    samples = 5001
    whole, _ = soundfile.read(sounds / "5.wav", dtype="float32")
    start = (len(whole) - samples) // 2
    item = EveryFile([sounds / "5.wav"], RATE, samples)[0]
    assert np.array_equal(item["wave"].numpy(), whole[start : start + samples])
    short = EveryFile([sounds / "0.wav"], RATE, RATE)[0]
    assert short["length"] == RATE // 2
    assert not short["wave"][RATE // 2 :].any()


def test_a_file_that_does_not_decode_has_no_row(sounds, model, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"not a sound")
    files = sorted(sounds.glob("*.wav"))
    samples = LogMel(RATE, 32).num_samples(64)
    found = features_of(model, EveryFile([files[0], broken, files[1]], RATE, samples), inputs, batch_size=2)
    assert found.places == [0, 2]
    assert len(found.features) == 2
    assert len(found.broken) == 1
    assert "broken.wav" in found.broken[0]
    with pytest.raises(DataError, match=r"none of the 1 sound files decodes:(?s:.*)broken\.wav"):
        features_of(model, EveryFile([broken], RATE, samples), inputs)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Low and high tones in noise, 8 files each in train and 4 in test, of 2 sources a class."""
    folder = tmp_path_factory.mktemp("corpus")
    generator = np.random.default_rng(1)
    for side, count in (("train", 8), ("test", 4)):
        for label, hertz in (("high", 2000), ("low", 300)):
            (folder / side / label).mkdir(parents=True)
            for n in range(count):
                phase = 2 * np.pi * hertz * np.arange(RATE) / RATE
                wave = 0.3 * np.sin(phase) + 0.1 * generator.standard_normal(RATE)
                soundfile.write(folder / side / label / f"{label}{n % 2}-{n}.wav", wave, RATE)
    return folder


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    config = pretraining.Config(
        data=corpus / "train",
        out=tmp_path_factory.mktemp("pretrained") / "run",
        model="tiny",
        rate=RATE,
        frames=64,
        mels=32,
        statistics="auto",
        mask="random",
        batch_size=8,
        accumulate=1,
        epochs=1,
        warmup_epochs=0,
        workers=0,
        device="cpu",
    )
    pretraining.pretrain(config)
    return config.out


def run_command(*arguments):
    command = [sys.executable, "-m", "smnoise.train.probe", *map(str, arguments)]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=alone)


def test_the_command_line(run, corpus):
    arguments = ("--run", run, "--train", corpus / "train", "--test", corpus / "test")
    done = run_command(*arguments, "--groups", "(.*)-", "--json")
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    assert (scores["train_clips"], scores["test_clips"]) == (16, 8)
    assert scores["classes"] == ["high", "low"]
    assert scores["accuracy"] == scores["mean_average_precision"] == 1
    table = run_command(*arguments).stdout
    assert "accuracy" in table
    assert "1.0000" in table


def write_list(path, folder, lines):
    path.write_text("".join(f"{folder / name} {labels}\n" for name, labels in lines))
    return path


def test_lists_with_one_label_and_with_several(run, corpus, tmp_path):
    names = sorted(str(p.relative_to(corpus / "train")) for p in (corpus / "train").rglob("*.wav"))
    one = [(name, int("low" in name)) for name in names]
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"not a sound")
    train = write_list(tmp_path / "train.txt", corpus / "train", [*one, (broken, 0), ("gone.wav", 1)])
    config = Config(run, train, train, device="cpu")
    scores = probe_run(config)
    assert scores["accuracy"] == 1
    assert scores["train_clips"] == 16
    broken, gone = sorted(scores["skipped"], key=lambda message: "gone.wav" in message)  # each once
    assert "broken.wav" in broken
    assert gone.endswith(f"gone.wav 1' of {train} names no file")
    several = [(name, "0;2" if "low" in name else "1,2") for name in names]
    several = write_list(tmp_path / "several.txt", corpus / "train", [*several[:-1], (names[-1], "0")])
    scores = probe_run(replace(config, train=several, test=several))
    assert scores["accuracy"] is None
    assert scores["mean_average_precision"] > 0.9
    few = probe_run(replace(config, per_class=2, draws=3))
    assert len(few["accuracies"]) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"run": "nowhere"}, "no whole checkpoint"),
        ({"test": "nowhere"}, "two folders or two lists"),
        ({"groups": "(x)"}, "does not match groups"),
        ({"groups": "high|low"}, "with a bracket"),
        ({"groups": "("}, "with a bracket"),
    ],
)
def test_errors_of_the_command_are_one_line(run, corpus, change, words):
    config = {"run": run, "train": corpus / "train", "test": corpus / "test"} | change
    done = run_command(*(word for name, value in config.items() for word in (f"--{name}", value)))
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_labels_that_cannot_be_used(corpus, tmp_path):
    train, test = corpus / "train", corpus / "test"
    with pytest.raises(DataError, match="leave the number out"):
        labelled_sounds(train, test, classes=3)
    only = tmp_path / "only"
    shutil.copytree(train / "high", only / "high")
    with pytest.raises(DataError, match=r"one class only, 'high'"):
        labelled_sounds(only, only)
    with pytest.raises(DataError, match=r"has a class 'low'; the classes of .* are high"):
        labelled_sounds(only, test)
    two = write_list(tmp_path / "two.txt", train, [("low/low0-0.wav", 0), ("high/high0-0.wav", 1)])
    three = write_list(tmp_path / "three.txt", train, [("low/low0-0.wav", 2)])
    assert labelled_sounds(two, three, classes=4)[1].targets.tolist() == [[0, 0, 1, 0]]
    with pytest.raises(DataError, match=r"three\.txt has label 2; expected 0 to 1"):
        labelled_sounds(two, three)
    with pytest.raises(DataError, match=r"expected labels .* behind low0-0\.wav, got 'dog'"):
        labelled_sounds(two, write_list(tmp_path / "bad.txt", train, [("low/low0-0.wav", "dog")]))
