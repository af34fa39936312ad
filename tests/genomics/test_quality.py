import logging

import pytest

from alphaecoli.errors import DataError
from alphaecoli.genomics.quality import QualityReport, check_names_match


def example() -> QualityReport:
  report = QualityReport()
  report.total("documents", 1200)
  for i in range(7):
    report.count("gene without positions", 1, f"g{i}")
  report.count("rescaled", 1, dataset="SRR1")
  report.count("rescaled", 2, dataset="SRR2")
  report.count("never", 0)
  return report


def test_counts_examples_and_data_sets_by_reason():
  report = example()
  assert report.reasons == {"gene without positions": 7, "rescaled": 3}
  assert report["gene without positions"] == 7 and report["never"] == 0
  assert report.to_json() == {
    "totals": {"documents": 1200},
    "problems": {
      "gene without positions": {
        "count": 7, "examples": ["g0", "g1", "g2", "g3", "g4"], "datasets": {},
      },
      "rescaled": {"count": 3, "examples": [], "datasets": {"SRR1": 1, "SRR2": 2}},
    },
  }  # fmt: skip


def test_table_has_a_line_for_each_reason():
  assert example().table().splitlines() == [
    "quality report",
    "  1,200  documents",
    "      7  gene without positions (g0, g1, g2, g3, g4, …)",
    "      3  rescaled (SRR1, SRR2)",
  ]


def test_names_that_match_are_silent_and_too_few_are_said_with_both_sides(caplog, monkeypatch):
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  names = [f"b{n:04}" for n in range(10)]
  check_names_match("x.tsv", names, [], names)
  check_names_match("x.tsv", names, names[:1], names)  # nine in ten
  check_names_match("x.tsv", [], [], names)
  assert not caplog.text
  check_names_match("x.tsv", names, names[:5], ["g1", "g2"], "contig")  # half
  line = "x.tsv: 5 of 10 names match no contig: it has b0000, b0001, b0002, …; known are g1, g2"
  assert [record.getMessage() for record in caplog.records] == [line]
  with pytest.raises(DataError, match="6 of 10 names match no gene") as caught:
    check_names_match("x.tsv", names, names[:6], ["g1", "z" * 1000])
  text = str(caught.value)
  assert "b0000" in text and "g1" in text and "Fewer than half" in text and len(text) < 300
