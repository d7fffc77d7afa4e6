from __future__ import annotations

import csv
import io
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fdtcc_dagster.errors import FdtccError, RowCountMismatchError, SchemaMismatchError
from fdtcc_dagster.pandas_csv import blocks
from fdtcc_dagster.pandas_csv.source import CsvSource, TypedCsv
from fdtcc_dagster.window import Window
from fdtcc_dagster_tests.fuzz import examples

WINDOW = Window.of("2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z")
INTS = pl.Schema({"a": pl.Int64(), "b": pl.Int64()})
TEXTS = pl.Schema({"a": pl.String(), "b": pl.String()})
TEXT = pl.Schema({"a": pl.String()})
Write = Callable[..., CsvSource]

# The fixtures only give a path and a block size, which every example overwrites.
shared_path = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(data: bytes, announced_rows: int | None = None) -> CsvSource:
        path = tmp_path / "snapshot.csv"
        path.write_bytes(data)
        return CsvSource(lambda: path.open("rb"), announced_rows, "cars", WINDOW)

    return write


@pytest.fixture(params=[1, 7, 1 << 24])
def block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    size = int(request.param)
    in_blocks_of(size, monkeypatch)
    return size


def in_blocks_of(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks.record_blocks, "__defaults__", (size,))


def rows(source: CsvSource, schema: pl.Schema | None) -> list[tuple[Any, ...]]:
    csv = source.typed(schema)
    with csv.errors():
        return csv.scan().collect().rows()


@pytest.mark.parametrize(
    ("data", "schema", "expected"),
    [
        (b"a,b\n1,2\n3,4\n", INTS, [(1, 2), (3, 4)]),
        (b"a,b\n1,2\n3,4", INTS, [(1, 2), (3, 4)]),
        (b"a,b\r\n1,2\r\n3,\r\n", INTS, [(1, 2), (3, None)]),
        (b"\xef\xbb\xbfa,b\n1,2\n", INTS, [(1, 2)]),
        (b"b,a\n1,2\n", INTS, [(2, 1)]),
        (b"a,b\n", INTS, []),
        (b"a,b", INTS, []),
        (b"a,b\n,\n1.0,\n,2\n", INTS, [(None, None), (1, None), (None, 2)]),
        (b'a\n1\n""\n2\n""\n', TEXT, [("1",), (None,), ("2",), (None,)]),
        (b'a\n""\n""\n', TEXT, [(None,), (None,)]),
        (b'a,b\n"",""\n', TEXTS, [(None, None)]),
        (b'a,b\n"x\ny","\n\n"\n"\n",z\n', TEXTS, [("x\ny", "\n\n"), ("\n", "z")]),
        (b'a,b\n"say ""hi"", no","""\n"""\n', TEXTS, [('say "hi", no', '"\n"')]),
        (b"a,b\n007, x \nNone,NA\n#1,nan\n", TEXTS, [("007", " x "), ("None", "NA"), ("#1", "nan")]),
        (b"a,b\n1\x002,\x00\n", TEXTS, [("1\x002", "\x00")]),
        (b"a,b\nx\r,2\n\ry,z\r\n", TEXTS, [("x\r", "2"), ("\ry", "z\r")]),
        (b'a,b\n"x\r\ny",p\rq\n"\r","r\r"\n', TEXTS, [("x\r\ny", "p\rq"), ("\r", "r\r")]),
        (b'a,b\r\nx\r,"y\r,\r\n"\r\n1,2\r\n', TEXTS, [("x\r", "y\r,\r\n"), ("1", "2")]),
        (b"a,b\n\xef\xbb\xbfx,1\n\xef\xbb\xbfy,2\n", TEXTS, [("\ufeffx", "1"), ("\ufeffy", "2")]),
        ("a,b\n\ue000\r,\ue001\n".encode(), TEXTS, [("\ue000\r", "\ue001")]),
        (b'a,b\n"1,2,3",\n"4,5",\n', TEXTS, [("1,2,3", None), ("4,5", None)]),
        ("a,b\nä,😀\n".encode(), TEXTS, [("ä", "😀")]),
    ],
)
@pytest.mark.usefixtures("block_bytes")
def test_rows_are_the_files(write: Write, data: bytes, schema: pl.Schema, expected: list[tuple[Any, ...]]) -> None:
    assert rows(write(data), schema) == expected
    assert rows(write(data, announced_rows=len(expected)), schema) == expected


