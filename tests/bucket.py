"""A stand-in for Google Cloud Storage on this machine: buckets in memory behind its JSON API.

What writes to `gs://` paths is used as it is, and told of the address by environment variables:
gcsfs and google-cloud-storage (STORAGE_EMULATOR_HOST), tensorstore, which reads and writes the
arrays (TENSORSTORE_GCS_HTTP_URL).

Source: cloud.google.com/storage/docs/json_api/v1.
"""

import contextlib
import email
import email.policy
import itertools
import json
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

VARIABLES = ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL")


class Bucket(ThreadingHTTPServer):
  """Holds objects by name: "bucket/path" to the bytes and the generation of the object.

  Attributes:
    objects: the content.
    requests: methods and names in order, for tests that count.
    refuse: names that start with this can not be written; None for none.
  """

  daemon_threads = True

  def __init__(self) -> None:
    super().__init__(("127.0.0.1", 0), _Handler)
    self.objects: dict[str, tuple[bytes, int]] = {}
    self.requests: list[tuple[str, str]] = []
    self.refuse: str | None = None
    self.lock = threading.RLock()
    self.generations = itertools.count(1)
    self.uploads: dict[str, tuple[str, bytearray]] = {}

  def handle_error(self, request: object, client_address: object) -> None:
    if not isinstance(sys.exception(), ConnectionError):  # a client that has gone
      super().handle_error(request, client_address)

  @property
  def url(self) -> str:
    return f"http://127.0.0.1:{self.server_port}"

  def names(self, prefix: str = "") -> list[str]:
    with self.lock:
      return sorted(name for name in self.objects if name.startswith(prefix))

  def read(self, name: str) -> bytes:
    return self.objects[name][0]

  def text(self, name: str) -> str:
    return self.read(name).decode()


class _Refused(Exception):
  """An answer that is an error."""


