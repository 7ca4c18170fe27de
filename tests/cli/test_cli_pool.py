# SPDX-License-Identifier: Apache-2.0
"""smnoise pool: files are built, described, checked and drawn from; what cannot be is refused."""

import json

import numpy as np
import pytest

import smnoise
from smnoise import pools
from smnoise.cli import main

from .calls import call, flags


def test_pools_are_built_described_checked_and_drawn_from(capsys, tmp_path):
    path, copy = tmp_path / "pool.safetensors", tmp_path / "copy.safetensors"
    budget = ["--grid", "2", "4", "4", "--num-visible", "8"]
    built = json.loads(
        call(capsys, "pool", "build", "tube", *budget, *flags(patterns=20, out=path), "--json")
    )
    assert (built["kind"], built["patterns"], built["num_visible"]) == ("masks", 20, 8)
    assert json.loads(call(capsys, "pool", "info", str(path), "--json")) == built
    assert json.loads(call(capsys, "pool", "info", str(path), "--check", "--json")) == {
        **built,
        "checked": True,
    }
    assert "its data is what its hash says" in call(capsys, "pool", "info", str(path), "--check")
    pool = pools.load(path)
    assert pool == pools.build_masks(smnoise.Tube((2, 4, 4), num_visible=8), 20)
    drawn = json.loads(call(capsys, "sample", str(path), "--seed", "4", "--count", "3", "--json"))
    wanted = smnoise.PoolSampler(pool, seed=4)(range(3)).ids_keep.tolist()
    assert [row["ids_keep"] for row in drawn["samples"]] == wanted

    noise = ["--noise", "--size", "3", "6", "6", *flags(patterns=5, out=copy)]
    assert "patterns: 5" in call(capsys, "pool", "build", "green-3d", *noise)
    found = json.loads(call(capsys, "sample", str(copy), "--grid", "2", "4", "4", "--json"))
    assert (found["num_visible"], found["grid"]) == (3, [2, 4, 4])

    stack = np.random.default_rng(0).random((4, 8, 8), dtype=np.float32)
    np.savez(tmp_path / "green.npz", stack)
    told = json.loads(
        call(capsys, "pool", "colormae", str(tmp_path / "green.npz"), f"--out={copy}", "--json")
    )
    assert (told["kind"], told["size"], told["patterns"]) == ("noise", [1, 8, 8], 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "green-3d", "--size", "3", "6", "6", "--out", "x.safetensors"], "add --noise"),
        (["build", "tube", "--noise", "--out", "x.safetensors"], "colour samplers"),
        (
            ["build", "green-3d", "--noise", "--mask-ratio", "0.5", "--out", "x.safetensors"],
            "leave out mask_ratio",
        ),
        (["build", "tube", "--patterns", "3", "--out", "pool"], "must end with .safetensors"),
        (
            ["build", "tube", "--patterns", "3", "--out", f"{__file__}/x.safetensors"],
            "test_cli_pool.py is a file",
        ),
        (["info", "absent.safetensors"], "absent.safetensors"),
        (["info", "damaged.safetensors", "--check"], "damaged.safetensors"),
    ],
)
def test_pools_that_cannot_be_are_refused(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call(
        capsys,
        "pool",
        "build",
        "random",
        "--grid",
        "1",
        "4",
        "4",
        *flags(patterns=9, out="damaged.safetensors"),
    )
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert main(["pool", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["damaged.safetensors"]
