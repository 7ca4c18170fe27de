# SPDX-License-Identifier: Apache-2.0
"""Files are whole or not there."""

import errno
import os
import stat

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


def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_it_goes_on(tmp_path, monkeypatch):
    """Or a power cut may leave a name with nothing behind it."""
    done = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor):
        done.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def renamed(source, target):
        done.append(("rename", str(source), str(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    path = tmp_path / "a.json"
    write_text(path, "text")
    (what, temporary), rename, last = done
    assert (what, temporary) == ("sync", rename[1])
    assert rename == ("rename", temporary, str(path))
    assert last == ("sync", str(tmp_path))


def test_a_file_that_cannot_be_synced_is_an_error_and_an_older_one_stays(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_text(path, "first")

    def full(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="Input/output"):
        write_text(path, "second")
    assert path.read_text() == "first"
    assert [f.name for f in tmp_path.iterdir()] == ["a.json"]


def test_a_file_system_that_syncs_no_folders_is_no_error(tmp_path, monkeypatch):
    fsync = os.fsync

    def files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    write_text(tmp_path / "a.json", "text")
    assert (tmp_path / "a.json").read_text() == "text"
