# SPDX-License-Identifier: Apache-2.0
"""gather_patches, patch_loss and decoder_tokens: the right numbers on every target, gradients, what is refused."""

import math

import pytest
import torch
from cases import cut_out
from torch.autograd import gradcheck

import smnoise
from smnoise import ops

VIDEO = ((3, 4, 12, 15), (2, 4, 5))  # size (C, T, H, W), patch; grid (2, 3, 3)
SPECTROGRAM = ((1, 1, 12, 9), (1, 4, 3))  # grid (1, 3, 3)
WHOLE_VECTORS = ((2, 2, 16, 32), (2, 16, 16))  # grid (1, 1, 2)
SHAPES = {"video": VIDEO, "spectrogram": SPECTROGRAM, "whole vectors": WHOLE_VECTORS}
B = 3
single_precision = pytest.mark.filterwarnings("ignore:Input .* is not a double precision")  # of gradcheck


@pytest.fixture
def training(target):
    """A target that has training ops."""
    if target.isa == "block" or target.backend == "cuda":
        pytest.skip("GPUs have the Triton kernels")
    return target


@pytest.fixture(params=SHAPES)
def case(request):
    """Clips as bytes, and ids of two patches of each."""
    (c, t, h, w), patch = SHAPES[request.param]
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (B, c, t, h, w), dtype=torch.uint8, generator=generator)
    tokens = math.prod(n // p for n, p in zip((t, h, w), patch, strict=True))
    ids = torch.stack([torch.randperm(tokens, generator=generator)[:2] for _ in range(B)])
    return pixels, ids, patch


def on(target, *values):
    return [v.to(target.device) if isinstance(v, torch.Tensor) else v for v in values]


class TestGatherPatches:
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
    def test_each_patch_is_cut_out(self, training, case, dtype):
        pixels, ids, patch = case
        c = pixels.shape[1]
        scale, shift = torch.arange(1.0, c + 1) / 7, torch.arange(c) - 0.3
        pixels, scale, shift = on(training, pixels.to(dtype), scale, shift)
        got = ops.gather_patches(pixels, ids.to(training.device), patch, scale, shift, training.backend).cpu()
        want = cut_out(pixels.cpu(), ids, patch) * scale.cpu()[:, None] + shift.cpu()[:, None]
        assert got.dtype == torch.float32
        assert torch.allclose(got.double(), want, rtol=1e-6, atol=1e-5)

    def test_strided_inputs(self, training, case):
        pixels, ids, patch = case
        one = torch.ones(pixels.shape[1])
        want = ops.gather_patches(*on(training, pixels, ids, patch, one, one), training.backend)
        strided = pixels.transpose(1, 4).contiguous().transpose(1, 4)
        got = ops.gather_patches(
            *on(training, strided, ids.t().contiguous().t(), patch, one, one), training.backend
        )
        assert torch.equal(got, want)

    def test_gradient(self, training, case):
        pixels, ids, patch = case
        pixels = pixels.float().div(255).to(training.device).requires_grad_()
        scale, shift = on(training, torch.linspace(0.5, 2, pixels.shape[1]), torch.zeros(pixels.shape[1]))
        weight = torch.rand(
            *ids.shape, pixels.shape[1], math.prod(patch), generator=torch.Generator().manual_seed(2)
        )
        out = ops.gather_patches(pixels, ids.to(training.device), patch, scale, shift, training.backend)
        (out * weight.to(training.device)).sum().backward()
        found = cut_out(pixels.grad.cpu(), ids, patch) / scale.cpu()[:, None].double()
        assert torch.allclose(found, weight.double(), atol=1e-6)
        assert pixels.grad.count_nonzero() == weight.numel()

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"ids": torch.tensor([[0, 18]] * B)}, ValueError, r"ids must be in 0\.\.17, got 0\.\.18"),
            ({"ids": torch.tensor([[0, -1]] * B)}, ValueError, "got -1"),
            ({"ids": torch.zeros(B, 1, dtype=torch.int32)}, TypeError, "int64"),
            ({"ids": torch.zeros(2, 1, dtype=torch.int64)}, ValueError, r"shape \[3, N\]"),
            ({"ids": torch.zeros(B, 0, dtype=torch.int64)}, ValueError, "N > 0"),
            ({"pixels": torch.zeros(B, 3, 4, 12, 15, dtype=torch.float64)}, TypeError, "uint8 or float32"),
            ({"pixels": torch.zeros(B, 3, 12, 15)}, ValueError, "B, C, T, H, W"),
            ({"patch": (2, 4, 4)}, ValueError, "divide"),
            ({"patch": (0, 4, 5)}, ValueError, "divide"),
            ({"scale": torch.ones(2)}, ValueError, "scale must be float32"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, change, error, message):
        given = {
            "pixels": torch.zeros(B, 3, 4, 12, 15, dtype=torch.uint8), "ids": torch.zeros(B, 1, dtype=torch.int64),
            "patch": VIDEO[1], "scale": torch.ones(3), "shift": torch.zeros(3),
        }  # fmt: skip
        with pytest.raises(error, match=message):
            ops.gather_patches(**(given | change))


