"""CSV and TSV: what spreadsheets write is read, what cannot be right is named by line."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lalm.data.slots import parse_slots, slots_from_text
from lalm.data.table import read_table, sniff_delimiter
from lalm.errors import DataError
from lalm.records import Slot

cells = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12).map(str.strip)


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 99).map(str), cells, cells), min_size=1, max_size=6),
    delimiter=st.sampled_from([",", "\t", ";", "|"]),
    end=st.sampled_from(["\n", "\r\n"]),
    mark=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_python_writes_is_read_back(tmp_path_factory, rows, delimiter, end, mark):
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, lineterminator=end).writerows([("id", "text", "intent"), *rows])
    path = tmp_path_factory.mktemp("table") / "t.csv"
    path.write_bytes(stream.getvalue().encode(mark))
    table = read_table(path, delimiter)
    assert table.columns == ("id", "text", "intent")
    assert [tuple(row.values()) for _, row in table.rows] == rows
    assert sniff_delimiter(path) == delimiter


def test_rows_know_the_line_that_they_start_on(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('text,intent\n\n"two\nlines",a\n\nlast,b\n', encoding="utf-8")
    assert [(line, row["text"]) for line, row in read_table(path).rows] == [(3, "two\nlines"), (6, "last")]


def test_the_extension_says_the_delimiter(tmp_path):
    for name, delimiter in (("t.tsv", "\t"), ("t.TAB", "\t"), ("t.csv", ",")):
        (tmp_path / name).write_text(f"a{delimiter}b\n1{delimiter}2\n", encoding="utf-8")
        assert read_table(tmp_path / name).rows[0][1] == {"a": "1", "b": "2"}
    (tmp_path / "t.txt").write_text("a,b\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"'\.txt' does not say what separates"):
        read_table(tmp_path / "t.txt")


def test_a_trailing_delimiter_is_no_column(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,\n1,2,\n", encoding="utf-8")
    assert read_table(path).columns == ("a", "b")


BAD_TABLES = {  # content -> what the error must say
    "": "is empty; the first line must name the columns",
    "a,b\n1\n2,3,4\n": "line 2: has 1 values, the header names 2 columns",
    "a,b\nx,1\n2,3,4\n": "line 3: has 3 values, the header names 2 columns. Put a value that holds the delimiter in quotes",
    "a,a\n1,2\n": "line 1: the column 'a' is named 2 times",
    "a,\n1,2\n": "line 1: column 2 has no name, and line 2 has a value in it",
    "a;b\n1;2\n": "separated by a semicolon, it seems, and a comma is expected. Set delimiter: ';'",
    'a,b\n1,2\n"x,3\n4,5\n': "the row that starts on line 3 cannot be split",
    'a,b\n"x"y,3\n': "the row that starts on line 2 cannot be split",
}


@pytest.mark.parametrize("content", BAD_TABLES)
def test_a_table_that_cannot_be_right_is_named(tmp_path, content):
    path = tmp_path / "t.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_table(path)
    assert str(path) in str(error.value)
    assert BAD_TABLES[content] in str(error.value)


def test_all_rows_that_do_not_fit_are_listed(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("a\tb\n" + "1\n" * 30, encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_table(path)
    assert len(error.value.problems) == 30


def test_quotes_can_be_plain_characters(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text('a\tb\n"so he said\tx\n', encoding="utf-8")
    assert read_table(path, quote=None).rows[0][1]["a"] == '"so he said'


def test_a_file_that_is_not_utf8_is_named_by_line(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"text,intent\nok,a\ncaf\xe9,b\n")
    with pytest.raises(DataError, match=r"line 3: is not UTF-8 text \(byte 0xe9\)"):
        read_table(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "none.csv")


SLOTS = (Slot("room", "hall"), Slot("room", "attic"), Slot("when", "now"))


@pytest.mark.parametrize(
    "value",
    [
        {"room": ["hall", "attic"], "when": "now"},
        [{"room": "hall"}, {"room": "attic"}, {"when": "now"}],
        [{"type": "room", "value": "hall"}, {"type": "room", "value": "attic"}, {"type": "when", "value": "now"}],
    ],
)
def test_slots_are_read_in_every_way_of_writing_them(value):
    assert parse_slots(value) == SLOTS


def test_no_slots_are_no_slots():
    assert parse_slots(None) == parse_slots({}) == parse_slots([]) == slots_from_text("") == ()


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("room=hall", "which is not JSON"),
        ("3", "is 3; slots are written"),
        ('{"room": 3}', "a slot's type and value are strings"),
        ('[{"type": "room"}, 7]', "has 7"),
        ('[{"type": 1, "value": "x"}]', "slots are written"),
        ('[{"a": "b", "c": "d"}]', "slots are written"),
    ],
)
def test_slots_that_are_none_are_refused_with_what_would_be_right(cell, reason):
    with pytest.raises(ValueError, match=reason):
        slots_from_text(cell)
