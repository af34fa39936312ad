"""Streaming BSON and JSON: documents of a file, plain, gzip or zip, in bounded memory.

Documents of a mongodump are cut from the stream by their length headers and decoded in small
batches by pymongo's C extension; small batches stay in the processor's cache and below the garbage
collector's threshold, which makes them faster than decoding one by one or all at once. Those of a
mongoexport, or as RegulonDB's pages give them, are JSON, decoded one by one.
"""

import codecs
import contextlib
import dataclasses
import functools
import gzip
import json
import lzma
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bson
from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from alphaecoli.errors import DataError, reason_of

Document = dict[str, Any]
Progress = Callable[[int, int, int], None]  # bytes done, bytes in all, documents
_Batches = Iterator[tuple[list[Document], DataError | None]]

# MongoDB's internal limit: 16 MiB and 16 KiB. https://www.mongodb.com/docs/manual/reference/limits/
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024 + 16 * 1024
MIN_DOCUMENT_BYTES = 5
BATCH_BYTES = 1 << 16
MAX_JSON_LETTERS = 4 * MAX_DOCUMENT_BYTES
KINDS, PACKED = (".bson", ".json", ".jsonl"), ("", ".gz", ".zip")
_WRONG_AFTER_DOCUMENTS = 1000

_LENGTH = struct.Struct("<i").unpack_from
# Dates outside Python's range become numbers instead of errors.
_OPTIONS: CodecOptions[Document] = CodecOptions(
  datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
# Extended JSON, such as {"$oid": "…"} and {"$numberInt": "5"}.
_HOOK = functools.partial(
  json_util.object_pairs_hook,
  json_options=json_util.JSONOptions(datetime_conversion=DatetimeConversion.DATETIME_AUTO),
)
_JSON = json.JSONDecoder(object_pairs_hook=_HOOK)
_BETWEEN = re.compile(r"[\s,]*")  # two documents
# The objects around an array of documents, as web service and pipelines of RegulonDB write them.
_AROUND = re.compile(
  r'(?:\s*\{\s*(?:"\w+"\s*:\s*(?:"[^"]*"|[\w.+-]+)\s*,\s*)*"(?:data|collectionData|get\w+)"\s*:'
  r"\s*(?=[\[{]))*"
)
_STREAM_ERRORS = (
  OSError, EOFError, zlib.error, zipfile.BadZipFile, lzma.LZMAError, NotImplementedError,
  RuntimeError, struct.error, ValueError, OverflowError,
)  # fmt: skip
_DECODE_ERRORS = (
  BSONError, RecursionError, ValueError, TypeError, OverflowError, KeyError, IndexError,
)  # fmt: skip


def read_batches(
  path: str | os.PathLike[str], *, max_docs: int = 0, progress: Progress | None = None
) -> Iterator[list[Document]]:
  """Reads documents in lists of a few hundred, in file order.

  Args:
    path: `.bson`, `.json` or `.jsonl`; plain, `.gz` or `.zip` (one member).
    max_docs: largest number of documents; 0 reads all.
    progress: callback after every batch: bytes done, bytes in all, documents so far.

  Raises:
    DataError: the file is missing, empty, truncated or corrupt; names the file and the byte offset
      (of the unpacked data). Documents before the broken one are yielded first; where the
      compression itself is broken, those of the last 64 KiB may be missing.
  """
  path, documents = Path(path), 0
  batches = _bson_batches if _kind(path) == ".bson" else _json_batches
  with _open(path) as source:
    for batch, error in batches(path, source):
      if max_docs and documents + len(batch) >= max_docs:
        yield batch[: max_docs - documents]
        return
      documents += len(batch)
      if batch:
        yield batch
      if error:
        raise error
      if progress:
        progress(source.done(), source.total, documents)


@dataclasses.dataclass(frozen=True)
class _Source:
  """An open file: reader of unpacked bytes, bytes done and in all, in the unit of progress."""

  read: Callable[[int], bytes]
  done: Callable[[], int]
  total: int


@contextlib.contextmanager
def _open(path: Path) -> Iterator[_Source]:
  """Opens a file, plain or packed.

  Raises:
    DataError: missing, empty, or not what its suffix says.
  """
  # Not genomics.text.open_binary: progress needs the position in the packed file, and zip is read.
  if not path.is_file():
    raise DataError(f"{path}: no such file")
  size = path.stat().st_size
  if size == 0:
    raise DataError(f"{path}: byte 0: the file is empty")
  with contextlib.ExitStack() as stack:
    try:
      file = stack.enter_context(path.open("rb"))
      if path.suffix == ".gz":
        stream = stack.enter_context(gzip.GzipFile(fileobj=file))
        source = _Source(stream.read, file.tell, size)
      elif path.suffix == ".zip":
        archive = stack.enter_context(zipfile.ZipFile(file))
        member = _member(path, archive)
        unpacked = stack.enter_context(archive.open(member))
        source = _Source(unpacked.read, unpacked.tell, member.file_size)
      else:
        source = _Source(file.read, file.tell, size)
    except _STREAM_ERRORS as error:
      raise DataError(f"{path}: byte 0: can not be opened ({reason_of(error)})") from error
    yield source


def _member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
  """Finds the one file of the archive's kind in it."""
  kind = _kind(path)
  members = [
    m
    for m in archive.infolist()
    if not m.is_dir() and not m.filename.startswith("__MACOSX/") and m.filename.endswith(kind)
  ]
  if len(members) != 1:
    names = ", ".join(m.filename for m in members[:3])
    raise DataError(
      f"{path}: byte 0: holds {len(members)} {kind} files ({names}); expected exactly one"
    )
  return members[0]


def _kind(path: Path) -> str:
  """Returns the suffix of a file without that of its packing; .bson unless it is JSON's."""
  name = path.name.removesuffix(".gz").removesuffix(".zip")
  return next((kind for kind in KINDS if name.endswith(kind)), ".bson")


def _bson_batches(path: Path, source: _Source) -> _Batches:
  """Yields runs of documents of BSON, each with the error of the document after it."""
  for data, offset in _split(path, source):
    yield _decode(path, data, offset)


def _json_batches(path: Path, source: _Source) -> _Batches:
  """Yields those of JSON: arrays of documents, or one after another."""
  decoder = codecs.getincrementaldecoder("utf-8-sig")()
  text, offset, depth, around, more = "", 0, 0, -1, True
  while more:
    try:
      chunk = source.read(max(BATCH_BYTES, len(text)))
      text += decoder.decode(chunk, final=not chunk)
    except _STREAM_ERRORS as error:
      fault = f"truncated, corrupt or not UTF-8 ({reason_of(error)})"
      raise DataError(f"{path}: byte {offset}: {fault}") from error
    more, position = bool(chunk), 0
    if around < 0:
      around = position = _after(_AROUND, text, 0)
    documents, position, depth, fault = _json_documents(text, position, depth, around > 0, more)
    offset += len(text[:position].encode())
    text = text[position:]
    fault = fault or ("truncated" if depth and not more else "")
    yield documents, DataError(f"{path}: byte {offset}: {fault}") if fault else None
    if fault or (around and not depth and not text):
      return


def _after(pattern: re.Pattern[str], text: str, position: int) -> int:
  """Returns the end of a pattern's match at a position; the position where there is none."""
  match = pattern.match(text, position)
  return match.end() if match else position


def _json_documents(
  text: str, position: int, depth: int, around: bool, more: bool
) -> tuple[list[Document], int, int, str]:
  """Decodes the whole documents of a text.

  Args:
    text: text to decode.
    position: index of the letter to begin at.
    depth: arrays that are open there.
    around: whether the array stands within objects, and ends the file.
    more: whether the file goes on after the text.

  Returns:
    The documents, the end of the last one, the arrays that are open there, and what is wrong with
    the next one, "" if nothing is.
  """
  documents, fault = list[Document](), ""
  while not fault and (position := _after(_BETWEEN, text, position)) < len(text):
    if text[position] in "[]":
      depth += 1 if text[position] == "[" else -1
      position += 1
    else:
      try:
        document, end = _JSON.raw_decode(text, position)
        documents.append({**document})  # fails where it is no document
        position = end
      except json.JSONDecodeError as error:
        ends = error.pos > len(text) - 16 or error.msg.startswith("Unterminated")
        cut = ends and text[position] == "{"
        if not (cut and more and len(text) - position < MAX_JSON_LETTERS):
          fault = "truncated" if cut else f"corrupt; {error.msg}"
        break
      except _DECODE_ERRORS as error:
        fault = f"corrupt document ({reason_of(error)})"
    fault = fault if depth in (0, 1) else "corrupt; expected one array of documents"
    if around and depth == 0 and not fault:
      position = len(text)
  return documents, position, depth, fault


def _split(path: Path, source: _Source) -> Iterator[tuple[bytes, int]]:
  """Cuts the stream into runs of whole documents: (bytes, offset of the first)."""
  tail, offset = b"", 0
  wanted = BATCH_BYTES
  while True:
    try:
      chunk = source.read(wanted)
    except _STREAM_ERRORS as error:
      raise DataError(
        f"{path}: byte {offset + len(tail)}: truncated or corrupt compression ({reason_of(error)})"
      ) from error
    data = tail + chunk
    if not chunk:
      if offset == 0 and not data:
        raise DataError(f"{path}: byte 0: the file holds no documents")
      if data:
        need = _LENGTH(data, 0)[0] if len(data) >= 4 else "?"
        raise DataError(
          f"{path}: byte {offset}: truncated; the last document has {len(data)} of {need} bytes"
        )
      return
    end, wanted, error = _scan(path, data, offset)
    if end:
      yield data[:end], offset
    if error:
      raise error
    tail, offset = data[end:], offset + end


def _scan(path: Path, data: bytes, offset: int) -> tuple[int, int, DataError | None]:
  """Finds the end of the last whole document, the bytes to read next, the error of a bad length."""
  position, size = 0, len(data)
  while position + 4 <= size:
    (length,) = _LENGTH(data, position)
    if not MIN_DOCUMENT_BYTES <= length <= MAX_DOCUMENT_BYTES:
      error = DataError(
        f"{path}: byte {offset + position}: corrupt; a document claims {length} bytes, expected "
        f"{MIN_DOCUMENT_BYTES} to {MAX_DOCUMENT_BYTES}"
      )
      return position, 0, error
    if position + length > size:
      return position, max(BATCH_BYTES, position + length - size), None
    position += length
  return position, BATCH_BYTES, None


def _decode(path: Path, data: bytes, offset: int) -> tuple[list[Document], DataError | None]:
  """Decodes a run of whole documents; on failure those before the broken one and its error."""
  with contextlib.suppress(*_DECODE_ERRORS):  # the broken document is found below
    return bson.decode_all(data, _OPTIONS), None
  documents: list[Document] = []
  position = 0
  while position < len(data):
    (length,) = _LENGTH(data, position)
    try:
      documents.append(bson.decode(data[position : position + length], _OPTIONS))
    except _DECODE_ERRORS as error:
      return documents, DataError(
        f"{path}: byte {offset + position}: corrupt document ({reason_of(error)})"
      )
    position += length
  return documents, None


def _looks_like(collection: str, document: Document) -> bool:
  """Returns whether a document may be one of a collection, by its keys."""
  if collection == "geneDatamart":
    return isinstance(document.get("gene"), dict) and "datasetIds" not in document
  if collection == "operonDatamart":
    return isinstance(document.get("operon"), dict)
  if collection == "nlpGrowthConditions":
    return "datasetIds" in document and document.keys().isdisjoint(("gene", "tpm", "chromosome"))
  if collection == "geneExpression":
    return "datasetIds" in document and not document.keys().isdisjoint(
      ("gene", "tpm", "fpkm", "count")
    )
  keys = ("growthConditions", "sample", "collectionData", "sourceSerie", "datasetType")
  return not document.keys().isdisjoint(keys)


def read_collection(
  path: str | os.PathLike[str],
  collection: str,
  *,
  max_docs: int = 0,
  progress: Progress | None = None,
) -> Iterator[list[Document]]:
  """Reads as `read_batches`, refusing a file whose first documents are not the collection's.

  Raises:
    DataError: as `read_batches`; or the file holds another collection.
  """
  checked, found, keys = 0, False, list[str]()
  for batch in read_batches(path, max_docs=max_docs, progress=progress):
    if not found:
      found = any(_looks_like(collection, d) for d in batch)
      keys = keys or list(batch[0])
      checked += len(batch)
      if not found and checked >= _WRONG_AFTER_DOCUMENTS:
        break
    if found:
      yield batch
  if not found:
    shown = ", ".join(map(str, keys[:6])) or "nothing"
    raise DataError(
      f"{path}: byte 0: not {collection}; its first {checked} documents hold {shown[:120]}"
    )
