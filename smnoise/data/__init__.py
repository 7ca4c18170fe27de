# SPDX-License-Identifier: Apache-2.0
"""How clips come to be: files are found, numbered, drawn and read. `video` and `audio` have the readers of each medium,
`installed` the material that installed packages bring."""

from ..programs import tell_of_interrupts

tell_of_interrupts()
