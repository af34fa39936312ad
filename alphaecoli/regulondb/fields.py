"""Numbers, texts, nested objects, positions, conditions and evidence of documents.

The one place where 1-based becomes 0-based. Evidence codes are EcoCyc's, such as
EV-EXP-IMP-POLAR-MUTATION; later releases leave "EV-" out. Source: RegulonDB, evidence
classification, and the models of https://github.com/regulondbunam/GraphQL-api.
"""

import html
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from alphaecoli.genomics.genes import (
  EXPERIMENTAL,
  NO_EVIDENCE,
  OTHER_EVIDENCE,
  STRANDS,
)
from alphaecoli.genomics.quality import QualityReport
from alphaecoli.genomics.text import one_line

ID_KEYS = ("_id", "id", "gene_id")  # of nested objects: since 2023, and before
# The branches of codes: experiment, computation, curator, author, high throughput, no data.
_BRANCHES = {
  "EXP": EXPERIMENTAL,
  **dict.fromkeys(("COMP", "IC", "AS", "HTP"), OTHER_EVIDENCE),
  "ND": NO_EVIDENCE,
}
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_STRONG = ("S", "C", "STRONG", "CONFIRMED")  # of transcription units: by experiments alone


def parse_number(value: Any) -> float | None:
  """Parses a number or a numeric string as float, maybe NaN or infinite; None if it is neither."""
  if isinstance(value, bool):
    return None
  if isinstance(value, int | float):
    try:
      return float(value)
    except OverflowError:
      return None
  if value is None or (isinstance(value, str) and "_" in value):
    return None
  try:
    return float(text_of(value))  # also bson's Decimal128
  except ValueError:
    return None


def text_of(value: Any) -> str:
  """Returns a scalar as one line of text without tabs; "" for null, documents and lists."""
  if value is None or isinstance(value, Mapping | list):
    return ""
  return one_line(str(value))


def plain_text(text: str) -> str:
  """Returns text without the tags and entities of HTML, as <i>lacZ</i> and &beta; have them."""
  return one_line(_TAG.sub("", html.unescape(text)))


def nested_id(value: Any) -> str:
  """Returns the id of a nested object in any release; "" if it has none."""
  if isinstance(value, Mapping):
    texts = (text_of(value.get(key)) for key in ID_KEYS)
    return next(filter(None, texts), "")
  return text_of(value) if isinstance(value, str) else ""


def objects_of(value: Any) -> list[Any]:
  """Returns a list of nested objects; an empty one for anything else."""
  return value if isinstance(value, list) else []


def position_of(value: Any) -> int | None:
  """Parses a whole number written as number or string; None if it is not one."""
  number = parse_number(value)
  if number is None or not math.isfinite(number) or number != int(number):
    return None
  return int(number)


def interval_of(
  value: Mapping[str, Any], length_bp: int, circular: bool
) -> tuple[int, int] | str | None:
  """Returns the 0-based half-open interval of `leftEndPosition` and `rightEndPosition`.

  A left end beyond the right end means that the interval passes the origin, unless it would then
  cover more than half of the chromosome.

  Returns:
    Start and end; None where one is null or absent; a reason where they are unusable.
  """
  ends = value.get("leftEndPosition"), value.get("rightEndPosition")
  if ends[0] is None or ends[1] is None:
    return None
  left, right = position_of(ends[0]), position_of(ends[1])
  if left is None or right is None:
    return "positions that are not whole numbers"
  if not (1 <= left <= length_bp and 1 <= right <= length_bp):
    return "positions outside the chromosome"
  if left <= right:
    return left - 1, right
  if not circular or right + length_bp - left + 1 > length_bp // 2:
    return "left end beyond right end"
  return left - 1, right + length_bp


def strand_of(value: Any, kind: str, identifier: str, report: QualityReport) -> int:
  """Parses a strand; 0, and counted, where there is none."""
  strand = STRANDS.get(value.strip().lower(), 0) if isinstance(value, str) else 0
  if strand == 0:
    absent = value is None or value == ""
    report.count(f"{kind} without strand" if absent else f"{kind} with bad strand", 1, identifier)
  return strand


def conditions_of(value: Any) -> dict[str, str]:
  """Joins the growth conditions of a data set, by field."""
  found: dict[str, dict[str, None]] = {}
  for condition in value if isinstance(value, list) else [value]:
    if isinstance(condition, Mapping):
      for key, field in condition.items():
        texts = [text_of(f) for f in (field if isinstance(field, list) else [field])]
        if key and any(texts):
          found.setdefault(text_of(key), {}).update(dict.fromkeys(filter(None, texts)))
  return {key: "; ".join(texts) for key, texts in found.items()}


def terms_of(document: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
  """Yields the terms of a document of growth conditions by field, those of further fields too."""
  for key, value in document.items():
    if key == "additionalProperties":
      for more in objects_of(value):
        if isinstance(more, Mapping):
          yield text_of(more.get("name")), objects_of(more.get("value"))
    elif key != "datasetIds":
      yield key, objects_of(value)


def operon_evidence(units: Iterable[Any], gene_ids: Sequence[str], report: QualityReport) -> str:
  """Returns the best evidence of the transcription units that tell which genes an operon holds.

  They are the units with several of its genes; in an operon of one gene, all of its units.

  Args:
    units: `transcriptionUnits` of an operon's document.
    gene_ids: genes of the operon.
    report: counter of codes that are not understood.
  """
  several = min(len(gene_ids), 2)
  found = {NO_EVIDENCE}
  for unit in units:
    if isinstance(unit, Mapping):
      genes = {nested_id(gene) for gene in objects_of(unit.get("genes"))}
      if len(genes.intersection(gene_ids)) >= several:
        found |= _unit_evidence(unit, report)
  return next(e for e in (EXPERIMENTAL, OTHER_EVIDENCE, NO_EVIDENCE) if e in found)


def _unit_evidence(unit: Mapping[str, Any], report: QualityReport) -> set[str]:
  """Returns the kinds of evidence of a transcription unit.

  Its codes say it; where it has none, a confidence level of S or C does. W is also what releases
  write where there is no evidence at all, so it says nothing.
  """
  found = set()
  for code, confidence in _codes(unit):
    branch = code.upper().removeprefix("EV-").split("-")[0]
    if branch in _BRANCHES:
      found.add(_BRANCHES[branch])
    elif _is_strong(confidence):
      found.add(EXPERIMENTAL)
    elif code:
      report.count("evidence code that is not understood", 1, code)
      found.add(OTHER_EVIDENCE)
  if not found and _is_strong(unit.get("confidenceLevel")):
    found.add(EXPERIMENTAL)
  return found


def _codes(unit: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
  """Yields the evidence codes of a transcription unit, each with its own confidence level or ""."""
  for code in objects_of(unit.get("evidenceCodes")):
    yield text_of(code), ""
  for citation in objects_of(unit.get("citations")):
    evidence = citation.get("evidence") if isinstance(citation, Mapping) else None
    if isinstance(evidence, Mapping):
      yield text_of(evidence.get("code")), text_of(evidence.get("type"))


def _is_strong(confidence: Any) -> bool:
  """Returns whether a confidence level, a letter or a word, is strong or confirmed."""
  return text_of(confidence).upper() in _STRONG
