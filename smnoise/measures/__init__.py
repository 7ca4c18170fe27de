# SPDX-License-Identifier: Apache-2.0
"""Numbers about masks: how evenly they spread, how different they are, and their spectra. Nothing here draws."""
