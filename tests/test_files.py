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
    with pytest.raises(IsADirectoryError, match="is a folder; give the name of a file"):
        write_text(tmp_path, "text")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    for name in ("file/a.json", "file/deeper/a.json"):
        with pytest.raises(NotADirectoryError, match=r"file is a file, and cannot be a folder to write to"):
            write_text(tmp_path / name, "text")
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


def test_missing_folders_are_made(tmp_path):
    write_text(tmp_path / "absent" / "deeper" / "a.json", "text")
    assert (tmp_path / "absent" / "deeper" / "a.json").read_text() == "text"
