# SPDX-License-Identifier: Apache-2.0
"""What asks a trained encoder what it has learned: features, classifiers on them, and the metrics of their answers."""
