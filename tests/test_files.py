# SPDX-License-Identifier: Apache-2.0
"""Files are whole or not there."""

import pytest

from smnoise.files import replace_file, write_text


def test_a_text_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "first")

    def fail():
        with replace_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        fail()
    assert path.read_text() == "first"
    assert [f.name for f in tmp_path.iterdir()] == ["a.json"]


def test_what_cannot_be_a_file_is_said_by_its_own_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*absent to write a\.json to; make it first"):
        write_text(tmp_path / "absent" / "a.json", "text")
    with pytest.raises(IsADirectoryError, match="is a folder; give the name of a file"):
        write_text(tmp_path, "text")
    assert not list(tmp_path.iterdir())
