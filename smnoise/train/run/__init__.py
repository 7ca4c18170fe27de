# SPDX-License-Identifier: Apache-2.0
"""What a run leaves on disk: its folder, checkpoints, log and bands of losses, and what is counted meanwhile."""
