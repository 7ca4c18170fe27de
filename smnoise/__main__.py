# SPDX-License-Identifier: Apache-2.0
"""`python -m smnoise` is the command `smnoise`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
