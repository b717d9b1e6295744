"""Malformed raw files, generated: each row is read right or refused with a reason, or the run ends with one clear line.

A log of rows with known values is damaged in one of many ways, at places drawn by a fixed seed. Each way
has a known number of records in the damaged file, and known undamaged rows.
"""

import bz2
import gzip
import lzma
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pytest
from raw_logs import header
from shop import SHOP

from jobs.raw.files import find_raw_files
from jobs.raw.reader.open_file import open_raw_file
from jobs.raw.reader.read import plan_splits, read_split
from jobs.raw.reader.typed_rows import RAW, REASON, SOURCE
from schemas.dataset import RawFile
from schemas.errors import NothingToDo, UserError

LAYOUT = SHOP.log
COLUMNS = [column.name for column in LAYOUT.columns]
HEADER = header(LAYOUT).encode()
NAME = "sent-2024-05-01.txt"
CUSTOMER, SENT, MEDIUM, PRICE, OPENED, BOUGHT, AGE = range(7)
Fields = list[bytes]
Values = tuple[object, ...]


@dataclass
class Damaged:
    """A malformed input.

    files: by name. rows: the values of the undamaged rows, which must be read. affected: the number of the further
    records, which may be read or refused; must_refuse: how many of these must be refused. line: a part of the one clear
    line, if the input ends the run with one.
    """

    files: dict[str, bytes]
    rows: Sequence[Values]
    affected: int = 0
    must_refuse: int = 0
    line: str = ""


def good_fields(draw: random.Random, k: int) -> Fields:
    return [b"c%d" % k, b"2024-05-01T%02d:30:00Z" % draw.randrange(24), draw.choice([b"mail", b"sms"]),
            draw.choice([b"0.1", b"2.5", b"1e-3"]), draw.choice([b"0", b"1"]), draw.choice([b"", b"2024-05-02"]),
            draw.choice([b"", b"41"])]  # fmt: skip


def values_of(fields: Fields) -> Values:
    text = [field.decode() or None for field in fields]
    age = None if text[AGE] is None else float(text[AGE])
    return (text[CUSTOMER], text[SENT], text[MEDIUM], float(text[PRICE]), int(text[OPENED]), text[BOUGHT], age)


def file_of(records: Sequence[bytes], *, line_end: bytes = b"\n", top: bytes = HEADER) -> dict[str, bytes]:
    return {NAME: line_end.join([top, *records, b""])}


def joined(fields: Fields) -> bytes:
    return b";".join(fields)


# Ways to damage one row. Each returns the record, and whether it must be refused.
def field_set_to(
    place: int, *texts: bytes, refused: bool = True
) -> Callable[[random.Random, Fields], tuple[bytes, bool]]:
    def damage(draw: random.Random, fields: Fields) -> tuple[bytes, bool]:
        fields = list(fields)
        fields[place] = draw.choice(texts)
        return joined(fields), refused

    return damage


def field_lost(draw: random.Random, fields: Fields) -> tuple[bytes, bool]:
    del fields[draw.randrange(7)]
    return joined(fields), True


def field_added(draw: random.Random, fields: Fields) -> tuple[bytes, bool]:
    fields.insert(draw.randrange(8), b"x")
    return joined(fields), True


def cut_short(draw: random.Random, fields: Fields) -> tuple[bytes, bool]:
    record = joined(fields)
    return record[: draw.randrange(1, record.rindex(b";"))], True


def bytes_put_in(*pieces: bytes) -> Callable[[random.Random, Fields], tuple[bytes, bool]]:
    def damage(draw: random.Random, fields: Fields) -> tuple[bytes, bool]:
        record = joined(fields)
        place = draw.randrange(len(record) + 1)
        return record[:place] + draw.choice(pieces) + record[place:], True

    return damage


def many_fields(draw: random.Random, fields: Fields) -> tuple[bytes, bool]:
    return joined(fields * draw.choice([1000, 20_000])), True


def huge(draw: random.Random, fields: Fields) -> tuple[bytes, bool]:
    fields[BOUGHT] = b"x" * draw.choice([1 << 20, 5 << 20])
    return joined(fields), True


def open_quote(draw: random.Random, fields: Fields) -> tuple[bytes, bool]:
    place = draw.randrange(7)
    fields[place] = b'"' + fields[place]
    return joined(fields), True


def text_behind_quote(draw: random.Random, fields: Fields) -> tuple[bytes, bool]:
    fields[draw.choice([CUSTOMER, MEDIUM, BOUGHT])] = b'"a" b'
    return joined(fields), True


def random_bytes(draw: random.Random, fields: Fields) -> tuple[bytes, bool]:
    record = bytes(draw.choice([b for b in range(256) if b not in b'\n\r";']) for _ in range(draw.randrange(1, 80)))
    return b"\x80" + record, True


