# SPDX-License-Identifier: Apache-2.0
"""The C++ and CUDA sources, shipped as `smnoise.csrc`: NVRTC compiles them at first use."""