@pytest.mark.parametrize("first", [b"a", b'"a"', b"\xef\xbb\xbfa", b'"\xef\xbb\xbfa"', b'\xef\xbb\xbf"\xef\xbb\xbfa"'])
@pytest.mark.usefixtures("block_bytes")
def test_a_byte_order_mark_is_no_part_of_the_first_name(write: Write, first: bytes) -> None:
    csv = write(first + b",\xef\xbb\xbfb\n2024-03-01,1\n")
    declared = pl.Schema({"a": pl.Date(), "\ufeffb": pl.Int64()})
    for schema in (declared, None):
        assert csv.scan(schema).collect_schema() == declared
        assert rows(csv, schema) == [(date(2024, 3, 1), 1)]
        assert csv.read(schema, lambda typed: typed.scan().collect()).schema == declared
    assert csv.collect({"a": pl.String()}).rows() == [("2024-03-01", 1)]


@pytest.mark.parametrize(
    ("data", "row"),
    [
        (b"a,b\n1,2\n3\n5,6\n", 2),
        (b"a,b\n3\n5,6\n", 1),
        (b"a,b\n1,2\n3,4,5\n", 2),
        (b"a,b\n1,2,\n", 1),
        (b"a,b\n1,2\n\n5,6\n", 2),
        (b"a,b\n\n", 1),
        (b'a,b\n"1,2",3\n"4,5"\n6,\n', 2),
        (b'a,b\n"1,2"\n"4,5",\n', 1),
        (b"a,b\n1,2\n3,4\n5", 3),
        (b"a,b\n1,x\r2,y\r3\n", 1),
        (b"a,b\n1,x\ry\n2,y\r3,z\n", 2),
    ],
)
@pytest.mark.usefixtures("block_bytes")
def test_record_of_another_width_is_refused_with_its_row(write: Write, data: bytes, row: int) -> None:
    with pytest.raises(
        SchemaMismatchError, match=rf"'cars'.* row {row} has (1 field|\d fields) where the header has 2"
    ) as caught:
        rows(write(data), TEXTS)
    assert caught.value.row == row


@pytest.mark.parametrize(
    ("records", "row"),
    [
        (b"1,2\n3,\xff\n", 2),
        (b'"1\n2",3\n4,\xff\n', 2),
        (b'1,"x\n', 1),
        (b'1,2\n"1,2\n3,4\n', 2),
        (b'1,2\n3,"', 2),
        (b'1,2\n3,x"', 2),
        (b'1,"x"y\n2,z\n', 1),
        (b'1,x"y\n2,z\n', 1),
        (b'1,x"y\n2,z"\n', 1),
        (b'1,x""y\n2,z\n', 1),
        (b'1, "x"\n', 1),
        (b'1,"x" \n', 1),
        (b'"1\n2",3\n1,"Pedro "the" legend"\n', 2),
        (b'1,"say \\"hi\\" now"\n', 1),
        (b'1,"Hello,"he said",bye"\n', 1),
        (b'1,"x"""y"\n', 1),
        (b'"x","y"\r"z",1\n', 1),
    ],
)
@pytest.mark.parametrize("schema", [TEXTS, None], ids=["declared", "inferred"])
def test_text_that_pandas_never_writes_is_refused_with_its_row(
    write: Write, monkeypatch: pytest.MonkeyPatch, records: bytes, row: int, schema: pl.Schema | None
) -> None:
    in_blocks_of(7, monkeypatch)
    with pytest.raises(SchemaMismatchError, match=rf"'cars'.* row {row} (has a quote|is no UTF-8)") as caught:
        rows(write(b"a,b\n" + records), schema)
    assert caught.value.row == row


MAIL = "jane@example.com"