class _Handler(BaseHTTPRequestHandler):
  """Answers one request."""

  protocol_version = "HTTP/1.1"
  disable_nagle_algorithm = True  # else every answer waits 40 ms for the client's acknowledgement
  server: Bucket

  def log_message(self, format: str, *args: object) -> None:
    pass

  def _answer(self) -> None:
    url = urllib.parse.urlsplit(self.path)
    query = {k: v[-1] for k, v in urllib.parse.parse_qs(url.query).items()}
    body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
    if self.headers.get("Transfer-Encoding") == "chunked":
      body = self._chunks()
    try:
      with self.server.lock:
        status, headers, content = self._route(self.command, url.path, query, body)
    except _Refused as error:
      status, text = error.args
      status, headers, content = (
        int(status),
        {},
        _json({"error": {"code": status, "message": text}}),
      )
    self.send_response(status)
    for name, value in {"Content-Type": "application/json", **headers}.items():
      self.send_header(name, value)
    self.send_header("Content-Length", str(len(content)))
    self.end_headers()
    if self.command != "HEAD":
      self.wfile.write(content)

  do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _answer

  def _chunks(self) -> bytes:
    found = b""
    while size := int(self.rfile.readline().split(b";")[0], 16):
      found += self.rfile.read(size)
      self.rfile.readline()
    self.rfile.readline()
    return found

  def _route(
    self, method: str, path: str, query: dict[str, str], body: bytes
  ) -> tuple[int, dict[str, str], bytes]:
    """Returns status, headers and content."""
    if path.startswith("/batch/"):
      return self._batch(body)
    parts = [urllib.parse.unquote(part) for part in path.split("/storage/v1/", 1)[1].split("/")]
    self.server.requests.append((method, "/".join(parts)))
    _, bucket, *rest = parts
    if not rest or rest[0] == "storageLayout":
      return 200, {}, _json({"kind": "storage#bucket", "name": bucket, "locationType": "region"})
    if path.startswith("/upload/"):
      return self._upload(bucket, query, body)
    if len(rest) == 1:
      return 200, {}, _json(self._list(bucket, query))
    name = f"{bucket}/{rest[1]}"
    if len(rest) > 2 and rest[2] in ("rewriteTo", "copyTo"):
      target = f"{rest[4]}/{rest[6]}"
      self._put(target, self._get(name)[0], query)
      return 200, {}, _json({"done": True, "resource": self._resource(target)})
    content, generation = self._get(name)
    if method == "DELETE":
      self._check(name, query)
      del self.server.objects[name]
      return 204, {}, b""
    if query.get("alt") != "media":
      return 200, {}, _json(self._resource(name))
    if query.get("ifGenerationNotMatch") == str(generation):
      return 304, {}, b""
    self._check(name, query)
    headers = {"x-goog-generation": str(generation), "Content-Type": "application/octet-stream"}
    if (wanted := self.headers.get("Range")) and wanted.startswith("bytes="):
      first, _, last = wanted.removeprefix("bytes=").partition("-")
      start = int(first) if first else max(len(content) - int(last), 0)
      end = min(int(last) + 1 if first and last else len(content), len(content))
      if start >= len(content):
        raise _Refused(416, "not satisfiable")
      headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
      return 206, headers, content[start:end]
    return 200, headers, content

  def _get(self, name: str) -> tuple[bytes, int]:
    if name not in self.server.objects:
      raise _Refused(404, f"No such object: {name}")
    return self.server.objects[name]

  def _check(self, name: str, query: dict[str, str]) -> None:
    """Holds a condition on the generation, which is 0 where there is no object."""
    wanted = query.get("ifGenerationMatch")
    if wanted is not None and int(wanted) != self.server.objects.get(name, (b"", 0))[1]:
      raise _Refused(412, "conditionNotMet")

  def _put(self, name: str, content: bytes, query: dict[str, str]) -> None:
    if self.server.refuse is not None and name.startswith(self.server.refuse):
      raise _Refused(403, f"no permission to write {name}")
    self._check(name, query)
    self.server.objects[name] = content, next(self.server.generations)

  def _resource(self, name: str) -> dict[str, object]:
    content, generation = self._get(name)
    bucket, _, path = name.partition("/")
    return {
      "kind": "storage#object",
      "id": f"{name}/{generation}",
      "bucket": bucket,
      "name": path,
      "size": str(len(content)),
      "generation": str(generation),
      "metageneration": "1",
      "timeCreated": "2026-01-01T00:00:00.000Z",
      "updated": "2026-01-01T00:00:00.000Z",
    }

  def _list(self, bucket: str, query: dict[str, str]) -> dict[str, object]:
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    after, before = query.get("startOffset", ""), query.get("endOffset")
    items, prefixes = [], set()
    for name in self.server.names(f"{bucket}/{prefix}"):
      path = name.partition("/")[2]
      if path < after or (before is not None and path >= before):
        continue
      head, found, _ = path[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
      if found:
        prefixes.add(prefix + head + delimiter)
      else:
        items.append(self._resource(name))
    if "maxResults" in query:
      items = items[: int(query["maxResults"])]
    return {"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)}

  def _upload(
    self, bucket: str, query: dict[str, str], body: bytes
  ) -> tuple[int, dict[str, str], bytes]:
    kind = query.get("uploadType")
    if kind == "media":
      name = f"{bucket}/{query['name']}"
    elif kind == "multipart":
      described, content = _parts(self.headers["Content-Type"], body)
      name, body = f"{bucket}/{json.loads(described)['name']}", content
    elif "upload_id" not in query:  # begins an upload in pieces
      given = query.get("name") or json.loads(body)["name"]
      upload = str(len(self.server.uploads))
      self.server.uploads[upload] = f"{bucket}/{given}", bytearray()
      path = self.path.partition("?")[0]
      return 200, {"Location": f"{self.server.url}{path}?upload_id={upload}"}, b"{}"
    else:
      name, so_far = self.server.uploads[query["upload_id"]]
      so_far += body
      if (self.headers.get("Content-Range") or "/1").endswith("/*"):
        return 308, {"Range": f"bytes=0-{len(so_far) - 1}"} if so_far else {}, b""
      body = bytes(so_far)
    self._put(name, body, query)
    return 200, {}, _json(self._resource(name))

  def _batch(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """Deletes many objects, each in a part of its own."""
    answers = b""
    for part in _parts(self.headers["Content-Type"], body):
      line = part.decode().lstrip().split("\r\n", 1)[0].split("\n", 1)[0]
      method, path, *_ = line.split()
      try:
        status, _, _ = self._route(method, path, {}, b"")
      except _Refused as error:
        status = error.args[0]
      answers += f"--part\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 {status} -\r\n".encode()
      answers += b"Content-Type: application/json\r\n\r\n{}\r\n"
    return 200, {"Content-Type": "multipart/mixed; boundary=part"}, answers + b"--part--\r\n"


def _json(value: object) -> bytes:
  return json.dumps(value).encode()


def _parts(content_type: str, body: bytes) -> list[bytes]:
  """Takes a message of several parts apart."""
  boundary = email.message_from_string(f"Content-Type: {content_type}\n\n").get_boundary()
  pieces = body.split(b"--" + str(boundary).encode())[1:-1]
  contents = [piece.replace(b"\r\n", b"\n", 4).partition(b"\n\n")[2] for piece in pieces]
  return [c.removesuffix(b"\n").removesuffix(b"\r") for c in contents]


@contextlib.contextmanager
def serving() -> Iterator[Bucket]:
  """Serves a bucket, with the environment that leads to it."""
  server = Bucket()
  thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
  thread.start()
  try:
    with pytest.MonkeyPatch.context() as patch:
      for variable in VARIABLES:
        patch.setenv(variable, server.url)
      patch.setenv("GOOGLE_CLOUD_PROJECT", "none")
      yield server
  finally:
    server.shutdown()
    server.server_close()
    thread.join()
