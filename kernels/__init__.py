# SPDX-License-Identifier: Apache-2.0
"""Triton kernels, shipped as `smnoise.kernels`. None yet: see the status table in the README."""