@pytest.mark.parametrize(
    ("data", "schema"),
    [
        (f"{MAIL},1\nx,2\n", TEXTS),
        (f"{MAIL},{MAIL}\n", None),
        (f"a,{MAIL},x\n", pl.Schema({"a": pl.String(), "b": pl.String(), "c": pl.String()})),
        (f"a,{MAIL},{MAIL}\n", pl.Schema({"a": pl.String(), "b": pl.String(), "c": pl.String()})),
        (f"{MAIL}\r,b\n", None),
        (f'{MAIL}",b\n', None),
        (f"a,b\n{MAIL},1,2\n", TEXTS),
        (f"a,b\n{MAIL}\n", TEXTS),
        (f'a,b\n{MAIL},"x"y\n', TEXTS),
        (f"a,b\n{MAIL},\udcff\n", TEXTS),
        (f"a,b\n{MAIL},x\n", pl.Schema({"a": pl.String(), "b": pl.Int64()})),
        ("a,b\n1,2\n" + f"{MAIL},1\n" * 5_000 + '1,"\n' + f"{MAIL},1\n" * 5_000, TEXTS),
    ],
)
def test_no_error_shows_a_row(write: Write, data: str, schema: pl.Schema | None) -> None:
    source = replace(write(data.encode("utf-8", "surrogateescape")), max_record_bytes=50_000)
    with pytest.raises(SchemaMismatchError, match="'cars'") as caught:
        rows(source, schema)
    # As Dagster shows it, with the chain of its causes.
    assert MAIL not in "".join(traceback.format_exception(caught.value))


def test_polars_does_not_panic_at_the_user(write: Write) -> None:
    # At such a name Polars 1 does.
    with pytest.raises(SchemaMismatchError, match=r"'cars'.* NUL character"):
        rows(write(b"a\0b,c\n1,2\n"), None)

    def panic(csv: TypedCsv) -> None:
        raise pl.exceptions.PanicException(MAIL)

    with pytest.raises(SchemaMismatchError, match=r"'cars'.* Polars panicked") as caught:
        write(b"a,b\n1,2\n").read(None, panic)
    assert MAIL not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("schema", [TEXTS, None], ids=["declared", "inferred"])
@pytest.mark.parametrize(
    ("data", "begins"), [(b"a,b\n1,2\n" + b'3,"', 8), (b"a,b\n1,2\n" * 3_000 + b'3,"', 24_000), (b'"a,b', 0)]
)
def test_a_quote_that_nothing_closes_ends_in_an_error_and_not_in_all_memory(
    write: Write, monkeypatch: pytest.MonkeyPatch, data: bytes, begins: int, schema: pl.Schema | None
) -> None:
    in_blocks_of(1_000, monkeypatch)
    said = f"'cars', .*the record that begins at byte {begins:,} has more than 100,000 bytes: a quote .*max_record"
    with pytest.raises(SchemaMismatchError, match=said):
        rows(replace(write(data + b"x,y\n" * 100_000), max_record_bytes=100_000), schema)


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"\n1,2\n", b"\r\n", b"\xef\xbb\xbf", b"\xff\xfe\n", b"a," + b"b" * 200_000]
)
def test_file_without_header_is_refused(write: Write, data: bytes) -> None:
    with pytest.raises(SchemaMismatchError, match="not a table") as caught:
        write(data).scan()
    assert (caught.value.dataset, caught.value.window) == ("cars", WINDOW)


def test_two_columns_of_one_name_are_refused(write: Write) -> None:
    """Their name is shown where something says that it is one, and no value of a row."""
    with pytest.raises(SchemaMismatchError, match=r"columns 1 and 3 of the CSV have the same name$") as caught:
        write(b"a,b,a\n1,2,3\n").scan()
    assert caught.value.column is None
    with pytest.raises(SchemaMismatchError, match=r"columns 1 and 3 of the CSV have the same name, \['a'\]$") as caught:
        write(b"a,b,a\n1,2,3\n").scan(INTS)
    assert caught.value.column == "a"


