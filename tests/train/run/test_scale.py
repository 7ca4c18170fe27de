# SPDX-License-Identifier: Apache-2.0
"""A loss that is too low or too high for VideoMAE's targets is told of once."""

from smnoise.train.run.scale import Scale


def told(losses, before=()):
    def records(values, first):
        return [{"step": first + 10 * n, "loss": loss} for n, loss in enumerate(values)]

    scale = Scale(records(before, 10), 100)
    said = [(r["step"], scale(r)) for r in records(losses, 10 + 10 * len(before))]
    return [(step, text) for step, text in said if text]


def test_a_loss_within_the_scale_is_no_news():
    assert told([1.0, 0.95, 0.9, 0.85, 0.79, 0.7, 0.6, 0.5, 0.46, 0.45]) == []


def test_too_easy_is_told_at_once_and_once():
    ((step, text),) = told([1.0, 0.6, 0.44, 0.43, 0.6, 0.3])
    assert step == 30
    assert "0.440, below 0.45" in text


def test_too_hard_is_told_in_the_second_half_and_once():
    ((step, text),) = told([0.95] * 10)
    assert step == 50
    assert "0.950 in the second half" in text


def test_it_is_not_told_again_after_a_restart():
    assert told([0.95] * 5, before=[0.95] * 5) == []
    assert told([0.4] * 5, before=[0.9, 0.4]) == []
    assert [step for step, _ in told([0.95] * 7, before=[0.95] * 3)] == [50]
