# SPDX-License-Identifier: Apache-2.0
"""Videos: readers, clips, the cache of frames, augmentation, the views of evaluation and clips of known motion."""