def two_rows_in_one(draw: random.Random, fields: Fields) -> tuple[bytes, bool]:
    return joined(fields) + joined(fields), True


ROW_DAMAGES = {
    "a text as a number": field_set_to(PRICE, b"free", b"1,5", b"0x1F", b"nan", b"inf", b"1e400", b"$1", b"1_0"),
    "a text as a whole number": field_set_to(OPENED, b"yes", b"1.5", b"0x1", b"9" * 30, b"1e300", b"--1", b"\xc2\xa01"),
    "a missing value": field_set_to(CUSTOMER, b"", b"  ", b'""'),
    "a missing number": field_set_to(OPENED, b"", b" ", b'""'),
    "an unusual number": field_set_to(OPENED, b"1.0", b" 1", b"+1", b"1e0", b'"1"', b"01", refused=False),
    "an unusual text": field_set_to(CUSTOMER, b" a", b"a ", b'"a;b"', b'"a\nb"', b'"a\r\nb"', b'"a""b"', b'a"b',
                                    b"\x1b[2J", b"a\tb", b"=1+1", "\u202e\U0001f600".encode(), refused=False),
    "a field lost": field_lost,
    "a field added": field_added,
    "a row cut short": cut_short,
    "a byte of another encoding": bytes_put_in(b"\xe9", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\xf5"),
    "a NUL byte": bytes_put_in(b"\x00", b"\x00" * 4096),
    "many fields": many_fields,
    "a huge field": huge,
    "a quote that is not closed": open_quote,
    "text behind a closing quote": text_behind_quote,
    "random bytes": random_bytes,
    "a line end lost": two_rows_in_one,
    "a byte order mark inside": lambda draw, fields: (b"\xef\xbb\xbf" + joined(fields), True),
    "a line end of another kind": lambda draw, fields: (b"\r" + joined(fields), True),
    "digits of another script": field_set_to(PRICE, "\u0663".encode(), "\uff11".encode(), b"1.000.0", b"1d", b"- 1"),
    "a whole number beyond a float": field_set_to(OPENED, b"9007199254740993.0", b"1e18", b"-9223372036854775809"),
    "another way to quote": field_set_to(PRICE, b"'0.1'", b'\\"0.1\\"', b' "0.1"'),
    "words for missing that the contract does not name": field_set_to(PRICE, b"NULL", rb"\N", b"NA", b"-", b"?"),
    "a row of another file": lambda draw, fields: (draw.choice([b",", b"\t", b"|"]).join(fields), True),
    "the end of an old text file": lambda draw, fields: (b"\x1a", True),
}  # fmt: skip


def one_row_damaged(name: str, draw: random.Random) -> Damaged:
    rows = [good_fields(draw, k) for k in range(draw.randrange(2, 60))]
    place = draw.randrange(len(rows))
    record, refused = ROW_DAMAGES[name](draw, list(rows[place]))
    records = [joined(fields) for fields in rows]
    records[place] = record
    undamaged = [values_of(fields) for k, fields in enumerate(rows) if k != place]
    return Damaged(file_of(records, line_end=draw.choice([b"\n", b"\r\n"])), undamaged, 1, int(refused))


# Ways to damage a file.
def damaged_file(draw: random.Random, name: str) -> Damaged:
    rows = [good_fields(draw, k) for k in range(draw.randrange(1, 60))]
    records, values = [joined(fields) for fields in rows], [values_of(fields) for fields in rows]
    plain = file_of(records)[NAME]
    refused = Damaged({}, [], len(rows), len(rows))
    all_read = Damaged({}, values)
    recent = "cut off or damaged; it has changed 0 minutes ago"
    place = draw.randrange(len(records) + 1)
    cases: dict[str, Callable[[], Damaged]] = {
        "lines end in CR": lambda: replace(all_read, files=file_of(records, line_end=b"\r")),
        "no last line end": lambda: replace(all_read, files={NAME: plain[:-1]}),
        "blank lines": lambda: replace(all_read, files=file_of([*records[:place], b"", b"  ", *records[place:]])),
        "a byte order mark": lambda: replace(all_read, files={NAME: b"\xef\xbb\xbf" + plain}),
        "UTF-16": lambda: replace(all_read, files={NAME: plain.decode().encode("utf-16")}),
        "gzip": lambda: replace(all_read, files={NAME: gzip.compress(plain)}),
        "gzip of two members": lambda: replace(
            all_read, files={f"{NAME}.gz": gzip.compress(plain[:40]) + gzip.compress(plain[40:])}
        ),
        "zstd": lambda: replace(all_read, files={f"{NAME}.gz": pa.compress(plain, "zstd", asbytes=True)}),
        "bz2": lambda: replace(all_read, files={NAME: bz2.compress(plain)}),
        "an odd name": lambda: replace(
            all_read, files={f"sent-{draw.choice(['a b', '%41', '#', ':', chr(10), chr(27), '[1]', 'é'])}.txt": plain}
        ),
        "other columns too": lambda: replace(
            all_read, files=file_of([b"x;" + record for record in records], top=b"more;" + HEADER)
        ),
        "the columns in another order": lambda: replace(
            all_read, files=file_of([b";".join(reversed(fields)) for fields in rows],
                                    top=b";".join(reversed(HEADER.split(b";")))),
        ),
        "a column is missing": lambda: replace(refused, files=file_of(records, top=HEADER.replace(b"price", b"cost"))),
        "a column twice": lambda: replace(
            refused, files=file_of([record + b";1" for record in records], top=HEADER + b";price")
        ),
        "the header again": lambda: Damaged(file_of([*records[:place], HEADER, *records[place:]]), values, 1, 1),
        "no header": lambda: Damaged({NAME: b"\n".join([*records, b""])}, [], len(rows), len(rows)),
        "another separator": lambda: Damaged(
            {NAME: plain.replace(b";", b",")}, [], len(rows) + 1, len(rows) + 1
        ),
        "an empty file": lambda: Damaged({NAME: b""}, [], line="is empty: it is not read"),
        "a zip file": lambda: Damaged({NAME: b"PK\x03\x04" + plain}, [], line="another kind of file"),
        "zstd with an empty frame": lambda: replace(
            all_read, files={NAME: b"\x53\x2a\x4d\x18\x02\x00\x00\x00ab" + pa.compress(plain, "zstd", asbytes=True)}
        ),
        "CR CR LF": lambda: replace(all_read, files=file_of(records, line_end=b"\r\r\n")),
        "zeros behind gzip": lambda: replace(all_read, files={NAME: gzip.compress(plain) + b"\x00" * 512}),
        "other bytes behind gzip": lambda: Damaged({NAME: gzip.compress(plain) + b"other"}, [], line=recent),
        "gzip twice": lambda: Damaged({NAME: gzip.compress(gzip.compress(plain))}, [], line="compressed twice"),
        "a separator at each end": lambda: replace(
            all_read, files=file_of([record + b";" for record in records], top=HEADER + b";")
        ),
        "a separator at the rows' ends": lambda: replace(refused, files=file_of([r + b";" for r in records])),
        "a line for Excel": lambda: Damaged({NAME: b"sep=;\n" + plain}, [], len(rows) + 2, len(rows) + 2),
        "a title": lambda: Damaged({NAME: b"Sent in May\n\n" + plain}, [], len(rows) + 2, len(rows) + 2),
        "capital names": lambda: Damaged(file_of(records, top=HEADER.upper()), [], len(rows) + 1, len(rows) + 1),
        "zeros at the end": lambda: Damaged({NAME: plain + b"\x00" * draw.randrange(1, 5000)}, values, 1, 1),
        "a quote that the file's end closes not": lambda: Damaged(
            {NAME: plain + b'"c;2024-05-01T01:30:00Z;mail;0.1;1;;41'}, values, 1, 1
        ),
        "a page of an error": lambda: Damaged({NAME: b"<html><body>403 Forbidden</body></html>"}, [], 1, 1),
        "a pointer to the file": lambda: Damaged({NAME: b"version 1\nsize 9\n"}, [], 2, 2),
        "an Arrow file": lambda: Damaged({NAME: b"ARROW1\x00\x00" + plain}, [], line="another kind of file"),
        "lzma": lambda: Damaged({NAME: lzma.compress(plain, lzma.FORMAT_ALONE)}, [], line="another kind of file"),
        "UTF-16 without a mark": lambda: Damaged(
            {NAME: plain.decode().encode("utf-16-le")}, [], len(rows) + 2, len(rows) + 2
        ),
        "zeros": lambda: Damaged({NAME: b"\x00" * len(plain)}, [], line="another kind of file"),
        "a cut gzip": lambda: Damaged({NAME: gzip.compress(plain)[:-draw.randrange(1, 25)]}, [], line=recent),
        "a cut zstd": lambda: Damaged({NAME: pa.compress(plain, "zstd", asbytes=True)[:-draw.randrange(1, 9)]}, [],
                                      line=recent),
        "a damaged gzip": lambda: Damaged({NAME: _flipped(draw, gzip.compress(plain))}, [], line=recent),
        "two forms": lambda: Damaged({NAME: plain, f"{NAME}.gz": plain}, [], line="two forms of one file"),
        "no file": lambda: Damaged({"other.log": plain}, [], line="no shop files in"),
        "a copy of a download": lambda: Damaged(
            {NAME: plain, "sent-2.txt.part": plain}, values, line=""
        ),
    }  # fmt: skip
    return cases[name]()


WHOLE_FILE_DAMAGES = [
    "lines end in CR", "no last line end", "blank lines", "a byte order mark", "UTF-16", "gzip", "gzip of two members",
    "zstd", "bz2", "an odd name", "other columns too", "the columns in another order", "a column is missing",
    "a column twice", "the header again", "no header", "another separator", "an empty file", "a zip file", "zeros",
    "a cut gzip", "a cut zstd", "a damaged gzip", "two forms", "no file", "a copy of a download",
    "zstd with an empty frame", "CR CR LF", "zeros behind gzip", "other bytes behind gzip", "gzip twice",
    "a separator at each end", "a separator at the rows' ends", "a line for Excel", "a title", "capital names",
    "zeros at the end", "a quote that the file's end closes not", "a page of an error", "a pointer to the file",
    "an Arrow file", "lzma", "UTF-16 without a mark",
]  # fmt: skip


def _flipped(draw: random.Random, data: bytes) -> bytes:
    """One byte of the checksum at the end is wrong."""
    place = draw.randrange(len(data) - 8, len(data) - 4)
    return data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]


