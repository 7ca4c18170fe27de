# SPDX-License-Identifier: Apache-2.0
"""random_words: the reference's words on every target; what they are is section 1 of the contract."""

import numpy as np
import pytest
import torch
from cases import SAMPLES

from smnoise import ops, reference


@pytest.mark.parametrize("purpose", [0, 2, 3, 7, 8, 15])
@pytest.mark.parametrize("count", [1, 5, 64, 1567])
def test_equals_the_reference(target, purpose, count):
    got = target.random_words(purpose, count, SAMPLES, seed=2**64 - 3)
    want = [reference.random_words(2**64 - 3, sample, purpose, count).astype(np.int64) for sample in SAMPLES]
    assert got.dtype == torch.int64
    assert torch.equal(got, torch.from_numpy(np.stack(want)))


def test_the_largest_count(target):
    got = target.random_words(4, 1 << 18, [5])[0]
    assert torch.equal(got, torch.from_numpy(reference.random_words(0, 5, 4, 1 << 18).astype(np.int64)))
    assert torch.equal(target.random_words(4, 1000, [5])[0], got[:1000])


def test_a_word_is_an_output_of_the_named_philox_call():
    for j in (0, 1, 6, 4 * 65535 + 3):
        counter = [j >> 2, 9 << 28, 11, 1]
        want = reference.philox(np.array(counter), 77)[j & 3]
        assert reference.random_words(77, 2**32 + 11, 9, j + 1)[j] == want


def test_a_row_depends_on_its_own_sample_only(target):
    samples = torch.arange(26).reshape(13, 2).t()[1]  # strides of two
    whole = target.random_words(3, 50, samples)
    order = torch.tensor([7, 3, 12, 0, 3])
    assert torch.equal(target.random_words(3, 50, samples[order]), whole[order])
    assert len({tuple(row.tolist()) for row in whole}) == 13


def test_words_of_other_purposes_and_seeds_are_others(target):
    rows = [target.random_words(p, 9, [1], seed=s) for p, s in ((3, 0), (4, 0), (3, 1), (3, 2**32))]
    assert len({tuple(row[0].tolist()) for row in rows}) == 4


def test_nothing_asked_for(target):
    assert target.random_words(3, 0, [1, 2]).shape == (2, 0)
    assert target.random_words(3, 4, []).shape == (0, 4)


@pytest.mark.parametrize(
    ("purpose", "count", "words"),
    [
        (-1, 4, "purpose must be in 0..15"),
        (16, 4, "purpose"),
        (3, -1, "count"),
        (3, 2**18 + 1, "count must be"),
    ],
)
def test_refuses(purpose, count, words):
    with pytest.raises(ValueError, match=words):
        ops.random_words(torch.tensor(0), torch.arange(2), purpose, count)


def test_compiled():
    torch._dynamo.reset()

    @torch.compile(fullgraph=True)
    def step(seed, samples):
        return ops.random_words(seed, samples, 5, 6) % 10

    for first in (0, 40):
        seed, samples = torch.tensor(first), torch.arange(first, first + 4)
        assert torch.equal(step(seed, samples), ops.random_words(seed, samples, 5, 6) % 10)
