# SPDX-License-Identifier: Apache-2.0
"""Trainers: one loop, its settings and recipes; each module that is a program runs as python -m smnoise.train.NAME."""

from ..programs import tell_of_interrupts

tell_of_interrupts()