def fate_of(damaged: Damaged, folder: Path, draw: random.Random) -> str:
    """Reads the input and checks all promises; "line", "refused" (at least one row) or "read"."""
    folder.mkdir()
    for name, data in damaged.files.items():
        (folder / name).write_bytes(data)
    if damaged.line:
        with pytest.raises((UserError, NothingToDo)) as error:
            read_rows(folder, SHOP.log, draw)
        assert damaged.line in str(error.value)
        assert "\n" not in str(error.value)
        return "line"
    rows = read_rows(folder, SHOP.log, draw)
    assert len(rows) == len(damaged.rows) + damaged.affected, "accounting"
    read = Counter(tuple(row[:7]) for row in rows if row[7] is None)
    refused = [row for row in rows if row[7] is not None]
    assert not Counter(damaged.rows) - read, "an undamaged row is lost or changed"
    assert len(refused) >= damaged.must_refuse
    assert len(refused) <= damaged.affected
    content = {name: decompressed(data) for name, data in damaged.files.items()}
    for *_, reason, raw, name in rows:
        assert name in damaged.files
        assert raw in content[name]
        assert reason is None or (reason and reason.isprintable() and len(reason) < 300)
    return "refused" if refused else "read"


def read_rows(folder: Path, layout: RawFile, draw: random.Random) -> list[tuple[object, ...]]:
    rows = []
    for path in find_raw_files(SHOP, folder)["log"].paths:
        smallest = 1 + path.stat().st_size // 1000
        for split in plan_splits(open_raw_file(path, layout), draw.choice([50 * smallest, 1 << 25])):
            for table in read_split(split, layout, draw.choice([7 * smallest, 1 << 22])):
                rows += zip(*(table.column(n).to_pylist() for n in (*COLUMNS, REASON, RAW, SOURCE)), strict=True)
    return rows


