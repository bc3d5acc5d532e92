"""A list of samples as CSV, whose first line is `id`, `id,count`, `key` or `key,count`. Imports no torch.

A count says how often the sample appears in an epoch. Without the column, each listed sample appears once. A count of 0
leaves the sample out, like samples that the list does not name. A list may be as long as the data: the file is read in
blocks, and numpy parses the numbers.

Shape letters: n lines of a block, B bytes of it.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from xxhash import xxh3_128

from tercet.data_pipelines.plans.listing import LARGEST_COUNT, ListBlock, Listing
from tercet.errors import UserError

HEADERS = {("id",), ("id", "count"), ("key",), ("key", "count")}
LONGEST, BLOCK = 1000, 2**20  # bytes of the header, and of a block
WIDEST = 18  # digits of a number, which fit into 64 bits
NEWLINE, COMMA = b"\n,"
IN_A_LINE_OF_NUMBERS = np.isin(np.arange(256), list(b"0123456789,\n"))


class ListFile(Listing):
    """A list as CSV. The header is read once, the lines each time that they are needed."""

    def __init__(self, path: str) -> None:
        self.path = path
        with self._opened() as file:
            first = file.readline(LONGEST).decode("utf-8-sig", "replace").strip()
        self.columns = tuple(name.strip() for name in first.split(","))
        if self.columns not in HEADERS:
            raise UserError(
                f"{path}: the first line is `{first[:60]}`, but a list begins with the names of its columns: "
                "`id`, `id,count`, `key` or `key,count`"
            )

    @property
    def by_key(self) -> bool:
        return self.columns[0] == "key"

    def digest(self) -> str:
        """A hash of the content of the file."""
        state = xxh3_128()
        with self._opened() as file:
            while block := file.read(BLOCK):
                state.update(block)
        return state.hexdigest()[:16]

    def place(self, line: int) -> str:
        return f"{self.path}, line {line}"

    def blocks(self) -> Iterator[ListBlock]:
        """The lines below the header, in blocks."""
        with self._opened() as file:
            file.readline()
            line = 2
            while block := file.read(BLOCK) + file.readline():
                block = block.replace(b"\r\n", b"\n")
                block += b"" if block.endswith(b"\n") else b"\n"
                yield self._numbers(block, line) or self._parsed(block, line)
                line += block.count(b"\n")

    def _opened(self) -> BinaryIO:
        try:
            return Path(self.path).open("rb")
        except OSError as error:
            raise UserError(
                f"the list {self.path} cannot be read ({error.strerror}); name a CSV or Parquet file"
            ) from None

    def _numbers(self, block: bytes, line: int) -> ListBlock | None:
        """Parses lines of plain numbers fast; None if there are other lines."""
        code_B = np.frombuffer(block, dtype=np.uint8)
        if self.by_key or not IN_A_LINE_OF_NUMBERS[code_B].all():
            return None
        ends = np.flatnonzero((code_B == NEWLINE) | (code_B == COMMA))
        signs = code_B[ends]
        width = np.diff(ends, prepend=-1) - 1
        columns = len(self.columns)
        regular = len(ends) % columns == 0 and (signs.reshape(-1, columns) == [COMMA, NEWLINE][-columns:]).all()
        if not regular or width.min() < 1 or width.max() > WIDEST:
            return None
        cell = np.fromstring(block.replace(b",", b" ").decode(), dtype=np.int64, sep=" ").reshape(-1, columns)
        count_n = cell[:, 1] if columns == 2 else np.ones(len(cell), dtype=np.int64)
        if count_n.max() > LARGEST_COUNT:
            return None
        return ListBlock(line + np.arange(len(cell)), cell[:, 0], count_n)

    def _parsed(self, block: bytes, line: int) -> ListBlock:
        """Parses line by line: keys, and numbers in other forms."""
        try:
            rows = csv.reader(block.decode("utf-8").splitlines())
            cells = [(number, row) for number, row in enumerate(rows, start=line) if row]
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{self.path}, from line {line} on: not CSV in UTF-8 ({error})") from None
        for number, row in cells:
            self._check(number, row)
        named = [row[0].strip() for _, row in cells]
        count_n = np.array([int(row[1]) if len(row) > 1 else 1 for _, row in cells], dtype=np.int64)
        ids = named if self.by_key else np.array(list(map(int, named)), dtype=np.int64)
        return ListBlock(np.array([number for number, _ in cells], dtype=np.int64), ids, count_n)

    def _check(self, line: int, row: list[str]) -> None:
        where = self.place(line)
        if len(row) != len(self.columns):
            raise UserError(f"{where}: {len(row)} values, but the header names {', '.join(self.columns)}")
        name, *count = (cell.strip() for cell in row)
        if not self.by_key and not (name.isdecimal() and len(name) <= WIDEST):
            raise UserError(f"{where}: `{name}` is not an id; give whole numbers from 0 up, or a column `key`")
        if count and not (count[0].isdecimal() and int(count[0]) <= LARGEST_COUNT):
            raise UserError(f"{where}: `{count[0]}` is not a count; give a whole number from 0 to {LARGEST_COUNT:,}")