class TestPatchLoss:
    @staticmethod
    def prediction(pixels, ids, patch):
        shape = (*ids.shape, math.prod(patch) * pixels.shape[1])
        return torch.randn(shape, generator=torch.Generator().manual_seed(1))

    @staticmethod
    def want(prediction, pixels, ids, patch, eps, eps_inside, normalise):
        """By the definition, float64."""
        target = cut_out(pixels, ids, patch) / (255 if pixels.dtype == torch.uint8 else 1)
        if normalise:
            mean = target.mean(-1, keepdim=True)
            variance = (target - mean).square().sum(-1, keepdim=True) / (target.shape[-1] - 1)
            target = (target - mean) / ((variance + eps) ** 0.5 if eps_inside else variance**0.5 + eps)
        return (prediction.double() - target.transpose(2, 3).flatten(2)).square().mean()

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
    @pytest.mark.parametrize(
        ("eps", "eps_inside", "normalise"),
        [
            (1e-6, False, True),
            (1e-6, True, True),
            (0.1, False, True),
            (0.1, True, True),
            (1e-6, False, False),
        ],
    )
    def test_value_and_gradient(self, training, case, dtype, eps, eps_inside, normalise):
        pixels, ids, patch = case
        pixels = pixels if dtype == torch.uint8 else pixels.float() / 50 - 2
        prediction = self.prediction(pixels, ids, patch)
        exact = prediction.double().requires_grad_()
        want = self.want(exact, pixels, ids, patch, eps, eps_inside, normalise)
        (3 * want).backward()
        given = prediction.to(training.device).requires_grad_()
        how = {"eps": eps, "eps_inside": eps_inside, "normalise": normalise, "backend": training.backend}
        got = ops.patch_loss(given, *on(training, pixels, ids, patch), **how)
        (3 * got).backward()
        assert (got.dtype, got.shape) == (torch.float32, ())
        assert got.item() == pytest.approx(want.item(), rel=1e-6)
        assert torch.allclose(given.grad.cpu().double(), exact.grad, rtol=1e-5, atol=1e-6)

    def test_half_precision_predictions(self, training, case):
        pixels, ids, patch = case
        prediction = self.prediction(pixels, ids, patch).to(torch.bfloat16)
        want = self.want(prediction, pixels, ids, patch, 1e-6, False, True)
        given = prediction.to(training.device).requires_grad_()
        got = ops.patch_loss(given, *on(training, pixels, ids, patch), backend=training.backend)
        got.backward()
        assert got.item() == pytest.approx(want.item(), rel=1e-5)
        assert given.grad.dtype == torch.bfloat16

    def test_a_flat_patch_is_finite(self, training):
        pixels = torch.full((1, 1, 1, 4, 4), 200, dtype=torch.uint8)
        ids, prediction = torch.tensor([[0]]), torch.ones(1, 1, 16)
        for inside in (False, True):
            got = ops.patch_loss(*on(training, prediction, pixels, ids), (1, 4, 4), eps_inside=inside,
                                 backend=training.backend)  # fmt: skip
            assert got.item() == pytest.approx(1, abs=0.3)  # of what rounding leaves of the mean, over 1e-6

    @single_precision
    def test_gradcheck(self, training):
        pixels, ids, patch = (
            torch.rand(2, 2, 2, 4, 4, generator=torch.Generator().manual_seed(3)),
            torch.tensor([[1], [0]]),
            (2, 2, 4),
        )
        prediction = self.prediction(pixels, ids, patch).to(training.device).requires_grad_()
        pixels, ids = on(training, pixels, ids)
        # A parabola: central differences are exact but for rounding, however wide.
        assert gradcheck(lambda p: ops.patch_loss(p, pixels, ids, patch, backend=training.backend), prediction, eps=0.5,
                         atol=1e-4, rtol=1e-4)  # fmt: skip

    def test_the_thread_count_changes_nothing(self):
        pixels = torch.randint(0, 256, (4, 3, 4, 64, 64), dtype=torch.uint8)
        ids = torch.arange(32).expand(4, -1)
        prediction = torch.randn(4, 32, 3 * 2 * 16 * 16)
        before, found = torch.get_num_threads(), []
        try:
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                found.append(ops.patch_loss(prediction, pixels, ids, (2, 16, 16)).item())
        finally:
            torch.set_num_threads(before)
        assert len(set(found)) == 1

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"prediction": torch.zeros(1, 1, 15)}, ValueError, r"prediction must be \[1, 1, 16\]"),
            ({"prediction": torch.zeros(1, 1, 16, dtype=torch.int64)}, TypeError, "floating point"),
            ({"ids": torch.tensor([[4]])}, ValueError, r"0\.\.3"),
            ({"patch": (1, 1, 1), "prediction": torch.zeros(1, 1, 1)}, ValueError, "one pixel"),
            ({"eps": -1.0}, ValueError, "eps"),
            ({"eps": math.nan}, ValueError, "eps"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, change, error, message):
        given = {
            "prediction": torch.zeros(1, 1, 16), "pixels": torch.zeros(1, 1, 1, 8, 8), "ids": torch.tensor([[0]]),
            "patch": (1, 4, 4),
        }  # fmt: skip
        with pytest.raises(error, match=message):
            ops.patch_loss(**(given | change))


