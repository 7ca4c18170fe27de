# SPDX-License-Identifier: Apache-2.0
"""Is the reconstruction too easy or too hard? What a loss says on the scale of VideoMAE's normalised targets.

The numbers are from a summary of arXiv 2503.16311: a loss that stays above 0.80 says that nothing can be filled in, one
below 0.45 that it is too easy. They are for losses per value of patches that were normalised by their own mean and
deviation, where 1 is what the mean alone reaches.
"""

from __future__ import annotations

from collections.abc import Iterable

LOW, HIGH = 0.45, 0.80


class Scale:
    """Tells once when a run's loss falls below 0.45, and once if it is above 0.80 in the run's second half; also over
    restarts.

    Args:
        records: of the run's log so far.
        steps: of the whole run.
    """

    def __init__(self, records: Iterable[dict], steps: int):
        self.steps, self.told = steps, set[str]()
        for record in records:
            if "loss" in record:
                self(record)

    def __call__(self, record: dict) -> str | None:
        """What to say after a new record of the log, if anything."""
        step, loss = record["step"], record["loss"]
        if loss < LOW and "easy" not in self.told:
            self.told.add("easy")
            return (
                f"the loss is {loss:.3f}, below {LOW} of the scale of normalised patches: what is hidden may be too "
                "easy to fill in; hide more, or look whether masks flicker or clips stand still (smnoise report, viz)"
            )
        if loss > HIGH and 2 * step >= self.steps and "hard" not in self.told:
            self.told.add("hard")
            return (
                f"the loss is {loss:.3f} in the second half of the run, above {HIGH:.2f} of the scale of normalised "
                "patches: little of what is hidden is filled in so far; train longer, hide less, or look at the clips"
            )
        return None
