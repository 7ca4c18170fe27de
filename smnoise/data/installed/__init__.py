# SPDX-License-Identifier: Apache-2.0
"""Real media that installed packages bring, for demos, tests and studies: found, never fetched."""
