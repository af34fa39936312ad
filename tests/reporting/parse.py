"""A page read back: its tables, its data, its text."""

import json
from html.parser import HTMLParser
from typing import Any


class Page(HTMLParser):
  """Rows of every table by its caption, notes, the JSON, and every attribute that may load."""

  def __init__(self, text: str):
    super().__init__()
    self.tables: dict[str, list[list[str]]] = {}
    self.notes: list[str] = []
    self.loads: list[tuple[str, str]] = []
    self.tags: list[str] = []
    self._open: list[str] = []
    self._caption, self._json = "", ""
    self.feed(text)
    self.close()

  @property
  def data(self) -> Any:
    return json.loads(self._json)

  def handle_starttag(self, tag, attrs):
    values = dict(attrs)
    self.tags.append(tag)
    self.loads += [(tag, values[k]) for k in ("src", "href", "srcset", "data") if k in values]
    kind = "json" if values.get("type") == "application/json" else tag
    kind = "note" if values.get("class") == "note" else kind
    self._open.append(kind)
    if tag == "caption":
      self._caption = ""
    elif tag == "tr":
      self.tables.setdefault(self._caption, []).append([])
    elif tag in ("td", "th"):
      self.tables[self._caption][-1].append("")
    elif kind == "note":
      self.notes.append("")
    if tag in ("meta", "link", "input", "br"):
      self._open.pop()

  def handle_endtag(self, tag):
    self._open.pop()

  def handle_data(self, text):
    kind = self._open[-1] if self._open else ""
    if kind == "caption":
      self._caption += text
    elif kind in ("td", "th"):
      self.tables[self._caption][-1][-1] += text
    elif kind == "note":
      self.notes[-1] += text
    elif kind == "json":
      self._json += text
