from alphaecoli.genomics.quality import QualityReport


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
