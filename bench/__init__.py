# SPDX-License-Identifier: Apache-2.0
"""Measures masks against what people run today: `python -m bench` (see __main__.py), from the repository's root."""
