# SPDX-License-Identifier: Apache-2.0
"""Triton kernels, shipped as `smnoise.kernels`; `smnoise.backends.triton` runs them."""
