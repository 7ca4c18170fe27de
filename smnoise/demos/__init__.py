# SPDX-License-Identifier: Apache-2.0
"""What `make demo` and `make demo-audio` run: from real media to a trained model, its probe and its pictures."""

from ..programs import tell_of_interrupts

tell_of_interrupts()
