# SPDX-License-Identifier: Apache-2.0
"""The adapters that need torch alone: data loaders, VideoMAE's generators, arrays; and every module's example."""

import doctest
import pickle
from importlib import import_module

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, RandomSampler

import smnoise
from smnoise.adapters.arrays import as_arrays, from_array
from smnoise.adapters.dataloader import EpochNumbers, MaskCollate, Numbered
from smnoise.adapters.videomae import MaskingGenerator, NumberedMasks

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores

GRID = (2, 4, 4)
SAMPLER = smnoise.Green3D(GRID, 0.75, seed=5)


@pytest.mark.parametrize(
    "name", ["arrays", "dataloader", "huggingface", "lightning", "mae", "timm", "videomae"]
)
def test_the_example_in_the_docstring(name):
    if name == "huggingface":
        pytest.importorskip("transformers", minversion="5")
    failed, tried = doctest.testmod(import_module(f"smnoise.adapters.{name}"))
    assert not failed
    assert tried or name == "lightning"  # whose example is run by test_adapters_lightning.py


class Letters(Dataset):
    """Items that say which one they are."""

    def __len__(self):
        return 7

    def __getitem__(self, index):
        return {"letter": torch.tensor(index)}


def epochs_of(workers: int, order, batch_size: int = 3, epochs: int = 2) -> dict[int, list]:
    """Letters to the masks that they had, an entry an epoch."""
    loader = DataLoader(
        Numbered(Letters()),
        batch_size=batch_size,
        sampler=EpochNumbers(order, 7),
        collate_fn=MaskCollate(SAMPLER),
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    found: dict[int, list] = {}
    for _ in range(epochs):
        for batch, masks in loader:
            for letter, mask in zip(batch["letter"].tolist(), masks.mask, strict=True):
                found.setdefault(letter, []).append(mask.tolist())
    return found


class TestDataLoader:
    def test_masks_depend_on_the_clip_and_the_epoch_alone(self):
        want = {i: [SAMPLER([e * 7 + i]).mask[0].tolist() for e in range(2)] for i in range(7)}
        assert epochs_of(0, range(7)) == want
        assert epochs_of(1, RandomSampler(Letters()), batch_size=2) == want
        assert epochs_of(3, RandomSampler(Letters())) == want

    def test_ranks_share_an_epoch(self):
        ranks = [
            epochs_of(0, DistributedSampler(Letters(), num_replicas=2, rank=r, seed=1), epochs=1)
            for r in (0, 1)
        ]
        want = epochs_of(0, range(7), epochs=1)
        assert set(ranks[0]) | set(ranks[1]) == set(range(7))
        for rank in ranks:
            assert all(masks[0] == want[letter][0] for letter, masks in rank.items())

    def test_each_pass_is_an_epoch_also_of_the_order_inside(self):
        order = DistributedSampler(Letters(), num_replicas=1, rank=0, seed=1)
        numbers = EpochNumbers(order, 7)
        first, second = list(numbers), list(numbers)
        assert sorted(first) == list(range(7))
        assert sorted(second) == list(range(7, 14))
        assert [n % 7 for n in second] != first
        numbers.set_epoch(1)
        assert list(numbers) == second
        assert len(numbers) == 7

    def test_a_wrong_size_is_found_out(self):
        with pytest.raises(ValueError, match=r"0\.\.4.*got 5"):
            list(EpochNumbers(range(7), 5))

    def test_an_iterable_data_set_is_refused(self):
        class Stream(torch.utils.data.IterableDataset):
            def __iter__(self):
                return iter(())

        for wrap in (Numbered, lambda d: NumberedMasks(d, MaskingGenerator(SAMPLER))):
            with pytest.raises(TypeError, match="no length"):
                wrap(Stream())
        with pytest.raises(TypeError, match="no length"):
            len(EpochNumbers(iter(range(7)), 7))

    def test_only_what_was_asked_for_travels(self):
        collate = pickle.loads(pickle.dumps(MaskCollate(SAMPLER, list, outputs="ids_keep")))
        batch, masks = collate([(3, "c"), (8, "h")])
        assert batch == ["c", "h"]
        assert masks.mask is None
        assert torch.equal(masks.ids_keep, SAMPLER([3, 8]).ids_keep)


class Clips(Dataset):
    """Made as VideoMAE's data sets are: an item calls the generator, somewhere inside and without an argument."""

    def __init__(self, generator):
        self.generator = generator

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return index, self.generator()


class TestMaskingGenerator:
    def test_what_videomae_expects(self):
        generator = MaskingGenerator(GRID, 0.75, seed=5)
        for n in range(3):
            mask = generator()
            assert isinstance(mask, np.ndarray)
            assert mask.dtype == np.float64
            assert np.array_equal(mask, SAMPLER([n]).mask[0].double().numpy())
        assert "Green3D" in repr(generator)

    def test_other_masks(self):
        assert MaskingGenerator(GRID, 0.75, kind=smnoise.White3D).sampler == smnoise.White3D(GRID, 0.75)
        blue = smnoise.OptimBlue((2, 4, 4), 0.75)
        assert np.array_equal(MaskingGenerator(blue)(9), blue([9]).mask[0].numpy())
        with pytest.raises(ValueError, match="own ratio"):
            MaskingGenerator(blue, 0.9)
        with pytest.raises(ValueError, match="masks_per_sample"):
            MaskingGenerator(GRID, 0.75, masks_per_sample=0)

    @pytest.mark.parametrize("workers", [0, 1, 2])
    def test_a_function_of_clip_and_epoch_in_any_worker(self, workers):
        generator = MaskingGenerator(GRID, 0.75, seed=5)
        numbered = NumberedMasks(Clips(generator), generator)
        loader = DataLoader(numbered, sampler=EpochNumbers([4, 2, 0, 1, 3], 5), num_workers=workers)
        for epoch in range(2):
            for index, mask in loader:
                want = SAMPLER([epoch * 5 + index.item()]).mask[0].double()
                assert torch.equal(mask[0], want)

    def test_a_worker_that_was_not_told_refuses(self):
        loader = DataLoader(Clips(MaskingGenerator(GRID, 0.75)), num_workers=1)
        with pytest.raises(RuntimeError, match="NumberedMasks"):
            next(iter(loader))

    def test_a_number_for_each_call_in_a_worker(self):
        generator = MaskingGenerator(SAMPLER)

        class Own(Clips):
            def __getitem__(self, index):
                return self.generator(index)

        masks = torch.cat(list(DataLoader(Own(generator), num_workers=2)))
        assert torch.equal(masks, SAMPLER(range(5)).mask.double())

    def test_views_of_a_clip(self):
        generator = MaskingGenerator(SAMPLER, masks_per_sample=2)
        generator.tell(3)
        assert np.array_equal(generator(), SAMPLER([6]).mask[0])
        assert np.array_equal(generator(), SAMPLER([7]).mask[0])
        with pytest.raises(RuntimeError, match="masks_per_sample=2"):
            generator()


class TestArrays:
    def test_numpy_shares_the_memory(self):
        masks = SAMPLER(range(3))
        arrays = as_arrays(masks, np)
        for array, tensor in zip(arrays, masks.tensors, strict=True):
            assert np.array_equal(array, tensor.numpy())
            assert array.__array_interface__["data"][0] == tensor.data_ptr()
        assert arrays.mask.dtype == np.bool_
        assert as_arrays(SAMPLER(range(3), outputs="mask"), np).ids_keep is None

    def test_samples_from_numpy(self):
        want = SAMPLER([0, 2**63 - 1, 2**64 - 1])
        numbers = np.array([0, 2**63 - 1, 2**64 - 1], np.uint64)
        got = from_array(numbers)
        assert got.data_ptr() == numbers.__array_interface__["data"][0]
        for array in (numbers, numbers.view(np.int64), numbers.astype(">u8")):
            assert torch.equal(SAMPLER(from_array(array)).mask, want.mask)
            assert torch.equal(SAMPLER(array).mask, want.mask)
        small = np.array([3, 250], np.uint8)
        assert torch.equal(SAMPLER(from_array(small)).mask, SAMPLER([3, 250]).mask)
        assert torch.equal(SAMPLER(from_array(np.arange(8)[::2])).mask, SAMPLER([0, 2, 4, 6]).mask)

    def test_samples_that_may_only_be_read(self):
        numbers = np.arange(3)
        numbers.flags.writeable = False
        assert torch.equal(from_array(numbers), torch.arange(3))

    @pytest.mark.parametrize("value", [np.array([0.5]), np.array([True]), np.array([1j]), [1, 2], "12"])
    def test_what_is_no_array_of_integers(self, value):
        with pytest.raises(TypeError, match="integers"):
            from_array(value)

    def test_a_library_without_dlpack(self):
        with pytest.raises(TypeError, match="from_dlpack"):
            as_arrays(SAMPLER([0]), pickle)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="CuPy's arrays are on a GPU")
    def test_cupy_shares_the_memory(self):
        cupy = pytest.importorskip("cupy")
        masks = SAMPLER(from_array(cupy.arange(3)))
        assert masks.device.type == "cuda"
        arrays = as_arrays(masks, cupy)
        assert arrays.ids_keep.data.ptr == masks.ids_keep.data_ptr()
        assert np.array_equal(arrays.mask.get(), SAMPLER(range(3)).mask.numpy())
