"""Broken files: every one ends in a DataError with file and offset, after the good documents."""

import gzip
import io
import json
import re
import struct
import tracemalloc
import zipfile
from pathlib import Path

import bson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphaecoli.errors import DataError
from alphaecoli.regulondb.bson import (
  MAX_DOCUMENT_BYTES,
  read_batches,
  read_collection,
)
from alphaecoli.regulondb.dump import find_collection
from tests import toy

DOCUMENTS = [
  {"_id": str(i), "gene": {"_id": "g", "synonyms": ["a", "é"]}, "tpm": 0.5 * i, "count": None}
  for i in range(40)
]
DATA = b"".join(bson.encode(d) for d in DOCUMENTS)
SUFFIXES = ["", ".gz", ".zip"]


def pack(path: Path, data: bytes, suffix: str) -> Path:
  return toy.write_bson(path, [data], suffix)


def read(path: Path) -> tuple[list[dict], str | None]:
  """All documents up to the error, and the error's text."""
  documents: list[dict] = []
  try:
    for batch in read_batches(path):
      documents += batch
  except DataError as error:
    return documents, str(error)
  return documents, None


def nested(depth: int) -> bytes:
  """A document of `depth` documents, one in the other."""
  sizes = [5 + 8 * i for i in range(depth + 1)]
  opening = b"".join(struct.pack("<i", size) + b"\x03a\0" for size in sizes[:0:-1])
  return opening + struct.pack("<i", 5) + b"\0" + b"\0" * depth


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_documents_come_in_order_from_plain_gzip_and_zip(tmp_path, suffix):
  many = DATA * 200  # several batches
  documents, error = read(pack(tmp_path / "x.bson", many, suffix))
  assert error is None
  assert documents == DOCUMENTS * 200


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_max_docs_and_progress(tmp_path, suffix):
  path = pack(tmp_path / "x.bson", DATA * 200, suffix)
  assert sum(map(len, read_batches(path, max_docs=4001))) == 4001
  calls = []
  list(read_batches(path, progress=lambda *args: calls.append(args)))
  done, total, documents = calls[-1]
  assert documents == 8000 and 0 < done <= total
  assert calls == sorted(calls) and len(calls) > 3


def test_a_document_longer_than_a_batch(tmp_path):
  big = {"text": "x" * 3_000_000}
  documents, error = read(pack(tmp_path / "x.bson", DATA + bson.encode(big) + DATA, ""))
  assert error is None and documents == [*DOCUMENTS, big, *DOCUMENTS]


def test_dates_beyond_python_are_read(tmp_path):
  date = b"\x09d\0" + struct.pack("<q", 2**62)
  raw = struct.pack("<i", len(date) + 5) + date + b"\0"
  assert read(pack(tmp_path / "x.bson", raw, ""))[1] is None


BAD = {
  "claims 2 GB": struct.pack("<i", 2**31 - 1) + b"\x02",
  "claims more than MongoDB allows": struct.pack("<i", MAX_DOCUMENT_BYTES + 1) + b"\0" * 99,
  "length 3": struct.pack("<i", 3) + b"\0",
  "negative length": struct.pack("<i", -7) + b"\0",
  "no terminator": bson.encode({"a": 1})[:-1] + b"\x01",
  "invalid UTF-8": bson.encode({"a": "bcd"}).replace(b"bcd", b"b\xffd"),
  "unknown type": bson.encode({"a": 1}).replace(b"\x10a", b"\x42a"),
  "string longer than its document": bson.encode({"a": "b"}).replace(b"\2\0\0\0b", b"\x7f\0\0\0b"),
  "nested 100,000 deep": nested(100_000),
  "three bytes": b"\1\2\3",
  "cut in the middle": bson.encode({"a": "bcd"})[:-4],
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("broken", BAD.values(), ids=BAD.keys())
def test_a_broken_document_is_one_line_with_file_and_offset(tmp_path, broken, suffix):
  path = pack(tmp_path / "x.bson", DATA + broken, suffix)
  documents, error = read(path)
  assert error is not None and "\n" not in error
  assert error.startswith(f"{path}: byte {len(DATA)}: ")
  assert documents == DOCUMENTS


def test_what_follows_a_broken_document_is_not_read(tmp_path):
  documents, error = read(pack(tmp_path / "x.bson", DATA + BAD["invalid UTF-8"] + DATA, ""))
  assert documents == DOCUMENTS and error is not None


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_file_is_an_error(tmp_path, suffix):
  _, error = read(pack(tmp_path / "x.bson", b"", suffix))
  assert any(text in (error or "") for text in ("holds no documents", "is empty"))
  path = tmp_path / f"nothing.bson{suffix}"
  path.touch()
  assert "byte 0: the file is empty" in (read(path)[1] or "")


def test_a_missing_file_is_an_error(tmp_path):
  assert "no such file" in (read(tmp_path / "x.bson")[1] or "")


def test_zip_with_several_members_names_them(tmp_path):
  path = tmp_path / "x.bson.zip"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("a.bson", DATA)
    archive.writestr("b.bson", DATA)
  assert re.search(r"2 \.bson files \(a.bson, b.bson\)", read(path)[1] or "")


def test_zip_with_a_folder_and_a_mac_resource_fork(tmp_path):
  path = tmp_path / "x.bson.zip"
  with zipfile.ZipFile(path, "w") as archive:
    archive.mkdir("dump")
    archive.writestr("dump/x.bson", DATA)
    archive.writestr("__MACOSX/dump/._x.bson", b"fork")
  assert read(path) == (DOCUMENTS, None)


def test_zip_with_a_wrong_checksum(tmp_path):
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, "w") as archive:  # stored, so that the data can be changed
    archive.writestr("x.bson", DATA)
  path = tmp_path / "x.bson.zip"
  path.write_bytes(buffer.getvalue().replace(b"\xc3\xa9", b"\xc3\xa8", 1))
  assert "CRC" in (read(path)[1] or "")


