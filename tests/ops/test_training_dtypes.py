# SPDX-License-Identifier: Apache-2.0
"""Training ops and models in bfloat16 and float16, on the CPU and on a GPU, beside float32 on the CPU."""

import copy

import pytest
import torch
from targets import Target, skip_without

from smnoise import Green3D, MaskBatch, OptimBlue
from smnoise.models.audiomae import AudioMAE
from smnoise.models.videomae import VideoMAE
from smnoise.ops import decoder_tokens, gather_patches, patch_loss

GRID, PATCH = (4, 4, 4), (2, 8, 8)
# One unit in the last place of a number near 1, times what a few roundings of inputs make of it.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


@pytest.fixture(params=["cpu", "cuda"])
def device(request) -> str:
    if request.param == "cuda":
        skip_without(request.config, "cuda", Target("cuda", device="cuda").why_not())
    return request.param


def drawn(number: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(number))


def pixels_of(dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (2, 3, 8, 32, 32), generator=generator).to(dtype)


def masks_on(device: str) -> MaskBatch:
    return Green3D(GRID, 0.75)(range(2)).to(device)


PIXELS = pytest.mark.parametrize("pixels", [torch.uint8, torch.float32])


@pytest.mark.parametrize("dtype", TOLERANCE)
class TestOps:
    """Given the numbers that the dtype can hold, the results are those of float32 to the dtype's rounding."""

    @PIXELS
    def test_patch_loss(self, device, dtype, pixels):
        prediction = drawn(4, 2, 48, 384).to(dtype)
        found = {}
        for place, kind in (("cpu", torch.float32), (device, dtype)):
            given = prediction.to(place, kind).requires_grad_()
            loss = patch_loss(given, pixels_of(pixels).to(place), masks_on(place).ids_mask, PATCH)
            (3 * loss).backward()
            assert (loss.dtype, given.grad.dtype) == (torch.float32, kind)
            found[kind] = loss.detach().cpu(), given.grad.float().cpu()
        (loss, gradient), (want, want_gradient) = found[dtype], found[torch.float32]
        torch.testing.assert_close(loss, want, rtol=1e-5, atol=0)
        # Gradients are small: the tolerance is relative to the largest.
        torch.testing.assert_close(
            gradient,
            want_gradient,
            rtol=TOLERANCE[dtype],
            atol=TOLERANCE[dtype] * want_gradient.abs().max().item(),
        )

    def test_decoder_tokens(self, device, dtype):
        visible, mask_token, positions = (
            drawn(5, 2, 16, 24).to(dtype),
            drawn(6, 24).to(dtype),
            drawn(7, 64, 24),
        )
        found = {}
        for place, kind in (("cpu", torch.float32), (device, dtype)):
            masks = masks_on(place)
            given = [v.to(place, kind).requires_grad_() for v in (visible, mask_token)]
            tokens = decoder_tokens(*given, positions.to(place), masks.ids_keep, masks.ids_mask)
            tokens.square().mean().backward()
            assert [tokens.dtype, *(v.grad.dtype for v in given)] == [torch.float32, kind, kind]
            found[kind] = tokens.detach().cpu(), *(v.grad.float().cpu() for v in given)
        got, want = found[dtype], found[torch.float32]
        torch.testing.assert_close(got[0], want[0], rtol=1e-6, atol=1e-6)
        for one, other in zip(got[1:], want[1:], strict=True):
            torch.testing.assert_close(one, other, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * 1e-2)

    @PIXELS
    def test_gather_patches(self, device, dtype, pixels):
        """Its result is float32 whatever autocast says."""
        found = []
        for place in ("cpu", device):
            given, half = pixels_of(pixels).to(place), place == device and dtype is not torch.float32
            with torch.autocast(place, dtype if half else torch.bfloat16, enabled=half):
                patches = gather_patches(
                    given, masks_on(place).ids_keep, PATCH, drawn(8, 3).to(place), drawn(9, 3).to(place)
                )
            assert patches.dtype == torch.float32
            found.append(patches.cpu())
        torch.testing.assert_close(*found, rtol=1e-6, atol=1e-5)


def video():
    torch.manual_seed(0)
    return VideoMAE("nano", GRID, tubelet=2, patch=8), pixels_of(torch.uint8), Green3D(GRID, 0.75)


def audio(decoder: str):
    torch.manual_seed(0)
    return AudioMAE("tiny", (8, 4), patch=8, decoder=decoder), drawn(1, 2, 64, 32), OptimBlue((8, 4), 0.75)


MODELS = {"video": video, "audio, global": lambda: audio("global"), "audio, local": lambda: audio("local")}


@pytest.mark.filterwarnings("ignore:.*TF32.*")
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", MODELS)
def test_models_in_bfloat16(device, name, compiled):
    """Loss to 1 %, and gradients that point the same way, as float32's on the CPU."""
    model, inputs, sampler = MODELS[name]()
    model.eval()  # without the local decoder's dropout, which is drawn anew on each device
    other = copy.deepcopy(model).to(device)
    want, _ = model(inputs, sampler(range(2)))
    want.backward()
    # Inductor compiles for minutes on a CPU; what it is given there, forward and backward, is what aot_eager runs.
    backend = "inductor" if device == "cuda" else "aot_eager"
    torch._dynamo.reset()
    call = torch.compile(other, backend=backend) if compiled else other
    with torch.autocast(device, torch.bfloat16):
        loss, prediction = call(inputs.to(device), sampler(range(2)).to(device))
    loss.backward()
    assert loss.dtype == torch.float32
    assert prediction.dtype == torch.bfloat16
    assert abs(loss.item() - want.item()) < 1e-2 * want.item()
    grown = [
        (p.grad, q.grad)
        for p, q in zip(model.parameters(), other.parameters(), strict=True)
        if p.grad is not None
    ]
    assert len(grown) > 10
    one, two = (
        torch.cat([g.detach().float().cpu().flatten() for g in side]) for side in zip(*grown, strict=True)
    )
    assert torch.nn.functional.cosine_similarity(one, two, dim=0) > 0.99