def test_the_error_of_a_header_is_short(write: Write) -> None:
    others, names = ([f"{number:05d}{letter * 1_000}" for number in range(200)] for letter in "ax")
    with pytest.raises(SchemaMismatchError, match=r"missing .* and 190 more\], not declared .* and 191 more") as caught:
        write(",".join([*others, *(name[::-1] for name in names), "z"]).encode()).scan(
            pl.Schema(dict.fromkeys(others + names, pl.String()))
        )
    assert len(str(caught.value)) < 3_500


def test_a_long_record_is_read_or_refused_by_its_limit(write: Write) -> None:
    long = "x" * 70_000
    source = replace(write(f"a,b\n1,{long}\n2,y\n".encode()), max_record_bytes=70_003)
    assert rows(source, TEXTS) == [("1", long), ("2", "y")]
    said = "'cars', window .*: the record that begins at byte 4 has more than 70,002 bytes: .*raise max_record_bytes"
    with pytest.raises(SchemaMismatchError, match=said):
        rows(replace(source, max_record_bytes=70_002), TEXTS)


@pytest.mark.parametrize(("header", "column"), [(b"a\n", "b"), (b"a,b,c\n", "c"), (b"a,B\n", "b")])
def test_other_columns_than_declared_are_refused_before_any_row_is_read(
    write: Write, header: bytes, column: str
) -> None:
    with pytest.raises(SchemaMismatchError, match="columns are not those of the schema") as caught:
        write(header + b"x\n").scan(INTS)
    assert caught.value.column == column


@pytest.mark.parametrize("header", [",".join(f"column{n}" for n in range(200_000)), "a,b," + "x" * 100_000])
@pytest.mark.parametrize("twice", [False, True])
def test_a_header_without_an_end_makes_a_short_error_at_once(write: Write, header: str, twice: bool) -> None:
    source = write(f"{header},{header if twice else 'end'}\n".encode())
    began = time.monotonic()
    with pytest.raises(SchemaMismatchError, match="columns") as caught:
        source.typed(INTS)
    assert len(str(caught.value)) < 1000
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("row", [1, 2, 3, 17, 40])
@pytest.mark.usefixtures("block_bytes")
def test_misfit_is_named_with_column_row_and_value(write: Write, row: int) -> None:
    lines = [f'{number},"{number}"' for number in range(1, 41)]
    lines[row - 1] = f"{row},1.5"
    with pytest.raises(SchemaMismatchError, match=rf"column 'b', row {row}: '1\.5' is not an Int64") as caught:
        rows(write(("a,b\n" + "\n".join(lines)).encode()), INTS)
    error = caught.value
    assert (error.column, error.row, error.value) == ("b", row, "1.5")
    assert (error.dataset, error.window) == ("cars", WINDOW)


def test_error_does_not_repeat_a_long_value(write: Write) -> None:
    with pytest.raises(SchemaMismatchError) as caught:
        rows(write(b"a,b\n1," + b"x" * 5_000 + b"\n"), INTS)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("announced", [0, 2, 4])
@pytest.mark.usefixtures("block_bytes")
def test_other_number_of_rows_than_announced_is_refused(write: Write, announced: int) -> None:
    """See docs/protocol.md#rows-can-be-lost."""
    with pytest.raises(RowCountMismatchError, match=rf"announced {announced} rows, but the CSV has 3"):
        rows(write(b"a,b\n1,2\n3,4\n5,6\n", announced), INTS)


def test_sink_raises_for_lost_rows_and_for_misfits(write: Write, tmp_path: Path) -> None:
    target = tmp_path / "o.parquet"
    with pytest.raises(RowCountMismatchError):
        write(b"a,b\n1,2\n", 5_000).read(INTS, lambda csv: csv.scan().sink_parquet(target))
    with pytest.raises(SchemaMismatchError):
        write(b"a,b\n1,x\n").read(INTS, lambda csv: csv.scan().sink_parquet(target))
    write(b"a,b\n1,2\n", 1).scan(INTS).sink_parquet(target)
    assert pl.read_parquet(target).rows() == [(1, 2)]


