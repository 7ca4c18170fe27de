# SPDX-License-Identifier: Apache-2.0
"""The share of waiting, by a clock that only goes when it is told to."""

import pytest

from smnoise.train.run.throughput import IN_A_ROW, LIMITED, LoaderWaits, Verdict


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def slow_batches(clock, seconds, count=6):
    for n in range(count):
        clock.now += seconds
        yield n


def test_the_share_is_that_of_the_time_spent_waiting():
    clock = Clock()
    waits, seen = LoaderWaits(clock), []
    for batch in waits.watch(slow_batches(clock, 3.0)):
        clock.now += 1.0
        seen.append(batch)
        if batch == 2:
            assert waits.take() == pytest.approx(0.75)
    assert seen == list(range(6))
    assert waits.take() == pytest.approx(0.75)
    assert waits.take() == 0


def test_a_loader_that_keeps_up_waits_for_nothing():
    clock = Clock()
    waits = LoaderWaits(clock)
    for _ in waits.watch(slow_batches(clock, 0.0)):
        clock.now += 1.0
    assert waits.take() == 0


def test_what_is_no_training_is_left_out():
    clock = Clock()
    waits = LoaderWaits(clock)
    for _ in waits.watch(slow_batches(clock, 1.0)):
        clock.now += 1.0
    clock.now += 88.0
    waits.pause(88.0)
    assert waits.take() == pytest.approx(0.5)


def test_an_error_of_the_loader_is_passed_on():
    def broken():
        yield 1
        raise OSError("disk")

    batches = LoaderWaits().watch(broken())
    assert next(batches) == 1
    with pytest.raises(OSError, match="disk"):
        next(batches)


def test_the_verdict_is_given_once_after_some_lines_in_a_row():
    verdict = Verdict("buy a faster disk")
    quick, slow = LIMITED / 2, 0.634
    assert [verdict(share) for share in (slow, slow, quick, slow, slow)] == [None] * 5
    assert (
        verdict(slow)
        == "the loader is the limit: 63% of the time is spent waiting for data; buy a faster disk"
    )
    assert not any(verdict(share) for share in (slow, quick, slow, slow, slow, slow))
    assert IN_A_ROW == 3