class TestDecoderTokens:
    L, V, D = 12, 5, 7

    def inputs(self, target):
        generator = torch.Generator().manual_seed(4)
        masks = smnoise.White3D((1, 3, 4), num_visible=self.V)(range(B))
        visible = torch.randn(B, self.V, self.D, generator=generator)
        mask_token, positions = (
            torch.randn(self.D, generator=generator),
            torch.randn(self.L, self.D, generator=generator),
        )
        return on(target, visible, mask_token, positions, masks.ids_keep, masks.ids_mask)

    @pytest.mark.parametrize("in_grid", [False, True])
    def test_each_token_is_where_it_belongs(self, training, in_grid):
        given = self.inputs(training)
        got = ops.decoder_tokens(*given, in_grid=in_grid, backend=training.backend).cpu()
        visible, mask_token, positions, keep, hidden = (v.cpu() for v in given)
        for b in range(B):
            for place, token in enumerate([*keep[b].tolist(), *hidden[b].tolist()]):
                value = visible[b, place] if place < self.V else mask_token
                assert torch.equal(got[b, token if in_grid else place], value + positions[token])

    @single_precision
    @pytest.mark.parametrize("in_grid", [False, True])
    def test_gradcheck(self, training, in_grid):
        visible, mask_token, *rest = self.inputs(training)
        assert gradcheck(
            lambda v, m: ops.decoder_tokens(v, m, *rest, in_grid=in_grid, backend=training.backend),
            (visible.requires_grad_(), mask_token.requires_grad_()), eps=0.5, atol=1e-4, rtol=1e-4,
        )  # fmt: skip

    def test_half_precision(self, training):
        visible, mask_token, *rest = self.inputs(training)
        visible, mask_token = (v.to(torch.bfloat16).requires_grad_() for v in (visible, mask_token))
        got = ops.decoder_tokens(visible, mask_token, *rest, backend=training.backend)
        want = ops.decoder_tokens(visible.float(), mask_token.float(), *rest, backend=training.backend)
        assert got.dtype == torch.float32
        assert torch.equal(got, want)
        got.sum().backward()
        assert (visible.grad.dtype, mask_token.grad.dtype) == (torch.bfloat16, torch.bfloat16)
        assert torch.equal(mask_token.grad.float().cpu(), torch.full((self.D,), float(B * (self.L - self.V))))

    def test_a_token_given_twice_leaves_nan_not_old_memory(self, training):
        visible, mask_token, positions, keep, hidden = self.inputs(training)
        hidden = hidden.clone()
        lost = hidden[1, 0].item()
        hidden[1, 0] = keep[1, 0]
        got = ops.decoder_tokens(
            visible, mask_token, positions, keep, hidden, in_grid=True, backend=training.backend
        )
        if training.backend != "reference":
            assert got[1, lost].isnan().all()

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({0: torch.zeros(B, 5, 6)}, ValueError, "expected visible"),
            ({0: torch.zeros(B, 5, 7, dtype=torch.int64)}, TypeError, "floating point"),
            ({1: torch.zeros(6)}, ValueError, "expected visible"),
            ({2: torch.zeros(12, 7, dtype=torch.float64)}, TypeError, "positions float32"),
            ({3: torch.zeros(B, 4, dtype=torch.int64)}, ValueError, "ids_keep must have shape"),
            ({3: torch.zeros(B, 5, dtype=torch.int32)}, TypeError, "ids_keep must be int64"),
            ({4: torch.full((B, 7), 12)}, ValueError, r"ids_mask must be in 0\.\.11"),
            ({4: torch.zeros(B, 6, dtype=torch.int64)}, ValueError, "in_grid needs as many"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, change, error, message):
        given = [torch.zeros(B, 5, 7), torch.zeros(7), torch.zeros(12, 7), torch.zeros(B, 5, dtype=torch.int64),
                 torch.zeros(B, 7, dtype=torch.int64)]  # fmt: skip
        for place, value in change.items():
            given[place] = value
        with pytest.raises(error, match=message):
            ops.decoder_tokens(*given, in_grid=True)


def test_compiled_with_gradients():
    torch._dynamo.reset()
    pixels = torch.randint(0, 256, (2, 3, 2, 8, 8), dtype=torch.uint8)
    masks = smnoise.White3D((1, 2, 2), num_visible=1)(range(2))
    mask_token = torch.zeros(4, requires_grad=True)
    weight = torch.randn(4, 96, requires_grad=True)
    one = torch.ones(3)

    def step():
        seen = ops.gather_patches(pixels, masks.ids_keep, (2, 4, 4), one, one).flatten(2) @ weight.t()
        x = ops.decoder_tokens(seen, mask_token, torch.ones(4, 4), masks.ids_keep, masks.ids_mask)
        return ops.patch_loss(x[:, 1:] @ weight, pixels, masks.ids_mask, (2, 4, 4))

    found = []
    for function in (step, torch.compile(step, fullgraph=True, backend="aot_eager")):
        loss = function()
        found.append((loss, *torch.autograd.grad(loss, (mask_token, weight))))
    for plain, compiled in zip(*found, strict=True):
        assert torch.allclose(plain, compiled, rtol=1e-6)
