# SPDX-License-Identifier: Apache-2.0
"""smnoise.study in small: real cells, a study that goes on where it stopped, and its arithmetic against scipy."""

import json
import math

import av
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats

import smnoise
from smnoise import DataError
from smnoise.data.video.clips import open_video
from smnoise.data.video.lossless import write_lossless
from smnoise.study import cells, plan, table
from smnoise.study.__main__ import PICTURE, RESULTS, TABLE, Study, run
from smnoise.train.pretrained import video as video_runs

SMALL = plan.Size(
    2,
    0,
    plan.Video("nano", 4, 32, 48, 8, 32, 16, epochs=1, batch_size=8, base_lr=0.01, ratios=(0.75,),
               tune_epochs=1),
    plan.SIZES["laptop"].audio,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("one_thread")


def write_video(path, seed):
    """Blobs of several sizes, a few frames."""
    noise = np.random.default_rng(seed).standard_normal((96, 128, 3))
    smooth = sum(k * ndimage.gaussian_filter(noise, (k, k, 0), mode="wrap") for k in (2, 4, 8))
    image = (127 + 40 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished one; green, red and blue, two seeds."""
    folder = tmp_path_factory.mktemp("study")
    for number in range(2):
        write_video(folder / "train" / f"{number}.mp4", number)
    write_video(folder / "test" / "2.mp4", 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(plan.SIZES, "laptop", SMALL)
        study = Study(
            out=folder / "out",
            experiments=("colors-video",),
            videos=(folder / "train", folder / "test"),
            device="cpu",
        )
        run(study)
        yield study


def test_a_study_makes_every_cell_and_its_table(study):
    names = {path.stem for path in (study.out / "cells").iterdir()}
    models = [f"video-{color}-3d-8-{seed}" for color in ("green", "red", "blue") for seed in (0, 1)]
    assert names == {"video-inputs-0", "video-untrained-0", "video-untrained-1", *models}
    results = json.loads((study.out / RESULTS).read_text())
    found = results["experiments"]["colors-video"]
    assert found["missing cells"] == 0
    budget = found["visible tokens"]["8"]
    assert budget["masked"] == 0.75
    cell = json.loads((study.out / "cells" / "video-red-3d-8-1.json").read_text())
    for score in ("linear accuracy", "fine-tuned accuracy"):
        assert budget["rows"]["red-3d"][score]["values"][1] == cell["scores"][score]
    assert found["score"] == "fine-tuned accuracy"
    assert set(budget["rows"]["inputs"]) == {"seeds", "linear accuracy", "nearest accuracy"}
    assert cell["last loss"] < 2
    assert cell["made"]["torch"] == torch.__version__
    assert [(p["first"], p["second"]) for p in budget["comparisons"]] == [
        ("green-3d", "red-3d"), ("green-3d", "blue-3d"), ("red-3d", "blue-3d"),
    ]  # fmt: skip
    text = (study.out / TABLE).read_text()
    assert "| green-3d less blue-3d | 2 |" in text
    assert "2 seeds are few" in text
    with Image.open(study.out / PICTURE) as picture:
        assert picture.width > 300


def test_a_checkpoint_of_a_cell_names_the_mask_that_it_was_trained_with(study):
    for color in ("green", "red", "blue"):
        run_folder = study.out / "runs" / f"video-{color}-3d-8-1"
        sampler = video_runs.of_run(run_folder).sampler()
        assert sampler == smnoise.strategy(f"{color}-3d", sampler.grid, num_visible=8, seed=1)


def test_a_study_goes_on_where_it_stopped_and_cells_come_out_the_same(study, capsys):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (study.out / "cells").iterdir()}
    deleted, damaged = (
        study.out / "cells" / f"video-{name}.json" for name in ("green-3d-8-1", "untrained-0")
    )
    deleted.unlink()
    damaged.write_bytes(before[damaged][0][:100])
    run(study)
    printed = capsys.readouterr().out
    assert f"{damaged} is damaged" in printed
    assert (" of 9: video-green-3d-8-1" in printed, printed.count(" of 9: ")) == (True, 2)
    for path, (content, time) in before.items():
        if path in (deleted, damaged):
            assert json.loads(path.read_text())["scores"] == json.loads(content)["scores"]
        else:
            assert (path.read_bytes(), path.stat().st_mtime_ns) == (content, time)


def test_a_setting_that_came_later_counts_as_at_its_default(study):
    path = study.out / "cells" / "audio-random-25-0.json"
    wanted, cell = study.plan(), plan.Cell("audio", "random", 25, 0)
    cells.write(study.out, wanted, cell, {"few-label accuracy": 0.9}, {})
    older = json.loads(path.read_text())
    del older["settings"]["few"]
    path.write_text(json.dumps(older))
    assert cells.read(study.out, wanted, cell)[0]["scores"] == {"few-label accuracy": 0.9}
    path.unlink()


def test_a_stopped_cell_leaves_no_result_and_the_next_run_makes_it(study):
    path = study.out / "cells" / "video-blue-3d-8-0.json"
    scores = json.loads(path.read_text())["scores"]
    path.unlink()
    for file in sorted((study.out / "runs" / "video-blue-3d-8-0").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    run(study, stop=lambda: True)
    assert not path.exists()
    assert "**1 results are missing" in (study.out / TABLE).read_text()
    run(study)
    assert json.loads(path.read_text())["scores"] == scores


def test_cells_of_other_settings_are_not_mixed_in(study):
    path = study.out / "cells" / "video-red-3d-8-0.json"
    content = path.read_text()
    other = json.loads(content)
    other["settings"]["epochs"] = 7
    path.write_text(json.dumps(other))
    try:
        with pytest.raises(DataError, match="epochs is 7 there, 1 here; choose another --out"):
            run(study)
    finally:
        path.write_text(content)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"settings": {}, "scores": {}}', '{"scores": 3', "\0"])
def test_a_damaged_cell_is_said_and_counts_as_missing(tmp_path, content):
    wanted = Study().plan()
    cell = wanted.cells()[0]
    path = cells.path_of(tmp_path, cell)
    assert cells.read(tmp_path, wanted, cell) == (None, None)
    path.parent.mkdir()
    path.write_text(content)
    result, wrong = cells.read(tmp_path, wanted, cell)
    assert result is None
    assert f"{path} is damaged" in wrong


def test_shares_are_all_cells_once():
    wanted = Study().plan().cells()
    assert len(wanted) == len(set(wanted))
    parts = [wanted[part::3] for part in range(3)]
    assert sorted(cell.name for part in parts for cell in part) == sorted(cell.name for cell in wanted)
    with pytest.raises(ValueError, match="share must be K N"):
        Study(share=(2, 2))


@pytest.mark.parametrize("size", plan.SIZES)
@pytest.mark.parametrize("experiment", plan.EXPERIMENTS)
def test_all_strategies_of_an_experiment_show_just_as_many_tokens(size, experiment):
    medium, strategies = plan.EXPERIMENTS[experiment]
    task = getattr(plan.SIZES[size], medium)
    for ratio in task.ratios:
        visible = task.visible(ratio)
        assert abs(1 - visible / math.prod(task.grid) - ratio) < 0.02
        for strategy in strategies:
            masks = smnoise.strategy(strategy, task.grid, num_visible=visible, seed=3)(range(4))
            assert (masks.mask.sum(dim=1) == math.prod(task.grid) - visible).all()
            assert masks.ids_keep.shape == (4, visible)


def test_a_clip_is_kept_without_loss(tmp_path):
    clip = torch.randint(
        0, 256, (3, 8, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    write_lossless(tmp_path / "clip.mkv", clip)
    read = open_video(tmp_path / "clip.mkv").read(list(range(8)))
    assert torch.equal(torch.from_numpy(read).permute(3, 0, 1, 2), clip)


def test_a_comparison_is_what_scipy_and_the_formulas_say():
    first, second = [0.61, 0.66, 0.58, 0.70], [0.55, 0.62, 0.59, 0.61]
    found = table.compare(first, second)
    more = [0.06, 0.04, -0.01, 0.09]
    assert found.mean == pytest.approx(0.045)
    assert found.std == pytest.approx(math.sqrt(sum((x - 0.045) ** 2 for x in more) / 3))
    wanted = stats.ttest_1samp(more, 0)
    assert found.p == pytest.approx(wanted.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval(0.95)))
    # Of the 16 signs, the sum 0.18 is reached or passed by + + - + and + + + +, and the same reversed.
    assert found.exact_p == pytest.approx(4 / 16)


def test_three_seeds_cannot_fall_below_a_quarter_in_the_exact_test():
    found = table.compare([0.9, 0.91, 0.92], [0.1, 0.12, 0.11])
    assert found.exact_p == pytest.approx(0.25)
    assert found.p == pytest.approx(stats.ttest_rel([0.9, 0.91, 0.92], [0.1, 0.12, 0.11]).pvalue)


def test_comparisons_without_spread():
    assert table.compare([0.5], [0.25])[:2] == (1, 0.25)
    assert table.compare([0.5], [0.25]).p is None
    assert table.compare([0.5, 0.7], [0.5, 0.7]).p == 1
    assert table.compare([0.5, 0.75], [0.25, 0.5]).p is None
    with pytest.raises(ValueError, match="got 2 and 1"):
        table.compare([0.5, 0.7], [0.5])


def test_holm():
    assert table.holm([0.01, 0.04, None, 0.03]) == pytest.approx([0.03, 0.06, None, 0.06])
    assert table.holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
