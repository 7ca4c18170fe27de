# SPDX-License-Identifier: Apache-2.0
"""Lists and folders as people have them: the right file and label of each line, or an error that quotes the line."""

import codecs
import json
import os
import resource
import subprocess
import sys

import pytest
import torch

from smnoise import DataError
from smnoise.data.classes import ENTRIES, MOST
from smnoise.data.found import file_notes, find_files, left_out
from smnoise.data.labels import labelled_files
from smnoise.data.lists import label_sets, lines_without_file
from smnoise.data.medium import Medium
from smnoise.probes.linear import linear_probe
from smnoise.probes.logistic import Labelled

MEDIUM = Medium("sound file", frozenset({".wav"}))
FILES = ("a.wav", "b c.wav", "d,e.wav", "sub/f.wav", "g.wav")


@pytest.fixture
def folder(tmp_path):
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def labels_of(folder, content):
    """The names and labels that a list gives."""
    path = folder / "list.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    names = [file.relative_to(folder).as_posix() for file in find_files(path, MEDIUM)]
    return dict(zip(names, label_sets(path, MEDIUM), strict=True))


TWO = {"a.wav": [0], "b c.wav": [1]}
SEVERAL = {"a.wav": [3, 17], "b c.wav": [5]}
KNOWN = {
    "VideoMAE": ("a.wav 0\nb c.wav 1\n", TWO),
    "commas": ("a.wav,0\nb c.wav, 1\n", TWO),
    "semicolons": ("a.wav;0\nb c.wav;1\n", TWO),
    "tabs": ("a.wav\t0\nb c.wav\t1\n", TWO),
    "CRLF": ("a.wav 0\r\nb c.wav 1\r\n", TWO),
    "old Mac": ("a.wav 0\rb c.wav 1\r", TWO),
    "BOM": (codecs.BOM_UTF8 + b"a.wav 0\nb c.wav 1\n", TWO),
    "UTF-16": ("a.wav 0\nb c.wav 1\n".encode("utf-16"), TWO),
    "comments": ("# a list\n\na.wav 0 # the first\n  # another\nb c.wav 1  \n", TWO),
    "quotes": ('"a.wav" 0\n"b c.wav",1\n', TWO),
    "single quotes": ("'a.wav',0\n'b c.wav' 1\n", TWO),
    "comma in a name": ("d,e.wav,0\nd,e.wav 0\n", {"d,e.wav": [0]}),
    "below": ("./a.wav 0\nsub/../sub/f.wav 1\n", None),
    "semicolon": ("a.wav 3;17\nb c.wav 5\n", SEVERAL),
    "commas behind a blank": ("a.wav 3,17\nb c.wav 5\n", SEVERAL),
    "quoted labels": ('a.wav,"3,17"\nb c.wav,5\n', SEVERAL),
    "semicolons in a CSV": ("a.wav,3;17\nb c.wav,5\n", SEVERAL),
    "header": ("path,label\na.wav,0\nb c.wav,1\n", TWO),
    "header and fold": ("file,fold,label\na.wav,5,0\nb c.wav,4,1\n", TWO),
    "header with blanks": ("path frames label\na.wav 50 0\ng.wav 45 1\n", {"a.wav": [0], "g.wav": [1]}),
    "header with tabs": ("Path\tLabel\tNote\na.wav\t0\tx y\nb c.wav\t1\tz\n", TWO),
    "header in quotes": ('"path","label"\n"a.wav","0"\n"d,e.wav","1"\n', {"a.wav": [0], "d,e.wav": [1]}),
    "header and several": ('path,labels\na.wav,"3,17"\nb c.wav,5\n', SEVERAL),
    "header of other order": ("target;filename\n0;a.wav\n1;b c.wav\n", TWO),
    "header and names": ("path,class,label\na.wav,dog,0\nb c.wav,cat,1\n", TWO),
    "header and the same twice": ("path,label,target\na.wav,0,0\nb c.wav,1,1\n", TWO),
    "twice": ("a.wav 0\na.wav 0\nb c.wav 1\n", TWO),
}


@pytest.mark.parametrize("form", KNOWN)
def test_known_forms(folder, form):
    content, want = KNOWN[form]
    found = labels_of(folder, content)
    if want is None:
        assert [label for (label,) in found.values()] == [0, 1]
    else:
        assert found == want
    assert not lines_without_file(folder / "list.txt", MEDIUM)


def test_of_a_film_and_its_sound_the_medium_is_taken(folder):
    (folder / "f.mp4").touch()
    listed = "video_path,audio_path,label\nf.mp4,a.wav,0\ngone.mp4,b c.wav,1\n"
    assert labels_of(folder, listed) == TWO
    films = find_files(folder / "list.txt", Medium("video", frozenset({".mp4"})))
    assert films[0].name == "f.mp4"


