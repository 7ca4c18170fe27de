# SPDX-License-Identifier: Apache-2.0
"""Every CUDA kernel, small and odd shapes, for NVIDIA's compute-sanitizer; compares with the reference too.

compute-sanitizer --tool memcheck --error-exitcode 9 python tests/sanitize.py      # or racecheck, initcheck, ...
"""

import torch
from cases import BLUE_CORNERS, CORNERS, STRATEGY_CORNERS

import smnoise
from smnoise import conformance, ops

LARGE = smnoise.Green3D((4, 90, 90), 0.9).spec  # two launches, tiles
TORUS = smnoise.Green3D((4, 90, 90), 0.9, boundary="wrap").spec


def main() -> None:
    seed, samples = torch.tensor(3, device="cuda"), torch.tensor([0, 5, 2**40], device="cuda")
    for name, spec in {**CORNERS, "large": LARGE, "large torus": TORUS, **CORNERS}.items():
        got = ops.color_mask(seed, samples, spec.to_json(), "cuda")
        want = ops.color_mask(seed.cpu(), samples.cpu(), spec.to_json(), "cpu")
        assert all(torch.equal(g.cpu(), w) for g, w in zip(got, want, strict=True)), name
        noise = ops.color_noise(seed, samples, spec.to_json(), "cuda")
        assert torch.equal(noise.cpu(), ops.color_noise(seed.cpu(), samples.cpu(), spec.to_json(), "cpu")), (
            name
        )
    for name, spec in {**BLUE_CORNERS, "large": smnoise.OptimBlue((64, 64), 0.95, steps=20).spec}.items():
        got = ops.optim_blue(seed, samples, spec.to_json(), "cuda")
        want = ops.optim_blue(seed.cpu(), samples.cpu(), spec.to_json(), "cpu")
        assert all(torch.equal(g.cpu(), w) for g, w in zip(got, want, strict=True)), name
    large = smnoise.strategy("block", (4, 128, 128), 0.5).spec  # scores beyond shared memory
    for name, spec in {**STRATEGY_CORNERS, "large": large}.items():
        got = ops.strategy_mask(seed, samples, spec.to_json(), "cuda")
        want = ops.strategy_mask(seed.cpu(), samples.cpu(), spec.to_json(), "cpu")
        assert all(torch.equal(g.cpu(), w) for g, w in zip(got, want, strict=True)), name
    ops.random_words(seed, samples, 5, 1001, "cuda")
    for boundary in ("wrap", "valid"):
        volume = torch.randn(2, 9, 11, 13, device="cuda")
        ops.gaussian_filter(volume, (0.5, 0.8, 1.0), boundary=boundary, backend="cuda")
    known = conformance.shipped()
    assert all(r.passed for r in conformance.run(known, "cuda"))
    for scores in (torch.zeros(2, 37, device="cuda"), torch.arange(100_003.0, device="cuda")[None]):
        ops.threshold(scores, 5, 1, "cuda")
    torch.cuda.synchronize()
    print("all kernels ran")


if __name__ == "__main__":
    main()
