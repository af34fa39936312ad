"""Evidence of operons: what the evidence codes of their transcription units say.

Codes are EcoCyc's, such as EV-EXP-IMP-POLAR-MUTATION; later releases leave "EV-" out. Source:
RegulonDB, evidence classification, and the models of https://github.com/regulondbunam/GraphQL-api.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from alphaecoli.genomics.genes import EXPERIMENTAL, NO_EVIDENCE, OTHER_EVIDENCE
from alphaecoli.genomics.quality import QualityReport
from alphaecoli.regulondb.fields import nested_id, objects_of, text_of

# The branches of codes: experiment, computation, curator, author, high throughput, no data.
_BRANCHES = {
  "EXP": EXPERIMENTAL,
  **dict.fromkeys(("COMP", "IC", "AS", "HTP"), OTHER_EVIDENCE),
  "ND": NO_EVIDENCE,
}
_STRONG = ("S", "C", "STRONG", "CONFIRMED")  # of transcription units: by experiments alone


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