@pytest.mark.usefixtures("block_bytes")
def test_queries_see_what_they_would_see_of_a_frame(write: Write, tmp_path: Path) -> None:
    data = b"a,b,c\n" + b"".join(b"%d,%d,x%d\n" % (n, n % 3, n) for n in range(50))
    schema = pl.Schema({"a": pl.Int64(), "b": pl.Int64(), "c": pl.String()})
    lazy = write(data, 50).scan(schema)
    whole = pl.DataFrame(
        {"a": range(50), "b": [n % 3 for n in range(50)], "c": [f"x{n}" for n in range(50)]}, schema=schema
    )
    assert lazy.collect_schema() == schema
    queries: list[Callable[[pl.LazyFrame], pl.LazyFrame]] = [
        lambda frame: frame,
        lambda frame: frame.select("c", "a"),
        lambda frame: frame.select(pl.len()),
        lambda frame: frame.filter(pl.col("b") == 1),
        lambda frame: frame.filter(pl.col("b") == 1).select("c"),
        lambda frame: frame.filter(pl.col("b") == 1).select(pl.len()),
        lambda frame: frame.head(7),
        lambda frame: frame.head(0),
        lambda frame: frame.head(50),
        lambda frame: frame.head(1_000),
        lambda frame: frame.head(20).filter(pl.col("b") == 2),
        lambda frame: frame.filter(pl.col("b") == 2).head(5),
        lambda frame: frame.slice(30, 5),
        lambda frame: frame.tail(3),
        lambda frame: frame.group_by("b").agg(pl.col("a").sum()).sort("b"),
        lambda frame: frame.with_row_index(),
        lambda frame: frame.join(frame.select("a"), on="a").sort("a"),
    ]
    for query in queries:
        expected = query(whole.lazy()).collect()
        assert query(lazy).collect().equals(expected)
        assert query(lazy).collect(engine="streaming").equals(expected)
    lazy.sink_parquet(tmp_path / "o.parquet")
    assert pl.read_parquet(tmp_path / "o.parquet").equals(whole)
    assert lazy.select(pl.len()).collect().item() == 50


@pytest.mark.usefixtures("block_bytes")
def test_categories_of_all_blocks_come_together(write: Write) -> None:
    schema = pl.Schema({"a": pl.Categorical(), "b": pl.Enum(["x", "y"])})
    data = b"a,b\n" + b"".join(b"k%d,%s\n" % (n % 7, b"xy"[n % 2 :][:1]) for n in range(40))
    assert rows(write(data), schema) == [(f"k{n % 7}", "xy"[n % 2]) for n in range(40)]


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize("dtype", [pl.Datetime("us", "Europe/Berlin"), pl.Decimal(12, 3), pl.Time(), pl.Float32()])
def test_frame_has_the_declared_types(write: Write, dtype: Any) -> None:
    lazy = write(b'a\n""\n').scan(pl.Schema({"a": dtype}))
    assert lazy.collect().schema == lazy.collect_schema() == {"a": dtype}


