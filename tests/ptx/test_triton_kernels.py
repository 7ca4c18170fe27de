# SPDX-License-Identifier: Apache-2.0
"""kernels/*.py as Triton compiles them, specialised and launched by Triton's own code, on a CPU: the reference's bits,
and no fault."""

import pytest
from targets import skip_without

from .run import Reached

pytestmark = pytest.mark.slow

GROUPS = ("colors", "threshold", "slots", "ragged", "noise_at", "bias", "gaussian", "optim_blue", "strategies", "words",
          "gather_patches", "patch_loss", "decoder_tokens")  # fmt: skip
KERNELS = {
    "colors": ("sigma_kernel", "noise_kernel", "filter_kernel", "mix_kernel"), "threshold": ("threshold_kernel",),
    "slots": (), "ragged": ("ragged_threshold_kernel",),
    "noise_at": ("point_rows_kernel", "point_sum_kernel", "point_color_kernel"),
    "bias": ("add_bias_kernel",), "gaussian": (), "optim_blue": ("optim_blue_kernel",),
    "strategies": ("step_scores_kernel", "box_scores_kernel"),
    "words": ("philox_kernel", "random_words_kernel", "sigma_kernel"), "gather_patches": ("gather_patches_kernel",),
    "patch_loss": ("patch_loss_kernel",), "decoder_tokens": ("decoder_tokens_kernel",),
}  # fmt: skip
# Of the basic blocks of all variants of a kernel, by all cases and by those of `make test`; a variant that few cases
# have is not reached whole.
LEAST_SHARE, LEAST_SHARE_OF_A_PART = 0.9, 0.85


@pytest.fixture(autouse=True)
def needs_triton(pytestconfig):
    try:
        import triton  # noqa: F401
    except ImportError as error:
        skip_without(pytestconfig, "triton", f"needs Triton: {error}")
    if pytestconfig.getoption("--gpu-code") == "barriers":
        pytest.skip("barriers alone are tested")


@pytest.fixture
def whole(pytestconfig) -> bool:
    return pytestconfig.getoption("--gpu-code") == "all"


@pytest.fixture(params=(80, 90, 100))
def architecture(request, whole) -> int:
    if request.param != 90 and not whole:
        pytest.skip("--gpu-code=all runs the other architectures")
    return request.param


@pytest.mark.parametrize("group", GROUPS)
def test_the_reference_s_bits_and_no_fault(architecture, group, whole, compiling, capsys):
    from . import triton_workloads

    said, found, number = compiling(architecture).submit(
        triton_workloads.run_group, group, architecture, not whole
    ).result()  # fmt: skip
    with capsys.disabled():
        print(f"\nTriton, sm_{architecture}, {group}: {number} cases")
        for name in KERNELS[group]:
            print(f"  {name}: {found[name]}")
    assert not said, "\n".join(said)
    for name in KERNELS[group]:
        reached: Reached = found[name]
        assert reached.share >= (LEAST_SHARE if whole else LEAST_SHARE_OF_A_PART), "\n".join(
            [f"{name}: {reached}", *reached.missed]
        )


def test_known_answers(architecture, whole, compiling):
    from . import triton_workloads

    said = compiling(architecture).submit(triton_workloads.known_answers, architecture, not whole).result()
    assert not said, said


def test_every_kernel_of_the_package_belongs_to_a_group():
    import re
    from pathlib import Path

    import smnoise.kernels

    text = "".join(p.read_text() for p in Path(smnoise.kernels.__file__).parent.glob("*.py"))
    assert {n for names in KERNELS.values() for n in names} == set(
        re.findall(r"^def (\w+_kernel)\(", text, re.M)
    )
