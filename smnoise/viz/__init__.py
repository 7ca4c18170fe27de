# SPDX-License-Identifier: Apache-2.0
"""Pictures of masks: over clips and spectrograms, of what models fill in, and a page of measurements of any sampler.

`smnoise viz` and `smnoise report` draw them. Nothing of matplotlib's global state is read or written.
"""