REFUSED = {
    "frames and label": ("a.wav 50 0\ng.wav 45 1\n", "which column is the label", 1, "a.wav 50 0"),
    "fold": ("a.wav 0\ng.wav,1,5\n", "which column is the label", 2, "g.wav,1,5"),
    "fold behind semicolons": ("a.wav;0;5\n", "which column is the label", 1, "a.wav;0;5"),
    "words behind": ("\na.wav 0 dog\n", "which column is the label", 2, "a.wav 0 dog"),
    "VideoMAEv2 for pretraining": ("a.wav 0 -1\n", "a list for pretraining", 1, "a.wav 0 -1"),
    "for pretraining": ("a.wav 0\nb c.wav\n", "is for pretraining", 2, "b c.wav"),
    "a name": ("a.wav dog\n", "names of classes can be folders", 1, "a.wav dog"),
    "negative": ("a.wav -1\n", "labels are numbers", 1, "a.wav -1"),
    "float": ("a.wav 1.5\n", "labels are numbers", 1, "a.wav 1.5"),
    "empty column": ("a.wav,,1\n", "labels are numbers", 1, "a.wav,,1"),
    "ends with a mark": ("a.wav 1;\n", "expected labels", 1, "a.wav 1;"),
    "digits without end": (f"a.wav {'9' * 5000}\n", "at most 9 digits", 1, "a.wav 999"),
    "Arabic digits": ("a.wav \u0663x\n", "labels are numbers", 1, "a.wav"),
    "header without label": ("path,fold\na.wav,1\n", "is for pretraining", 2, "a.wav,1"),
    "header with names": ("path,label\na.wav,dog\n", "names of classes can be folders", 2, "a.wav,dog"),
    "more columns than the header": ("path,label\na.wav,1,5\n", "3 columns, and the first", 2, "a.wav,1,5"),
    "header that names a column twice": ("path,label,label\na.wav,0,1\n", "names a column twice", None, ""),
    "two columns of labels": ("path,label,class_id\na.wav,0,7\n", "which column is the label", 2, "a.wav,0,7"),
    "two columns of files": ("path,clip,label\na.wav,g.wav,0\n", "which column is the file", 2, "a.wav,g.wav,0"),
    "two labels": ("a.wav 0\ng.wav 1\n./a.wav 1\n", "has other labels in line 1", 3, "./a.wav 1"),
}  # fmt: skip


@pytest.mark.parametrize("form", REFUSED)
def test_unknown_forms_are_errors_that_quote_the_line(folder, form):
    content, words, number, line = REFUSED[form]
    with pytest.raises(DataError) as raised:
        labels_of(folder, content)
    said = str(raised.value)
    assert words in said
    assert str(folder / "list.txt") in said
    assert number is None or f"line {number}" in said
    assert line in said


def test_of_a_line_without_end_the_beginning_is_quoted(folder):
    for content in (f"a.wav {'9' * 10**6}\n", f"path,label\na.wav,{'9' * 10**6}\n"):
        with pytest.raises(DataError, match=r"list\.txt, line [12]: ") as raised:
            labels_of(folder, content)
        assert len(str(raised.value)) < 1500


def test_lists_for_pretraining_may_hold_anything_behind_the_path(folder):
    (folder / "list.txt").write_text("a.wav 0 -1\nb c.wav 0 250 3\nd,e.wav,x\ngone.wav 1\n")
    assert [path.name for path in find_files(folder / "list.txt", MEDIUM)] == ["a.wav", "b c.wav", "d,e.wav"]
    assert lines_without_file(folder / "list.txt", MEDIUM) == ["gone.wav 1"]


def test_the_list_of_esc_50(tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "audio").mkdir()
    rows = ["1-100032-A-0.wav,1,0,dog,True,100032,A", "5-9032-A-0.wav,5,49,hand_saw,False,9032,A"]
    for row in rows:
        (tmp_path / "audio" / row.split(",")[0]).touch()
    path = tmp_path / "meta" / "esc50.csv"
    path.write_text("filename,fold,target,category,esc10,src_file,take\n" + "\n".join(rows) + "\n")
    assert label_sets(path, MEDIUM) == [[0], [49]]
    assert find_files(path, MEDIUM)[1] == tmp_path / "audio" / "5-9032-A-0.wav"


def test_the_list_of_raw_frames_beside_the_inputs_is_refused_by_its_line(folder):
    """What its number of frames is and what its label, no line says."""
    (folder / "rotated.wav").touch()
    with pytest.raises(DataError, match=r"line 1: .*The line is 'rotated\.wav 50 0'"):
        labels_of(folder, "rotated.wav 50 0\n")


def test_names_that_are_no_utf_8(folder):
    name = os.fsdecode(b"caf\xe9.wav")
    (folder / name).touch()
    path = folder / "list.txt"
    path.write_bytes(b"caf\xe9.wav 0\na.wav 1\n")
    assert [file.name for file in find_files(path, MEDIUM)] == [name, "a.wav"]
    assert label_sets(path, MEDIUM) == [[0], [1]]
    json.dumps(str(find_files(path, MEDIUM)[0])).encode()  # as a log line has it


