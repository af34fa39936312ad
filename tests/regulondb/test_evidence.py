"""Evidence of operons in the forms of every release, and in the embedded documents."""

import pytest

from alphaecoli.genomics.quality import QualityReport
from alphaecoli.regulondb.bson import read_collection
from alphaecoli.regulondb.dump import builtin_dump, find_collection
from alphaecoli.regulondb.fields import operon_evidence
from alphaecoli.regulondb.records import read_operons
from tests import toy


def unit(*genes, key="_id", **fields):
  return {"_id": "TU", "genes": [{key: gene} for gene in genes], **fields}


def cited(*codes, **more):
  return [{"publication": {"_id": "P"}, "evidence": {"code": code, **more}} for code in codes]


@pytest.mark.parametrize(
  ("units", "expected"),
  [
    ([unit("A", "B", evidenceCodes=["EV-EXP-IMP-POLAR-MUTATION"])], "experimental"),
    ([unit("A", "B", evidenceCodes=["EV-COMP-AINF", "EV-EXP-IEP"])], "experimental"),
    ([unit("A", "B", evidenceCodes=["EV-COMP-AINF"])], "other"),
    ([unit("A", "B", evidenceCodes=["EV-IC-ADJ-GENES-SAME-BIO-PROCESS"])], "other"),
    ([unit("A", "B", evidenceCodes=["EV-AS-NAS", "EV-HTP-HEP"])], "other"),
    ([unit("A", "B", evidenceCodes=["EV-ND"])], "none"),
    ([unit("A", "B", evidenceCodes=[])], "none"),
    ([unit("A", "B")], "none"),
    ([], "none"),
    ([unit("A", "B", citations=cited("EXP-IDA-BOUNDARIES-DEFINED", type="W"))], "experimental"),
    ([unit("A", "B", key="id", citations=cited("EV-EXP-IEP-COREGULATION"))], "experimental"),
    ([unit("A", "B", citations=cited("COMP-AINF", type="W"), confidenceLevel="W")], "other"),
    ([unit("A", "B", citations=[{"publication": {}}, None])], "none"),
    ([unit("A", "B", citations=cited(None, type="W"))], "none"),
    ([unit("A", "B", citations=cited("LTED", type="S"))], "experimental"),
    ([unit("A", "B", confidenceLevel="C")], "experimental"),
    ([unit("A", "B", confidenceLevel="W")], "none"),
    ([unit("A", evidenceCodes=["EV-EXP"]), unit("A", "B", evidenceCodes=["EV-COMP"])], "other"),
    ([unit("A", "X", evidenceCodes=["EV-EXP"])], "none"),
    ([None, unit("A", "B", evidenceCodes=None), unit("B", "A", confidenceLevel="S")],
     "experimental"),
  ],
)  # fmt: skip
def test_evidence_is_that_of_the_units_that_join_genes(units, expected):
  report = QualityReport()
  assert operon_evidence(units, ("A", "B"), report) == expected
  assert report.reasons == {}


def test_an_operon_of_one_gene_has_the_evidence_of_all_its_units():
  units = [unit("A", evidenceCodes=["EV-EXP-IEP"])]
  assert operon_evidence(units, ("A",), QualityReport()) == "experimental"


def test_a_code_that_is_not_understood_is_counted_and_no_experiment():
  report = QualityReport()
  units = [unit("A", "B", citations=cited("XYZ", type="W"))]
  assert operon_evidence(units, ("A", "B"), report) == "other"
  assert report.reasons == {"evidence code that is not understood": 1}


def test_half_of_the_embedded_operons_are_known_by_experiment():
  """425 of 848 as documented; four of them keep one gene without those that are left out."""
  path = find_collection(builtin_dump(), "operonDatamart")
  found = []
  for batch in read_collection(path, "operonDatamart"):
    for document in batch:
      units = document["transcriptionUnits"]
      genes = {gene["_id"] for u in units for gene in u["genes"]}
      if len(genes) > 1:
        found.append(operon_evidence(units, tuple(genes), QualityReport()))
  assert (len(found), found.count("experimental"), found.count("none")) == (848, 425, 73)


def test_read_operons_carry_their_evidence(tmp_path):
  document = {
    "_id": "O",
    "operon": {"_id": "O", "regulationPositions": {"leftEndPosition": 1, "rightEndPosition": 9}},
    "transcriptionUnits": [unit("A", "B", evidenceCodes=["EV-EXP"])],
  }
  other = {**document, "_id": "P", "operon": {**document["operon"], "_id": "P"}}
  other["transcriptionUnits"] = [unit("A", "B")]
  report = QualityReport()
  path = toy.write_bson(tmp_path / "o.bson", [document, other])
  operons = read_operons(path, 100, report)
  assert [o.evidence for o in operons] == ["experimental", "none"]
  total = "operons with two genes or more"
  assert report.totals[f"{total}: experimental evidence"] == 1
  assert report.totals[f"{total}: no evidence"] == 1