def test_zip_with_a_password(tmp_path):
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, "w") as archive:
    archive.writestr("x.bson", DATA)
  data = bytearray(buffer.getvalue())
  data[6] |= 1  # the flag of encryption, in the local and the central header
  data[data.rindex(b"PK\x01\x02") + 8] |= 1
  path = tmp_path / "x.bson.zip"
  path.write_bytes(data)
  assert "encrypted" in (read(path)[1] or "")


@pytest.mark.parametrize("suffix", SUFFIXES[1:])
def test_a_plain_file_named_as_compressed(tmp_path, suffix):
  path = tmp_path / f"x.bson{suffix}"
  path.write_bytes(DATA)
  assert str(path) in (read(path)[1] or "")


@pytest.fixture(scope="module", params=SUFFIXES)
def packed(request, tmp_path_factory):
  path = pack(tmp_path_factory.mktemp("fuzz") / "x.bson", DATA, request.param)
  return path, path.read_bytes()


def check(path: Path, documents: list[dict], error: str | None) -> None:
  if error is None:
    assert len(documents) == len(DOCUMENTS)
  else:
    assert re.match(re.escape(str(path)) + r": byte \d+: ", error) and "\n" not in error


@settings(max_examples=60, deadline=None)
@given(fraction=st.floats(0, 1, exclude_max=True))
def test_truncated_anywhere(packed, fraction):
  path, data = packed
  cut = path.with_name("cut" + "".join(path.suffixes))
  cut.write_bytes(data[: int(fraction * len(data))])
  documents, error = read(cut)
  assert documents == DOCUMENTS[: len(documents)]
  whole_documents = path.suffix == ".bson" and (not error) and documents
  if not whole_documents:
    check(cut, documents, error)
    assert error is not None or path.suffix == ".zip"


@settings(max_examples=80, deadline=None)
@given(
  changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4)
)
def test_bytes_changed_anywhere(packed, changes):
  path, data = packed
  changed = bytearray(data)
  for fraction, value in changes:
    changed[int(fraction * len(data))] = value
  broken = path.with_name("broken" + "".join(path.suffixes))
  broken.write_bytes(changed)
  check(broken, *read(broken))


