# SPDX-License-Identifier: Apache-2.0
"""Pretrained models to use: `find` gives one of any medium, the others those of their own."""
