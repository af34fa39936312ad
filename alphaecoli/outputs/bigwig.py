"""BigWig: values of contigs, indexed, with zoom levels; what it shares with BigBed.

Own code, since the zoom levels of pyBigWig have sums of 0 (`findings/pybigwig_zoom_sums.sh`), and
the other writers take an object a value.

Source: Kent et al. 2010, doi:10.1093/bioinformatics/btq351, supplement, tables 5 to 19.
"""

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from alphaecoli.errors import DataError

BIGWIG, BIGBED, TREE, INDEX = 0x888FFC26, 0x8789F2EB, 0x78CA8C91, 0x2468ACE0
FIXED_STEP = 3
IN_BLOCK = 8192  # values; of records and features, whose bytes are more, an eighth
NODE = 256  # children of a node of a tree
ZOOM, ZOOM_STEP, MOST_ZOOMS = 16, 4, 10  # values of a window, windows of the next level, levels
CHUNK_VALUES = 1 << 20  # summarised at once; whole windows and blocks
_HEADER, _ZOOM_HEADER, _TOTAL, _SECTION = "<IHHQQQHHQQIQ", "<IIQQ", "<Qdddd", "<IIIIIBBH"
_PLACE = [("first", "<u4"), ("start", "<u4"), ("last", "<u4"), ("end", "<u4")]
_LEAF = np.dtype([*_PLACE, ("at", "<u8"), ("bytes", "<u8")])
_INNER = np.dtype([*_PLACE, ("at", "<u8")])
_SUMS = ("count", "min", "max", "sum", "squares")
WINDOW = np.dtype([(name, "f8") for name in _SUMS])
_RECORD = np.dtype(
  [(name, "<u4") for name in ("contig", "start", "end", "count")]
  + [(name, "<f4") for name in _SUMS[1:]]
)


class IndexedFile:
  """What both formats share: headers, the tree of contigs, compressed blocks, their indexes."""

  magic: int

  def __init__(self, path: Path, contigs: Sequence[tuple[str, int]], levels: int, schema: str = ""):
    """Opens the file and writes what comes before the data.

    Args:
      path: name of the file.
      contigs: names and lengths, sorted by name (in bytes) as genome browsers expect.
      levels: zoom levels to come.
      schema: autoSql of BigBed's fields.

    Raises:
      DataError: the file can not be written.
    """
    self.path, self._lengths = path, dict(contigs)
    self._numbers = {name: number for number, (name, _) in enumerate(contigs)}
    self._blocks: list[tuple[int, int, int, int, int]] = []  # contig, start, end, offset, bytes
    self._largest = 0  # bytes of a block before compression
    self._total = np.zeros(1, WINDOW)
    self._schema = schema.encode() + b"\0" if schema else b""
    self._schema_at = struct.calcsize(_HEADER) + levels * struct.calcsize(_ZOOM_HEADER)
    self._total_at = self._schema_at + len(self._schema)  # in this order, which igv.js needs
    try:
      self._file = open(path, "wb")  # noqa: SIM115
      self._file.write(bytes(self._schema_at) + self._schema + bytes(struct.calcsize(_TOTAL)))
      self._tree_at = self._file.tell()
      self._write_contigs(contigs)
      self._data_at = self._file.tell()
      self._file.write(bytes(8))  # the number of blocks
    except OSError as error:
      raise self._fault(error) from error

  def _fault(self, error: OSError) -> DataError:
    """Makes the error of a file that can not be written."""
    return DataError(f"{self.path}: can not be written: {error.strerror}")

  def _write_contigs(self, contigs: Sequence[tuple[str, int]]) -> None:
    """Writes the tree of names, numbers and lengths."""
    names = [name.encode() for name, _ in contigs]
    key = ("key", f"S{max(map(len, names))}")
    leaves = np.zeros(len(names), [key, ("number", "<u4"), ("length", "<u4")])
    leaves["key"], leaves["number"] = names, np.arange(len(names))
    leaves["length"] = [length for _, length in contigs]
    head = struct.pack("<IIIIQQ", TREE, NODE, leaves["key"].itemsize, 8, len(names), 0)
    self._file.write(head)
    _write_tree(self._file, leaves, np.dtype([key, ("at", "<u8")]))

  def _add_block(self, contig: int, start: int, end: int, data: bytes) -> None:
    """Writes one block; they come sorted by place."""
    packed = zlib.compress(data)
    self._blocks.append((contig, start, end, self._file.tell(), len(packed)))
    self._largest = max(self._largest, len(data))
    self._file.write(packed)

  def _end_blocks(self, count_at: int) -> int:
    """Writes how many blocks there are and, after them, their index; returns its offset."""
    at = self._file.tell()
    leaves = np.array(self._blocks or [(0,) * 5], np.int64)
    rows = np.zeros(len(leaves), _LEAF)
    rows["first"] = rows["last"] = leaves[:, 0]
    rows["start"], rows["end"], rows["at"], rows["bytes"] = leaves[:, 1:].T
    whole = _above(rows, _INNER, len(rows))[0]
    rows = rows[: len(self._blocks)]
    place = [int(whole[name]) for name, _ in _PLACE]
    self._file.write(struct.pack("<IIQIIIIQII", INDEX, NODE, len(rows), *place, at, 1, 0))
    _write_tree(self._file, rows, _INNER)
    self._file.seek(count_at)
    self._file.write(struct.pack("<I", len(rows)))
    self._file.seek(0, io.SEEK_END)
    self._blocks = []
    return at

  def _write_head(self, index_at: int, fields: tuple[int, int], zooms: bytes) -> None:
    """Writes what precedes the tree of contigs."""
    total = self._total[0]
    self._file.write(struct.pack("<I", self.magic))
    self._file.seek(0)
    schema_at = self._schema_at if self._schema else 0
    levels = len(zooms) // struct.calcsize(_ZOOM_HEADER)
    places = self._tree_at, self._data_at, index_at, *fields, schema_at, self._total_at
    head = struct.pack(_HEADER, self.magic, 4, levels, *places, self._largest, 0)
    sums = struct.pack(_TOTAL, int(total["count"]), *(total[name] for name in _SUMS[1:]))
    self._file.write(head + zooms + self._schema + sums)