def decompressed(data: bytes) -> bytes:
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    if data.startswith(b"BZh"):
        return bz2.decompress(data)
    if data.startswith((b"\x28\xb5\x2f\xfd", b"\x53\x2a\x4d\x18")):
        return pa.input_stream(pa.py_buffer(data), compression="zstd").read()
    return data.decode("utf-16").encode() if data.startswith((b"\xff\xfe", b"\xfe\xff")) else data


@pytest.mark.slow
def test_malformed_files(tmp_path, record_property, capsys):
    """At least 300 inputs; how many of each fate there are is printed."""
    fates: Counter[str] = Counter()
    started = time.monotonic()
    for k, name in enumerate([*ROW_DAMAGES] * 11 + WHOLE_FILE_DAMAGES * 4):
        draw = random.Random(f"{k} {name}")
        damaged = one_row_damaged(name, draw) if name in ROW_DAMAGES else damaged_file(draw, name)
        try:
            fates[fate_of(damaged, tmp_path / str(k), draw)] += 1
        except AssertionError as error:
            raise AssertionError(f"input {k}, {name}: {error}") from error
    with capsys.disabled():
        counts = ", ".join(f"{count} {fate}" for fate, count in sorted(fates.items()))
        print(f"\nmalformed files: {fates.total()} inputs, {counts} ({time.monotonic() - started:.0f} s)")
    record_property("fates", dict(fates))
    assert fates.total() >= 300
    assert min(fates["line"], fates["refused"], fates["read"]) >= 30