def test_bytes_that_are_no_list(folder):
    (folder / "x.bin").write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match="nor a text list"):
        find_files(folder / "x.bin", MEDIUM)
    (folder / "list.txt").write_bytes(b"\xff\xffx\n" * 3)
    with pytest.raises(DataError, match="none of the 3 lines"):
        find_files(folder / "list.txt", MEDIUM)


def test_a_pretraining_list_given_to_fine_tuning(folder):
    (folder / "train.txt").write_text("a.wav\ng.wav\n")
    with pytest.raises(DataError, match=r"train\.txt, line 1: .* a list without labels is for pretraining"):
        labelled_files(folder / "train.txt", folder / "train.txt", MEDIUM)


def test_what_a_folder_holds_besides_is_told_once_by_suffix(folder):
    for name in ("x.m4a", "y.M4A", "z.txt", "README", ".hidden", "sub/w.txt"):
        (folder / name).touch()
    (note,) = left_out(folder, MEDIUM)
    assert note == f"skipped: 5 files of {folder}, not of a sound file's suffix (.m4a 2, .txt 2, no suffix 1)"
    assert left_out(folder / "sub" / "f.wav", MEDIUM) == []
    (folder / "list.txt").write_text("a.wav\ngone.wav\n")
    assert file_notes(folder / "list.txt", MEDIUM) == [
        f"skipped: 'gone.wav' of {folder / 'list.txt'} names no file"
    ]


def test_a_folder_of_other_files_only_says_which(tmp_path):
    (tmp_path / "x.m4a").touch()
    with pytest.raises(
        DataError, match=r"no sound file in folder .* looked for \.wav; skipped: 1 file of .*\.m4a 1"
    ):
        find_files(tmp_path, MEDIUM)


def test_folders_behind_links_and_capital_suffixes_are_searched(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "A.WAV").touch()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data")
    assert find_files(tmp_path / "data", MEDIUM) == [tmp_path / "data" / "link" / "deep" / "A.WAV"]


@pytest.mark.parametrize("label", [999_999_999, 200_000, 5000])
def test_labels_far_beyond_the_number_of_lines(folder, label):
    """Such as a number of frames, of samples or of a recording."""
    (folder / "train.txt").write_text(f"a.wav 0\ng.wav {label}\n")
    with pytest.raises(
        DataError, match=rf"train\.txt has label {label}, with 2 clips.* Is that the label|is that the"
    ):
        labelled_files(folder / "train.txt", folder / "train.txt", MEDIUM)


@pytest.mark.parametrize("classes", [10**12, MOST + 1, 0, -3])
def test_numbers_of_classes_that_cannot_be(folder, classes):
    (folder / "train.txt").write_text("a.wav 0\ng.wav 1\n")
    with pytest.raises(ValueError, match="classes"):
        labelled_files(folder / "train.txt", folder / "train.txt", MEDIUM, classes)


def test_a_few_files_of_many_classes_are_well(folder):
    (folder / "train.txt").write_text("a.wav 0\ng.wav 526\n")
    (folder / "test.txt").write_text("a.wav 1\n")
    train, test = labelled_files(folder / "train.txt", folder / "test.txt", MEDIUM)
    assert train.targets.shape == (2, 527)
    assert test.numbers().tolist() == [1]
    (folder / "test.txt").write_text("a.wav 999999999\n")
    with pytest.raises(DataError, match="has label 999999999; expected 0 to 526"):
        labelled_files(folder / "train.txt", folder / "test.txt", MEDIUM)


def test_a_label_without_end_takes_no_memory(folder):
    """Of a process that may have 3 GiB: the table would have taken 4 times as much."""
    (folder / "train.txt").write_text("a.wav 0\ng.wav 999999999\n")
    code = (
        "from pathlib import Path\n"
        "from smnoise.data.labels import labelled_sounds\n"
        f"data = Path({str(folder / 'train.txt')!r})\n"
        "labelled_sounds(data, data)\n"
    )
    limit = 3 << 30
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    assert "DataError" in done.stderr
    assert "has label 999999999, with 2 clips" in done.stderr


def test_labels_of_probes_far_beyond_the_number_of_clips():
    x = torch.randn(4, 3)
    for label in (10**12, 5000):
        with pytest.raises(ValueError, match=f"train labels has label {label}, with 4 clips"):
            linear_probe(x, [0, 1, 0, label], x, [0, 1, 0, 1])
    with pytest.raises(ValueError, match="test labels has label 5000"):
        linear_probe(x, [0, 1, 0, 1], x, [0, 1, 0, 5000])
    assert Labelled.checked("train", x, [0, 1, 0, 400]).y.shape == (4, 401)
    assert ENTRIES > 2_100_000 * 527  # AudioSet-2M