def test_inferred_types_can_be_overridden(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    source = write(b"a,b\n1,2\n")
    overrides = {"b": pl.String(), "z": pl.Int8()}
    with caplog.at_level("WARNING"):
        assert source.typed(overrides=overrides).scan().collect().rows() == [(1, "2")]
    assert "'z'" in caplog.text


@pytest.mark.parametrize("schema", [TEXTS, None], ids=["declared", "inferred"])
def test_an_empty_field_is_null_quoted_or_not(write: Write, schema: pl.Schema | None) -> None:
    data = b'a,b\n,x\n"",x\n"y",""\n"z",\n"""""",""""\n'
    assert rows(write(data), schema) == [(None, "x"), (None, "x"), ("y", None), ("z", None), ('""', '"')]


def test_foreign_errors_pass_through(write: Write) -> None:
    def use(csv: TypedCsv) -> None:
        csv.scan().collect()
        raise pl.exceptions.ComputeError("other")

    with pytest.raises(pl.exceptions.ComputeError, match="other"):
        write(b"a,b\n1,2\n").read(INTS, use)


def test_each_reader_gets_the_error_of_its_own_file(write: Write) -> None:
    """Also where two errors have the same text, and one file is read in the middle of the other."""
    inner = write(b"a,b\n1,x\n")
    outer = CsvSource(inner.opener, 5, "cars", WINDOW)

    def use(csv: TypedCsv) -> None:
        with pytest.raises(SchemaMismatchError) as caught:
            inner.read(INTS, lambda other: other.scan().collect())
        assert csv.error is None
        assert caught.value.column == "b"
        csv.scan().collect()

    with pytest.raises(RowCountMismatchError):
        outer.read(TEXTS, use)


def test_fields_longer_than_any_block_are_kept(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    in_blocks_of(1 << 12, monkeypatch)
    long = "x,\n" * 400_000
    source = write(b'a,b\n1,2\n"' + long.encode() + b'",y\n3,4\n')
    assert rows(source, TEXTS) == [("1", "2"), (long, "y"), ("3", "4")]


# Round trips of what real pandas writes.

awkward = st.sampled_from(
    ["None", "nan", "NA", "NULL", "007", "1.0", "1e5", "True", "2024-01-01", '"', '""', ",", "\n", "\r\n", "\r",
    "x\r", " x ",
     "\ufeff", "#", "'", "\\", "\ue000", "\ue000\r", "a\rb", "-0", "+1", "1" * 25]
)  # fmt: skip
texts = st.one_of(awkward, st.text(max_size=8), st.text('",\r\n a1', max_size=8))
# Python 3.10 writes no NUL.
utf8_texts = texts.filter(lambda text: "\0" not in text and text.encode("utf-8", "ignore").decode() == text)
seconds = st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1)).map(lambda value: value.replace(microsecond=0))
micros = st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1))
# Earlier ones have offsets with seconds in them, which are refused.
since_1900 = st.datetimes(datetime(1900, 1, 1), datetime(2250, 1, 1))
midnights = seconds.map(lambda value: value.replace(hour=0, minute=0, second=0))
nanos = st.tuples(micros, st.integers(0, 999)).map(
    lambda pair: pd.Timestamp(pair[0]).as_unit("ns") + pd.Timedelta(pair[1], "ns")
)
int64 = st.integers(-(2**63), 2**63 - 1)
exact = st.integers(-(2**53) + 1, 2**53 - 1)
floats = st.floats(allow_nan=False) | st.sampled_from(
    [1e16, 1e-5, 1e22, 5e-324, 1.7976931348623157e308, -0.0, 0.1, 123.0]
)


def column(values: st.SearchStrategy[Any], to_pandas: Callable[[list[Any]], pd.Series], nulls: bool, dtype: Any) -> Any:
    cells = st.none() | values if nulls else values
    return st.lists(cells, min_size=0, max_size=6).map(lambda cells: (cells, to_pandas(cells), dtype))


def as_instants(unit: str) -> Callable[[list[Any]], pd.Series]:
    return lambda cells: pd.Series(pd.to_datetime(pd.Series(cells, dtype=object)).astype(f"datetime64[{unit}]"))


COLUMNS = {
    "ints": column(int64, lambda c: pd.Series(c, dtype="int64"), False, pl.Int64()),
    "ints with nulls": column(exact, lambda c: pd.Series(c, dtype="float64"), True, pl.Int64()),
    "nullable ints": column(int64, lambda c: pd.Series(c, dtype="Int64"), True, pl.Int64()),
    "floats": column(floats, lambda c: pd.Series(c, dtype="float64"), True, pl.Float64()),
    "bools": column(st.booleans(), lambda c: pd.Series(c, dtype="object"), True, pl.Boolean()),
    "texts": column(utf8_texts, lambda c: pd.Series(c, dtype="object"), True, pl.String()),
    "dates": column(st.dates(date(1, 1, 1)), lambda c: pd.Series(c, dtype="object"), True, pl.Date()),
    "seconds": column(seconds, as_instants("us"), True, pl.Datetime("us")),
    "midnights": column(midnights, as_instants("us"), True, pl.Datetime("us")),
    "micros": column(micros, as_instants("us"), True, pl.Datetime("us")),
    "nanos": column(nanos, as_instants("ns"), True, pl.Datetime("ns")),
    "zoned": column(
        since_1900, lambda c: as_instants("us")(c).dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin"), True,
        pl.Datetime("us", "UTC"),
    ),
}  # fmt: skip