@pytest.mark.parametrize("layout", ["flat", "dump", "2021"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_collection_is_found_in_every_layout(tmp_path, layout, suffix):
  written = toy.write(tmp_path, layout=layout, compression=suffix)
  for collection, path in written.files.items():
    assert find_collection(tmp_path, collection) == path
  assert find_collection(tmp_path, "regulonDatamart") is None


@pytest.mark.parametrize("wanted", toy.COLLECTIONS)
@pytest.mark.parametrize("given_", toy.COLLECTIONS)
def test_another_collection_is_refused(tmp_path, wanted, given_):
  path = toy.write(tmp_path).files[given_]
  batches = read_collection(path, wanted)
  if wanted == given_:
    assert sum(map(len, batches)) > 3
  else:
    with pytest.raises(DataError, match=rf"byte 0: not {wanted}; its first \d+ documents hold _id"):
      list(batches)


def test_a_long_file_of_another_collection_is_refused_early(tmp_path):
  path = pack(tmp_path / "x.bson.gz", DATA * 2000, "")
  path.write_bytes(gzip.compress(DATA * 2000, 1)[:-20])  # its end would be an error of its own
  with pytest.raises(DataError, match="not operonDatamart"):
    list(read_collection(path, "operonDatamart"))


def extended(value):
  """Values as `mongoexport --jsonFormat=canonical` writes them."""
  if isinstance(value, dict):
    return {key: extended(v) for key, v in value.items()}
  if isinstance(value, list):
    return [extended(v) for v in value]
  names = {int: "$numberInt", float: "$numberDouble"}
  return {names[type(value)]: str(value)} if type(value) in names else value


LINES = [json.dumps(d, ensure_ascii=False) for d in DOCUMENTS]
ARRAY = "[" + ",\n".join(LINES) + "]\n"
JSON_FORMS = {
  "a line each": "\n".join(LINES) + "\n",
  "a line each, with carriage returns and no end": "\r\n".join(LINES),
  "array": ARRAY,
  "array on lines": json.dumps(DOCUMENTS, indent=2),
  "byte order mark": "\ufeff" + ARRAY,
  "extended": "\n".join(json.dumps(extended(d)) for d in DOCUMENTS),
  "two arrays": "[" + ",".join(LINES[:7]) + "]\n[" + ",".join(LINES[7:]) + "]",
  "web service": f'{{"data": {{"getAllGenes": {{"data": {ARRAY}, "pagination": {{"n": 1}}}}}}}}',
  "pipeline": f'{{"classAcronym": "ECOLI", "n": 3, "collectionData": {ARRAY}, "organism": "x"}}',
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("form", JSON_FORMS)
def test_json_of_every_form_reads_like_bson(tmp_path, form, suffix):
  path = pack(tmp_path / "x.json", JSON_FORMS[form].encode(), suffix)
  assert read(path) == (DOCUMENTS, None)


def test_ids_and_dates_of_extended_json_are_those_of_bson(tmp_path):
  text = '{"_id": {"$oid": "5f3c1f2e9d3b2a0001a1b2c3"}, "n": {"$numberLong": "5000000000"}}'
  ((document,),) = read_batches(pack(tmp_path / "x.jsonl", text.encode(), ""))
  assert document == {"_id": bson.ObjectId("5f3c1f2e9d3b2a0001a1b2c3"), "n": 5_000_000_000}
  far = b'{"_id": "a", "d": {"$date": {"$numberLong": "4611686018427387904"}}}'
  assert read(pack(tmp_path / "y.json", far, ""))[1] is None


def test_json_comes_in_batches_in_bounded_memory(tmp_path):
  path = pack(tmp_path / "x.json", ("[" + ",".join(LINES * 2000) + "]").encode(), "")
  size, largest, documents = path.stat().st_size, 0, 0
  tracemalloc.start()
  for batch in read_batches(path):
    largest, documents = max(largest, len(batch)), documents + len(batch)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert documents == 80_000 and largest < 2000
  assert peak < size / 4


def test_a_json_document_longer_than_a_batch(tmp_path):
  big = {"text": "é" * 1_000_000}
  text = "\n".join([*LINES, json.dumps(big, ensure_ascii=False), *LINES])
  documents, error = read(pack(tmp_path / "x.json", text.encode(), ""))
  assert error is None and documents == [*DOCUMENTS, big, *DOCUMENTS]


BAD_JSON = {
  "array that is not closed": (ARRAY.rstrip("]\n").encode(), "truncated"),
  "cut within a document": ("\n".join(LINES)[:-9].encode(), "truncated"),
  "cut within a string": (LINES[0].encode() + b'{"_id": "abc', "truncated"),
  "no JSON after a document": (LINES[0].encode() + b"<html>", "corrupt; Expecting value"),
  "a web page": (b"<!DOCTYPE html>", "corrupt; Expecting value"),
  "numbers": (b"[1, 2]", "corrupt document"),
  "closed too often": ((ARRAY + "]").encode(), "corrupt; expected one array of documents"),
  "arrays of arrays": (b"[" * 100_000, "corrupt; expected one array of documents"),
  "missing comma": (b'{"a": 1 "b": 2, "c": "%s"}' % (b"x" * 99), "corrupt; Expecting ',' del"),
  "not UTF-8": (b'{"a": "\xff\xfe"}', "corrupt or not UTF-8"),
  "bad id": (b'{"_id": {"$oid": "zz"}, "name": "xxxxxxxxxxxxxxxxxxxxxxx"}', "corrupt document"),
  "nested 100,000 deep": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "corrupt document"),
}


@pytest.mark.parametrize("broken", BAD_JSON)
def test_broken_json_is_one_error_with_its_place(tmp_path, broken):
  data, message = BAD_JSON[broken]
  documents, error = read(pack(tmp_path / "x.json", data, ""))
  assert documents == DOCUMENTS[: len(documents)]
  assert error and re.search(rf"x\.json: byte \d+: .*{message}", error) and len(error) < 400
  assert "\n" not in error


def test_the_place_of_a_fault_is_in_bytes_of_the_file(tmp_path):
  start = len(("\n".join(LINES) + "\n").encode())
  data = "\n".join([*LINES, '{"_id": oops}', LINES[0] * 9]).encode()
  documents, error = read(pack(tmp_path / "x.json", data, ""))
  assert documents == DOCUMENTS and f"byte {start}: corrupt" in error


@pytest.mark.parametrize("folder", ["regulondbht", "dump/regulondbht", ""])
def test_json_exports_are_found_beside_bson_and_in_the_folder_itself(tmp_path, folder):
  (tmp_path / folder).mkdir(parents=True, exist_ok=True)
  path = tmp_path / folder / "geneExpression.json.gz"
  path.write_bytes(b"")
  assert find_collection(tmp_path, "geneExpression") == path
  bson_file = toy.place(tmp_path, "flat", "geneExpression")
  bson_file.parent.mkdir(exist_ok=True)
  bson_file.write_bytes(b"")
  assert find_collection(tmp_path, "geneExpression") == bson_file
