# SPDX-License-Identifier: Apache-2.0
"""The table of a call's instructions: what callgrind writes is read, and each row of it runs."""

import pytest

from bench import host, host_worker


def test_counts_of_callgrind_are_read_and_shown():
    text = "version: 1\ndesc: Trigger: Client Request: Random; batch 1\nevents: Ir\ntotals: 2400\n"
    assert host.count_of(text) == ("Random; batch 1", 2400)
    with pytest.raises(ValueError, match="without a count"):
        host.count_of("version: 1\n")
    yardsticks = {f"{host.YARDSTICK} {batch}": 1000 * batch for batch in (1, 32)}
    now = {**yardsticks, "Random; batch 1": 2500, "Random; batch 32, ids_keep": 16000, "Tube; batch 32": 8000}
    before = {name: 2 * count for name, count in now.items() if "Tube" not in name}
    page = host.table({"what": "What was counted", "instructions": {"0123456": before, host.NOW: now}})
    assert "| Random; batch 1 | 5.0 | 2.5 | 0.50 | 2.50 |" in page
    assert "| Random; batch 32, ids_keep | 32.0 | 16.0 | 0.50 | 0.50 |" in page
    assert "| Tube; batch 32 | - | 8.0 | - | 0.25 |" in page
    alone = host.table({"what": "What", "instructions": {host.NOW: now}})
    assert "| Random; batch 1 | 2.5 | 2.50 |" in alone


def test_the_rows_of_the_host_s_table_run():
    """Those of the CPU; bits are judged elsewhere."""
    rows = dict(host_worker.on_the_cpu()) | dict(host_worker.yardsticks())
    for call in rows.values():
        call()
    assert {"Random; batch 1", "Random; batch 32", f"{host.YARDSTICK} 32"} <= set(rows)