def pandas_csv(columns: dict[str, tuple[list[Any], pd.Series, Any]]) -> tuple[bytes, int]:
    height = min(len(cells) for cells, _, _ in columns.values())
    text = pd.DataFrame({name: series[:height] for name, (_, series, _) in columns.items()}).to_csv(index=False)
    assert isinstance(text, str)
    return text.encode(), height


def as_read(cell: Any, dtype: Any) -> Any:
    """What a cell is when it is read: an empty string is null, an instant is in UTC."""
    if cell is None or cell == "":
        return None
    if dtype == pl.Datetime("ns"):
        return pd.Timestamp(cell).as_unit("ns").value
    return cell.replace(tzinfo=timezone.utc) if dtype == pl.Datetime("us", "UTC") else cell


def read_cells(series: pl.Series) -> list[Any]:
    return (series.to_physical() if series.dtype == pl.Datetime("ns") else series).to_list()


@settings(shared_path, max_examples=examples(120))
@given(st.fixed_dictionaries({}, optional=COLUMNS).filter(bool), st.sampled_from([1, 13, 1 << 24]))
def test_what_pandas_writes_is_what_is_read(write: Write, columns: dict[str, Any], size: int) -> None:
    data, height = pandas_csv(columns)
    with pytest.MonkeyPatch.context() as patch:
        in_blocks_of(size, patch)
        frame = write(data, height).scan(pl.Schema({name: dtype for name, (_, _, dtype) in columns.items()})).collect()
    for name, (cells, _, dtype) in columns.items():
        assert read_cells(frame[name]) == [as_read(cell, dtype) for cell in cells[:height]]


def spelled(series: pl.Series) -> list[str | None]:
    """A typed column as pandas would write it."""
    cells = series.to_list()
    if series.dtype == pl.Boolean or series.dtype == pl.Int64:
        return [None if cell is None else str(cell) for cell in cells]
    if series.dtype == pl.Float64:
        return [None if cell is None else repr(cell) for cell in cells]
    if series.dtype == pl.Date:
        return [None if cell is None else cell.isoformat() for cell in cells]
    return cells


numeric_texts = st.from_regex(r"-?[0-9]{1,3}(\.[0-9]{1,3})?(e[+-][0-9]{2})?", fullmatch=True) | st.from_regex(
    r"-?[1-9][0-9]{13,18}(\.[0-9]{1,6})?|[1-9]\.[0-9]{14,17}e[+-][0-9]{2,3}|0\.[0-9]{1,19}", fullmatch=True
)
dateish = st.from_regex(
    r"(20|99)[0-9]{2}-[01][0-9]-[0-3][0-9]( [0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]{7})?)?", fullmatch=True
)
lookalikes = st.lists(st.one_of(numeric_texts, dateish, awkward, st.just("True")) | st.none(), max_size=5) | st.lists(
    numeric_texts | st.none(), max_size=5
) | st.lists(dateish, max_size=5)  # fmt: skip


@settings(shared_path, max_examples=examples(120))
@given(lookalikes)
def test_inference_never_changes_a_value(write: Write, cells: list[str | None]) -> None:
    data = pd.DataFrame({"a": pd.Series(cells, dtype="object")}).to_csv(index=False).encode()
    inferred = write(data, len(cells)).scan().collect()["a"]
    with pytest.MonkeyPatch.context() as patch:
        in_blocks_of(1, patch)
        again = write(data, len(cells)).scan().collect()["a"]
        guessed = write(data, len(cells)).read(None, lambda csv: csv.scan().collect())["a"]
    assert guessed.dtype == inferred.dtype
    assert guessed.equals(inferred)
    assert again.dtype == inferred.dtype
    assert again.equals(inferred)
    expected = [cell or None for cell in cells]
    if isinstance(inferred.dtype, pl.Datetime):
        assert [None if c is None else pd.Timestamp(c) for c in expected] == [
            None if v is None else pd.Timestamp(v, unit=inferred.dtype.time_unit) for v in inferred.to_physical()
        ]
    elif inferred.dtype == pl.Float64:
        # Integers may stand beside fractions, as batches are written apart.
        assert [c if c is None or "." in c or "e" in c else f"{c}.0" for c in expected] == spelled(inferred)
    else:
        assert spelled(inferred) == expected


