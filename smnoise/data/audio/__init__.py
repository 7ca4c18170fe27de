# SPDX-License-Identifier: Apache-2.0
"""Sounds: readers, clips, log-mel spectrograms (`fbank`), what a model is given (`inputs`) and augmentation."""
