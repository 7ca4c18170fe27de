# SPDX-License-Identifier: Apache-2.0
"""On a GPU: the largest numbers and batches, several devices and threads, races that no sanitizer sees."""

import threading
import time

import pytest
import torch
from targets import Target, skip_without

import smnoise
from smnoise import Green3D, MaskStream, OptimBlue, ops, strategy
from smnoise.spec import signed64

GREEN = Green3D((4, 7, 9), 0.9)
SAMPLERS = {
    "Green3D": GREEN,
    "torus": Green3D((4, 7, 9), 0.9, boundary="wrap"),
    "Optim Blue": OptimBlue((16, 8), 0.8),
    "Optim Blue, independent": OptimBlue((16, 8), 0.8, masks="independent"),
    "block": strategy("block", (4, 7, 9), 0.5),
    "running cell": strategy("running-cell", (4, 8, 8), 0.5),
}
NUMBERS = (0, 1, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1)
LARGE_BLUE = OptimBlue(
    (64, 64), 0.95, steps=20
)  # its arrays lie in global memory, which racecheck does not watch


@pytest.fixture(params=["cuda", "triton"])
def gpu(request) -> str:
    """The name of a GPU backend."""
    skip_without(request.config, "cuda", Target(request.param, device="cuda").why_not())
    return request.param


@pytest.fixture
def two_devices(gpu) -> str:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU")
    return gpu


@pytest.mark.parametrize("name", SAMPLERS)
def test_largest_seeds_and_samples(gpu, name):
    sampler = SAMPLERS[name]
    samples = torch.tensor([signed64(n) for n in NUMBERS])
    for seed in NUMBERS:
        got = sampler(samples.cuda(), seed=seed, backend=gpu)
        assert torch.equal(got.mask.cpu(), sampler(samples, seed=seed, backend="reference").mask)


def test_more_tokens_in_a_batch_than_int32_counts(gpu):
    sampler, batch = Green3D((8, 14, 14), 0.9, boundary="wrap"), 1_400_000
    if torch.cuda.mem_get_info()[0] < 6 << 30:
        pytest.skip("less than 6 GiB of the GPU's memory are free")
    assert batch * sampler.num_tokens > 2**31
    masks = sampler(torch.arange(batch, device="cuda"), backend=gpu, outputs="mask").mask
    last = torch.arange(batch - 4, batch)
    assert torch.equal(masks[-4:].cpu(), sampler(last).mask)
    assert torch.equal(masks[:4].cpu(), sampler(range(4)).mask)


def test_races_in_global_memory_would_change_something_in_twenty_runs(gpu):
    if gpu != "cuda":
        pytest.skip("Triton refuses this grid")
    samples = torch.arange(64, device="cuda")
    want = LARGE_BLUE(range(64)).mask
    for _ in range(20):
        assert torch.equal(LARGE_BLUE(samples, backend=gpu).mask.cpu(), want)


def test_nothing_waits_by_the_clock(gpu):
    """torch's debug mode sees torch's waits alone; a busy GPU shows those of CuPy and the driver too."""
    stream = MaskStream(GREEN, 8, device="cuda", backend=gpu)
    stream()
    torch.cuda.synchronize()
    torch.cuda._sleep(400_000_000)  # some 0.2 s
    busy = torch.cuda.Event()
    busy.record()
    for _ in range(5):
        stream()
    assert not busy.query(), "the calls returned only when the GPU had become idle"


def test_on_a_device_that_is_not_the_current_one(two_devices):
    with torch.cuda.device(0):
        for sampler in SAMPLERS.values():
            for device in ("cuda:1", "cuda:0"):
                got = sampler(range(5), device=device, backend=two_devices)
                assert got.device == torch.device(device)
                assert torch.equal(got.mask.cpu(), sampler(range(5)).mask)


def test_a_thread_for_each_device(two_devices):
    found, wrong = {}, []

    def work(device: str) -> None:
        try:
            for step in range(20):
                found[device, step] = GREEN(
                    batch_size=8, step=step, device=device, backend=two_devices
                ).mask.cpu()
        except Exception as error:  # seen by the test, not lost with the thread
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(f"cuda:{n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for (_, step), mask in found.items():
        assert torch.equal(mask, GREEN(batch_size=8, step=step).mask)


@pytest.mark.parametrize("outputs", ["ids_keep", "mask,ids_restore"])
def test_masks_of_a_clock_of_threads(gpu, outputs):
    """Eight threads that share samplers, streams and caches."""
    samples = torch.arange(16, device="cuda")
    want = {name: sampler(range(16), outputs=outputs).tensors for name, sampler in SAMPLERS.items()}
    wrong, until = [], time.monotonic() + 2

    def work() -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            while time.monotonic() < until and not wrong:
                for name, sampler in SAMPLERS.items():
                    got = sampler(samples, backend=gpu, outputs=outputs).tensors
                    if not all(torch.equal(g.cpu(), w) for g, w in zip(got, want[name], strict=True)):
                        wrong.append(name)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_random_words_of_the_largest_numbers(gpu):
    samples = torch.tensor([signed64(n) for n in NUMBERS])
    for seed in NUMBERS:
        seed = torch.tensor(signed64(seed))
        got = ops.random_words(seed.cuda(), samples.cuda(), 15, 37, gpu)
        assert torch.equal(got.cpu(), ops.random_words(seed, samples, 15, 37, "reference"))


def test_a_batch_of_none(gpu):
    for sampler in SAMPLERS.values():
        masks = sampler(torch.empty(0, dtype=torch.int64, device="cuda"), backend=gpu)
        assert masks.mask.shape == (0, sampler.num_tokens)
    assert smnoise.ops.threshold(torch.empty(0, 9, device="cuda"), 3, 1, gpu)[0].shape == (0, 9)