@pytest.mark.parametrize(
    ("later", "dtype", "passes"),
    [
        ("5", pl.Int64(), 1),
        ("", pl.Int64(), 1),
        ("5.5", pl.Float64(), 2),
        ("5.0", pl.Float64(), 2),
        ("x", pl.String(), 2),
        ("007", pl.String(), 2),
        ("-0", pl.String(), 2),
        (str(10**15), pl.Int64(), 2),
    ],
)
def test_types_are_inferred_in_one_pass_where_those_of_the_first_block_hold(
    write: Write, monkeypatch: pytest.MonkeyPatch, later: str, dtype: pl.DataType, passes: int
) -> None:
    in_blocks_of(8, monkeypatch)
    source = write(b"a,b\n1,1\n2,2\n3,%b\n" % later.encode())
    seen: list[pl.Schema] = []

    def use(csv: TypedCsv) -> pl.DataFrame:
        seen.append(csv.schema)
        return csv.scan().collect()

    rows = source.read(None, use)
    assert len(seen) == passes
    assert rows.schema == seen[-1] == {"a": pl.Int64(), "b": dtype}
    assert rows.equals(source.scan().collect())


def test_what_fails_for_another_reason_is_not_read_again(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    in_blocks_of(8, monkeypatch)
    source = write(b"a\n1\n2\n3\n", 4)
    seen: list[pl.Schema] = []

    def use(csv: TypedCsv) -> None:
        seen.append(csv.schema)
        csv.scan().collect()

    with pytest.raises(RowCountMismatchError):
        source.read(None, use)
    assert len(seen) == 1


@settings(shared_path, max_examples=examples(80))
@given(st.fixed_dictionaries({}, optional=COLUMNS).filter(bool))
def test_inference_does_not_depend_on_the_size_of_blocks(write: Write, columns: dict[str, Any]) -> None:
    data, height = pandas_csv(columns)
    source = write(data, height)
    whole = source.scan().collect()
    with pytest.MonkeyPatch.context() as patch:
        in_blocks_of(1, patch)
        assert source.scan().collect().equals(whole)
    narrowest = {name: {dtype, pl.String()} for name, (_, _, dtype) in columns.items()}
    for name in narrowest.keys() & {"ints", "nullable ints", "bools", "dates", "micros", "zoned"}:
        assert whole[name].dtype in narrowest[name] | {pl.Date(), pl.Datetime("us")}


@settings(shared_path, max_examples=examples(150))
@given(
    st.lists(st.lists(st.text('",\n a', max_size=4), min_size=2, max_size=2), max_size=8),
    st.sampled_from(["\n", "\r\n"]),
)
def test_records_are_those_of_pythons_csv(write: Write, records: list[list[str]], end: str) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator=end).writerows([["a", "b"], *records])
    source = write(buffer.getvalue().encode(), len(records))
    for size in (1, 5, 1 << 24):
        with pytest.MonkeyPatch.context() as patch:
            in_blocks_of(size, patch)
            assert rows(source, TEXTS) == [tuple(cell or None for cell in record) for record in records]


def test_errors_of_a_scan_are_typed(write: Write) -> None:
    with pytest.raises(FdtccError):
        write(b"a,b\n1,x\n").read(INTS, lambda csv: csv.scan().collect())


def test_far_future_beside_nanoseconds_is_no_other_century(write: Write) -> None:
    data = b"a\n9999-12-31\n2024-01-01 00:00:00.123456789\n"
    assert write(data).scan().collect()["a"].to_list() == ["9999-12-31", "2024-01-01 00:00:00.123456789"]
    with pytest.raises(SchemaMismatchError):
        rows(write(data), pl.Schema({"a": pl.Datetime("ns")}))
