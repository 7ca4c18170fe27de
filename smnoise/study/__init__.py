# SPDX-License-Identifier: Apache-2.0
"""Do the masks matter? Small models pretrained under several kinds of masks with several seeds, probed and compared.

    python -m smnoise.study                                 # on a laptop; stop it and start it again as you like
    python -m smnoise.study --size gpu --out /shared/study  # hours on a GPU
    python -m smnoise.study --table                         # only the table, of the cells that are there

A cell is one model: a strategy, a number of visible tokens and a seed. Its result is one small file, written whole or
not at all, so a study can be stopped, go on, and be shared among machines (--share). `plan` has the experiments and
sizes, `video` and `audio` make a cell, `cells` keeps results, `table` compares them and `picture` draws them.
"""

from ..programs import tell_of_interrupts

tell_of_interrupts()