class BigWigFile(IndexedFile):
  """One BigWig. Contigs must be written in the order of the header, each with all its values."""

  magic = BIGWIG

  def __init__(self, path: Path, contigs: Sequence[tuple[str, int]], span_bp: int = 1):
    """Opens the file.

    Args:
      path: name of the file.
      contigs: names and lengths, sorted by name (in bytes).
      span_bp: bases that one value stands for.

    Raises:
      DataError: the file can not be written.
    """
    windows = [ZOOM * span_bp * ZOOM_STEP**level for level in range(MOST_ZOOMS)]
    longest = max(length for _, length in contigs)
    windows = windows[:1] + [window for window in windows[1:] if window < longest]
    super().__init__(path, contigs, len(windows))
    self.span_bp = span_bp
    self._levels: dict[int, list[tuple[int, int, int, bytes]]] = {w: [] for w in windows}

  def write(self, contig: str, values: Float32[np.ndarray, " N"]) -> None:
    """Adds all values of one contig; the last one is clipped to the contig's end.

    Raises:
      DataError: the disk is full.
    """
    number, length, span = self._numbers[contig], self._lengths[contig], self.span_bp
    windows = []
    try:
      for first in range(0, len(values), CHUNK_VALUES):
        chunk = values[first : first + CHUNK_VALUES].astype("<f4")
        widths = np.full(len(chunk), span)
        widths[-1] = min(span, length - (first + len(chunk) - 1) * span)
        windows.append(_summarise(chunk, widths))
        whole = len(chunk) - int(widths[-1] < span)  # a narrower value is a block of its own
        for part in (*slices(whole, IN_BLOCK), slice(whole, len(chunk))):
          if part.start < part.stop:
            block, start = chunk[part], (first + part.start) * span
            end, width = start + int(widths[part].sum()), int(widths[part.start])
            place = number, start, end
            head = *place, width, width, FIXED_STEP, 0, len(block)
            self._add_block(*place, struct.pack(_SECTION, *head) + block.tobytes())
    except OSError as error:
      raise self._fault(error) from error
    self._zoom(number, length, np.concatenate(windows))

  def _zoom(self, number: int, length: int, windows: np.ndarray) -> None:
    """Adds a contig to every level, and to the sums over the file."""
    for window_bp, blocks in self._levels.items():
      rows = np.zeros(len(windows), _RECORD)
      rows["contig"], rows["start"] = number, np.arange(len(rows)) * window_bp
      rows["end"] = np.minimum(rows["start"].astype(np.int64) + window_bp, length)
      for name in _SUMS:
        rows[name] = windows[name]
      for part in (rows[p] for p in slices(len(rows), IN_BLOCK // 8)):
        data = part.tobytes()
        place = number, int(part["start"][0]), int(part["end"][-1])
        blocks.append((*place, zlib.compress(data)))
        self._largest = max(self._largest, len(data))
      windows = join(windows, ZOOM_STEP)
    whole = join(windows, len(windows))
    before = self._total[self._total["count"] > 0]
    self._total = join(np.concatenate([before, whole]), 2)

  @property
  def largest(self) -> float:
    """Returns the largest value so far; 0 without any."""
    return float(self._total["max"][0])

  def close(self) -> None:
    """Completes the file.

    Raises:
      DataError: the disk is full.
    """
    try:
      with self._file:
        index_at, zooms = self._end_blocks(self._data_at), b""
        for window_bp, blocks in self._levels.items():
          data_at = self._file.tell()
          self._file.write(bytes(4))  # the number of blocks
          for contig, start, end, packed in blocks:
            self._blocks.append((contig, start, end, self._file.tell(), len(packed)))
            self._file.write(packed)
          zooms += struct.pack(_ZOOM_HEADER, window_bp, 0, data_at, self._end_blocks(data_at))
        self._write_head(index_at, (0, 0), zooms)
    except OSError as error:
      raise self._fault(error) from error


def slices(count: int, most: int) -> Iterator[slice]:
  """Divides 0..count into parts of at most so many."""
  return (slice(first, min(first + most, count)) for first in range(0, count, most))


def _summarise(values: np.ndarray, widths: np.ndarray) -> np.ndarray:
  """Summarises values, each over its bases, in windows of the first level."""
  rows = np.zeros(len(values), WINDOW)
  rows["count"], rows["min"], rows["max"] = widths, values, values
  rows["sum"] = rows["min"] * widths
  rows["squares"] = rows["min"] * rows["sum"]
  return join(rows, ZOOM)


def join(windows: np.ndarray, step: int) -> np.ndarray:
  """Joins so many windows at a time; the last one may be of fewer."""
  first = np.arange(0, len(windows), step)
  joined = np.zeros(len(first), WINDOW)
  for name in _SUMS:
    how = {"min": np.minimum, "max": np.maximum}.get(name, np.add)
    joined[name] = how.reduceat(windows[name], first)
  return joined


def _write_tree(file: io.BufferedIOBase, leaves: np.ndarray, inner: np.dtype) -> None:
  """Writes a tree from its root down; nodes of one level lie side by side, all full but the last.

  Args:
    file: file, at the place of the tree.
    leaves: items in their order.
    inner: type of the items of upper nodes, whose field `at` is a child's offset.
  """
  levels = [leaves]
  while len(levels[0]) > NODE:
    levels.insert(0, _above(levels[0], inner, NODE))
  at = file.tell()
  for depth, items in enumerate(levels):
    is_leaf = depth == len(levels) - 1
    at += 4 * max(1, -(-len(items) // NODE)) + items.nbytes
    if not is_leaf:
      full = 4 + NODE * levels[depth + 1].itemsize
      items["at"] = at + np.arange(len(items), dtype=np.int64) * full
    for part in slices(max(len(items), 1), NODE):
      node = items[part]
      file.write(struct.pack("<BBH", is_leaf, 0, len(node)) + node.tobytes())


def _above(items: np.ndarray, inner: np.dtype, step: int) -> np.ndarray:
  """Makes the items that stand for so many others each: their first key, or the place of all."""
  first = np.arange(0, len(items), step)
  rows = np.zeros(len(first), inner)
  if "key" in (inner.names or ()):
    rows["key"] = items["key"][first]
    return rows
  rows["first"], rows["start"] = items["first"][first], items["start"][first]
  ends = items["last"].astype(np.uint64) << np.uint64(32) | items["end"]  # a feature may hold later
  last = np.maximum.reduceat(ends, first)
  rows["last"], rows["end"] = last >> np.uint64(32), last & np.uint64(0xFFFFFFFF)
  return rows
