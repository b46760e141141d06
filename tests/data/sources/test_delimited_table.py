import csv
import io
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualdnn.data.sources import delimited_table
from dualdnn.data.sources.delimited_table import LABEL, Column, TableFormat, parse_block
from dualdnn.data.sources.text_blocks import TextBlock, TextFile
from dualdnn.errors import DataError

FORM = TableFormat(
    columns={"y": LABEL, "n": Column(kind="whole"), "r": Column(kind="rounded"),
             "d": Column(kind="decimal", low=-10, high=10), "t": Column(),
             "k": Column(required=True), "out": Column(kept=False)},
    separator=",", quoted=True)
GOOD = "1,-5,9.0,0.5,text,key,x"


def block_of(text: str | bytes, first_line=1, header=()):
    data = text.encode() if isinstance(text, str) else text
    return TextBlock(file=TextFile(path=Path("log.csv")), data=data, first_line=first_line,
                     first_row=0, lines=data.count(b"\n"), header=header)


def rows_of(text, form=FORM, **options):
    return parse_block(block_of(text, **options), form).to_pylist()


def test_each_kind_has_its_type_and_only_the_empty_cell_is_null():
    table = parse_block(block_of(f'{GOOD}\r\n0,,,,,"a,""b""",\n0,007,-3,1e-2,NA,null,\n'), FORM)
    assert table.schema.types == [pa.int64(), pa.int64(), pa.int64(), pa.float64(), pa.string(),
                                  pa.string()]
    assert table.to_pylist() == [
        {"y": 1, "n": -5, "r": 9, "d": 0.5, "t": "text", "k": "key"},
        {"y": 0, "n": None, "r": None, "d": None, "t": None, "k": 'a,"b"'},
        {"y": 0, "n": 7, "r": -3, "d": 0.01, "t": "NA", "k": "null"},
    ]


def test_the_header_says_the_order():
    header = ("k", "out", "t", "d", "r", "n", "y")
    (row,) = rows_of("key,x,text,0.5,9,-5,1\n", header=header)
    assert row == {"y": 1, "n": -5, "r": 9, "d": 0.5, "t": "text", "k": "key"}


@pytest.mark.parametrize(("header", "reason"), [
    (("y", "n", "r", "d", "t", "k"), "out is missing"),
    (("y", "n", "r", "d", "t", "k", "out", "z"), "z is unknown"),
    (("y", "n", "r", "d", "t", "k", "out", "k"), "one is there twice"),
])
def test_another_header_is_refused(header, reason):
    with pytest.raises(DataError, match=rf"log\.csv, line 1: expected a header.*{reason}"):
        rows_of(f"{GOOD}\n", header=header)


@pytest.mark.parametrize(("line", "reason"), [
    ("1,5,9,0.5,t,k", "expected 7 fields separated by ',', got 6"),
    ("1,5,9,0.5,t,k,x,z", "expected 7 fields separated by ',', got 8"),
    ("", "expected 7 fields separated by ',', got an empty line"),
    ("2,5,9,0.5,t,k,x", "y must be a whole number from 0 to 1, got '2'"),
    (",5,9,0.5,t,k,x", "y must be a whole number from 0 to 1, got an empty cell"),
    ("1,x,9,0.5,t,k,x", "n must be a whole number, got 'x'"),
    ("1,1.5,9,0.5,t,k,x", r"n must be a whole number, got '1\.5'"),
    ("1, 5,9,0.5,t,k,x", "n must be a whole number, got ' 5'"),
    ("1,0x1f,9,0.5,t,k,x", "n must be a whole number, got '0x1f'"),
    ("1,9223372036854775808,9,0.5,t,k,x", "n must be a whole number, got '9223372036854775808'"),
    ("1,5,9.5,0.5,t,k,x", r"r must be a whole number, got '9\.5'"),
    ("1,5,9007199254740993.0,0.5,t,k,x", "r must be a whole number, got '9007199254740993"),
    ("1,5,9,nan,t,k,x", "d must be a number from -10 to 10, got 'nan'"),
    ("1,5,9,inf,t,k,x", "d must be a number from -10 to 10, got 'inf'"),
    ("1,5,9,1e3,t,k,x", "d must be a number from -10 to 10, got '1e3'"),
    ("1,5,9,0.5,t,,x", "k must be text, got an empty cell"),
    ('1,5,9,0.5,"t,k,x', "the quotes do not match"),
    ('1,5,9,0.5,"t"u,k,x', "the quotes do not match"),
    ("1,5,9,0.5,t\ru,k,x", r"expected lines that end .*got a \\r inside one"),
    ("y,n,r,d,t,k,out", "the header comes again"),
    (b"1,5,9,0.5,\xff,k,x", "expected UTF-8 text, got the byte 0xff"),
])
def test_a_wrong_line_is_named_with_its_reason(line, reason):
    data = line.encode() if isinstance(line, str) else line
    # `"t"u` alone is read by Arrow as tu, which is what other readers make of it.
    after = b"z\n" if b'"u' in data else b""
    text = f"{GOOD}\n{GOOD}\n".encode() + data + f"\n{GOOD}\n".encode() + after
    with pytest.raises(DataError, match=rf"^log\.csv, line 43: {reason}.*get it again"):
        rows_of(text, first_line=41)


def test_tabs_need_no_quotes():
    form = TableFormat(columns={"y": LABEL, "t": Column()}, separator="\t", quoted=False)
    assert rows_of('1\t"a\n0\tb,c"\n', form) == [{"y": 1, "t": '"a'}, {"y": 0, "t": 'b,c"'}]


def test_a_byte_order_mark_inside_a_file_is_text():
    form = TableFormat(columns={"t": Column(), "y": LABEL}, separator=",", quoted=True)
    assert rows_of("\ufeffa,1\n", form) == [{"t": "\ufeffa", "y": 1}]


def test_a_line_longer_than_the_parsers_chunk_is_read(monkeypatch):
    monkeypatch.setattr(delimited_table, "_CHUNK_BYTES", 64)
    form = TableFormat(columns={"y": LABEL, "t": Column()}, separator=",", quoted=True)
    assert rows_of(f"1,{'a' * 500}\n0,b\n", form) == [{"y": 1, "t": "a" * 500}, {"y": 0, "t": "b"}]


cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=8)


@given(st.lists(st.tuples(st.sampled_from("01"), cells, cells), min_size=1, max_size=20))
def test_any_table_that_python_writes_comes_out_as_it_went_in(rows):
    form = TableFormat(columns={"y": LABEL, "a": Column(), "b": Column()}, separator=",",
                       quoted=True)
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    assert rows_of(text.getvalue(), form) == [
        {"y": int(y), "a": a or None, "b": b or None} for y, a, b in rows]
