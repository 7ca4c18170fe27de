# SPDX-License-Identifier: Apache-2.0
"""The smnoise command as a person uses it: help at once, results on stdout, JSON that parses, exit codes that tell."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

import smnoise
from smnoise import cli, conformance
from smnoise.cli import COMMANDS, bench, main, sample
from smnoise.data.installed.videos import installed_clips

from .calls import call, flags, start


def test_help_of_every_command_comes_without_torch_or_numpy():
    code = (
        "import sys\n"
        "from smnoise.cli import COMMANDS, main\n"
        "names = [name for name in COMMANDS if name not in ('probe', 'study')]\n"
        "calls = [[], ['--help'], ['--version'], *([name, '--help'] for name in names),\n"
        "         ['viz', 'video', '--help'], ['viz', 'audio', '--help'], ['viz', 'reconstruct', '--help'],\n"
        "         ['pool', 'build', '--help'], ['pool', 'info', '--help'], ['pool', 'colormae', '--help']]\n"
        "assert [main(call) for call in calls] == [0] * len(calls)\n"
        "print('loaded', {'torch', 'numpy', 'matplotlib', 'av'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("loaded set()\n")
    for name in COMMANDS:
        assert f"  {name}" in done.stdout
    assert smnoise.__version__ in done.stdout.splitlines()


def test_every_command_is_a_module_here_or_a_trainer():
    modules = {path.stem for path in Path(cli.__file__).parent.glob("*.py")}
    assert set(COMMANDS) - set(cli.TRAINERS) <= modules


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["smaple"], "did you mean sample?"),
        (["sample", "--gird", "3"], "--grid"),
        (["sample", "--count", "many"], "--count"),
        (["sample", "tubes-of-cheese"], "green-3d"),
        (["sample", "--count", "0"], "count must be at least 1"),
        (["sample", "--count", "100000"], "give --out"),
        (["sample", "--out", "masks.txt"], ".npz or .safetensors"),
        (["sample", "--mask-ratio", "1.5"], "mask_ratio"),
        (["sample", "--mask-ratio", "0.5", "--num-visible", "3"], "just one"),
        (["sample", "beit", "--mask-ratio", "1e308"], "mask_ratio"),
        (["sample", "audiomae-2d", "--mask-ratio", "0.5"], "two numbers, of time and of frequency"),
        (["sample", "--out", f"{__file__}/masks.npz"], "test_cli.py is a file"),
        (["sample", "random", "--count", str(10**15), "--out", "masks.npz"], "memory"),
        (["sample", "{}"], "expected an object"),
        (["sample", "absent.json"], "absent.json"),
        (["sample", "--grid", "1", "1", "1"], "one token cannot be masked in part"),
        (["sample", '{"sampler": "Green3D", "seed": 3}'], "the JSON of a Green3D needs grid"),
        (["viz", "video", "--out", "x", "--patch", "0"], "patch must be in 1"),
        (["viz", "video", "--out", "x", "--stride", "0"], "stride must be in 1"),
        (["viz", "video", "--out", "x", "--milliseconds", "-5"], "milliseconds must be in 10"),
        (["viz", "video", "--out", "x", "--grid", "800", "14", "14"], "a film of 1600 pictures"),
        (["viz", "video", "--out", "x", "--columns", "0"], "columns must be in 1"),
        (["viz", "audio", "--out", "x", "--colors", "0"], "colors must be in 2"),
        (["viz", "audio", "--out", "x", "--samples", "0"], "samples must be in 1"),
        (["viz", "audio", "--out", "x", "--start", "nan"], "start must be a number"),
        (["viz", "audio", "--out", "x", "--patch", "1000000"], "patch must be in 1"),
        (["viz"], "video"),
        (["viz", "video", "--out", "x", "--file", "absent.mp4"], "absent.mp4 is no file"),
        (["report", "green-3d"], "--out"),
        (["bench", "--seconds", "0"], "above 0"),
        (["pretrain"], "{video,audio,audiovisual}"),
        (["pretrain", "pictures"], "{video,audio,audiovisual}"),
        (["pretrain", "video", "--data", "x"], "--out"),
        (["pretrain", "video", "--data", "absent", "--out", "run"], "absent"),
        (["finetune", "audio", "--run", "x"], "smnoise finetune audio"),
        (["probe", "--run", "absent", "--train", "a", "--test", "b"], "absent"),
        (["convert", "absent", "out"], "absent"),
    ],
)
def test_wrong_use_is_2_and_says_what_was_expected(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert "Traceback" not in said.err
    assert not said.out
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - set(cli.TRAINERS)))
def test_examples_in_the_help_stand_on_lines_of_their_own(name, capsys):
    lines = call(capsys, name, "--help").splitlines()
    examples = [line for line in lines if f"smnoise {name}" in line and not line.startswith("usage")]
    assert examples
    assert all(line.count(f"smnoise {name}") == 1 for line in examples)


def test_sample_draws_the_masks_of_the_sampler(capsys):
    lines = call(
        capsys, "sample", "green-3d", "--grid", "2", "4", "6", "--mask-ratio", "0.75", "--first", "7"
    ).splitlines()
    assert lines[0] == "sample 7: 12 of 48 tokens visible (#), grid 2 x 4 x 6"
    assert lines[1].split() == ["t", "=", "0", "t", "=", "1"]
    drawn = [[[letter == "." for letter in row.split()[t]] for row in lines[2:]] for t in range(2)]
    assert drawn == smnoise.Green3D((2, 4, 6), 0.75)([7]).volume()[0].tolist()


@pytest.mark.parametrize("strategy", ["random", "green-3d", "optim-blue"])
def test_sample_as_json_gives_the_sampler_back(strategy, capsys):
    found = json.loads(
        call(capsys, "sample", strategy, "--grid", "16", "8", "--count", "3", "--seed", "5", "--json")
    )
    sampler = smnoise.from_json(json.dumps(found["sampler"]))
    assert (found["num_visible"], found["num_tokens"], sampler.seed) == (25, 128, 5)
    assert [row["ids_keep"] for row in found["samples"]] == sampler(range(3)).ids_keep.tolist()
    assert [row["sample"] for row in found["samples"]] == [0, 1, 2]


@pytest.mark.parametrize("name", [*smnoise.STRATEGIES, *smnoise.presets])
def test_every_strategy_and_recipe_has_a_name_here_and_a_usual_budget(name, capsys):
    found = json.loads(call(capsys, "sample", name, "--json"))
    assert len(found["samples"][0]["ids_keep"]) == found["num_visible"]
    family, _, dimensions = name.partition("-")
    listed = f"{family}-" if dimensions in ("1d", "2d", "3d", "2d-tube") else name
    assert listed in sample.__doc__.split("Strategies:")[1]


def test_a_sampler_comes_from_json_or_its_file(capsys, tmp_path):
    sampler = smnoise.Green3D((2, 4, 4), num_visible=5, boundary="wrap", seed=3)
    (tmp_path / "mine.json").write_text(sampler.to_json())
    for given in (sampler.to_json(), str(tmp_path / "mine.json")):
        found = json.loads(call(capsys, "sample", given, "--json"))
        assert found["samples"][0]["ids_keep"] == sampler([0]).ids_keep[0].tolist()
    assert main(["sample", str(tmp_path / "mine.json"), "--mask-ratio", "0.5"]) == 2
    assert "has its num_visible; leave out mask_ratio" in capsys.readouterr().err


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_sample_writes_files_that_others_read(ending, capsys, tmp_path):
    path = tmp_path / f"masks{ending}"
    options = ["--grid", "2", "4", "4", *flags(count=70, first=9, out=path)]
    said = json.loads(call(capsys, "sample", *options, "--json"))
    assert said["out"] == str(path)
    if ending == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            found = {
                name: torch.from_numpy(arrays[name])
                for name in ("mask", "ids_keep", "ids_mask", "ids_restore")
            }
            sampler, first = smnoise.from_json(str(arrays["sampler"])), int(arrays["first"])
    else:
        with safe_open(path, "pt") as stored:
            found = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            sampler, first = smnoise.from_json(stored.metadata()["sampler"]), int(stored.metadata()["first"])
    wanted = smnoise.Green3D((2, 4, 4), 0.9)(range(9, 79))
    assert (sampler, first) == (smnoise.Green3D((2, 4, 4), 0.9), 9)
    assert all(torch.equal(found[name], getattr(wanted, name)) for name in found)
    assert len(found) == 4


def test_bench_measures_and_leaves_threads_and_generators_alone(capsys):
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    found = json.loads(
        call(capsys, "bench", "random", "optim-blue", "--grid", "16", "4", "--seconds", "0.01", "--json")
    )
    rows = found["results"]
    assert {row["strategy"] for row in rows} == {"random", "optim-blue"}
    for times in (row[of] for row in rows for of in ("microseconds a mask", "MAE random masking")):
        assert 0 < times["low"] <= times["median"] <= times["high"]
    assert all(row["of MAE random masking"] > 0 for row in rows)
    assert 0 < found["share of a core"] <= 1
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert "of MAE's" in call(capsys, "bench", "random", "--grid", "16", "4", "--seconds", "0.01")


def test_bench_says_that_others_took_the_processor():
    steady, wide = {"median": 5.0, "low": 4.8, "high": 5.3}, {"median": 5.0, "low": 4.0, "high": 9.0}
    rows = [
        {"strategy": "tube", "threads": 1, "microseconds a mask": steady},
        {"strategy": "green-3d", "threads": 2, "microseconds a mask": wide},
    ]
    assert bench.doubts(0.99, rows[:1]) == bench.doubts(None, rows[:1]) == []
    spread = bench.doubts(0.99, rows)
    assert len(spread) == 1
    assert "green-3d (2 threads)" in spread[0]
    assert "tube" not in spread[0]
    assert "got 43% of a core" in bench.doubts(0.43, rows[:1])[0]


def test_bench_knows_its_share_of_a_core():
    """A call that sleeps has no core, as one whose core another program took."""
    idle = bench.measured(lambda: time.sleep(0.01), torch.device("cpu"), 0.05, 2)
    assert idle.share < 0.5
    assert 5000 <= idle.low <= idle.median <= idle.high


def test_list_shows_what_every_command_takes(capsys):
    everything = json.loads(call(capsys, "list", "--json"))
    assert [row["name"] for row in everything] == [*smnoise.STRATEGIES, *smnoise.presets]
    for row in everything:
        sampler = smnoise.sampler_of(row["name"], tuple(row["grid"]))
        assert (row["tokens"], row["num_visible"]) == (sampler.num_tokens, sampler.visible_per_sample)
        assert row["class"] == type(sampler).__name__
        assert 10 < len(row["about"]) < 150
    table = call(capsys, "list")
    assert all(f"\n{row['name']} " in table for row in everything)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("videomae", ["videomae-tube", "videomaev2-decoder"]),
        ("VIDEOMAE-T*", ["videomae-tube"]),
        ("optimblue", ["optim-blue", "paper-audio"]),
        ("?*-1d", ["white-1d", "red-1d", "blue-1d", "green-1d", "purple-1d"]),
    ],
)
def test_list_by_pattern(capsys, pattern, names):
    assert [row["name"] for row in json.loads(call(capsys, "list", pattern, "--json"))] == names


def test_list_of_nothing_says_what_was_meant(capsys):
    assert main(["list", "grene-3d"]) == 2
    assert "did you mean green-3d" in capsys.readouterr().err


def test_doctor_knows_this_machine(capsys):
    found = json.loads(call(capsys, "doctor", "--json"))
    findings = {f["name"]: f for f in found["findings"]}
    assert found["healthy"]
    assert findings["known answers"]["state"] == findings["backend cpu"]["state"] == "ok"
    assert findings["timm"]["state"] == findings["av"]["state"] == "ok"
    assert findings["GPU"]["state"] == ("ok" if torch.cuda.is_available() else "absent")
    assert {f["state"] for f in findings.values()} <= {"ok", "absent"}
    assert "known answers" in call(capsys, "doctor")


def test_doctor_fails_where_an_answer_is_wrong(capsys, tmp_path, monkeypatch):
    known = json.loads(conformance.built_in().read_text())
    known["color"][0]["first_visible"][0] += 1
    (tmp_path / "kat.json").write_text(json.dumps(known))
    monkeypatch.setattr(conformance, "built_in", lambda: tmp_path / "kat.json")
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "BROKEN" in said
    assert "smnoise verify" in said


@pytest.fixture(scope="module")
def run_of_video(tmp_path_factory) -> Path:
    """A tiny VideoMAE after two steps, trained by the command in a process of its own; its JSON is checked here."""
    out = tmp_path_factory.mktemp("runs") / "video"
    size = flags(model="tiny", frames=4, size=32, short_side=32, stride=1, mask_ratio=0.5)
    length = flags(epochs=1, warmup_epochs=0, batch_size=2, workers=0, log_every=1)
    data = flags(data=installed_clips(), out=out)
    process = start("pretrain", "video", *data, *size, *length, "--json")
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    said = json.loads(stdout)
    assert (said["out"], said["step"], said["last"]["step"]) == (str(out), 2, 2)
    assert said["last"]["loss"] > 0
    assert Path(said["checkpoint"]).is_dir()
    return out


def test_a_run_of_the_command_goes_on_with_the_module_and_is_drawn(run_of_video, capsys, tmp_path):
    said = json.loads(
        call(capsys, "viz", "reconstruct", "--run", str(run_of_video), "--out", str(tmp_path), "--json")
    )
    assert {Path(path).name for path in said["files"]} == {
        f"reconstruction.{e}" for e in ("png", "pdf", "gif")
    }
    assert all(Path(path).stat().st_size > 1000 for path in said["files"])
    assert said["leaked"] < said["own"]  # the true statistics help even a model that knows nothing


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_have_their_exit_codes(number, code):
    with start("bench", "--seconds", "600") as process:
        try:
            _wait_until_it_handles_sigterm(process)
            process.send_signal(number)
            _, stderr = process.communicate(timeout=120)
        finally:
            process.kill()
    # Where Ctrl-C meets code that is made by exec, as that of dataclasses is, Python ends itself by the signal in the
    # end; shells show 130 for that too.
    assert process.returncode in ((code, -number) if number == signal.SIGINT else (code,))
    assert "Traceback" not in stderr


def _wait_until_it_handles_sigterm(process: subprocess.Popen) -> None:
    """The command has begun once it has its handler."""
    for _ in range(600):
        if process.poll() is not None:
            pytest.fail(f"it ended before it began: {process.stderr.read()}")
        caught = next(
            line
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
            if line.startswith("SigCgt")
        )
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.05)
    pytest.fail("the command never began")


@pytest.mark.parametrize("arguments", [["--help"], ["sample"]])
def test_output_that_cannot_be_written_is_2_in_words(arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "smnoise", *arguments],
            stdout=full, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
    assert done.returncode == 2
    assert re.fullmatch("smnoise.*No space left on device\n", done.stderr)


def test_closed_streams_are_no_error():
    command = f"{shlex.quote(sys.executable)} -m smnoise"
    done = subprocess.run(
        f"{command} sample >&- && ! {command} nonsense 2>&-", shell=True, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_reader_that_has_gone_is_no_error():
    with start("sample", "--count", "100") as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
