"""TPM against the hand-worked table of the toy chromosome."""

import math

import numpy as np
import pytest

from alphaecoli.errors import DataError
from alphaecoli.genomics.genes import Gene
from alphaecoli.genomics.quality import QualityReport
from alphaecoli.regulondb import expression, records
from tests import toy


def datasets_of(report: QualityReport, reason: str) -> tuple[str, ...]:
  """Names of the data sets counted under a reason."""
  return tuple(report.to_json()["problems"][reason]["datasets"])


GENES = [Gene(f"g{i}", f"n{i}", f"b{i}", 100 * i, 100 * i + 50, 1, "mRNA") for i in range(6)]


def document(dataset, gene, **values):
  return {"_id": f"{dataset}_{gene}", "datasetIds": [dataset], "gene": {"_id": gene}} | values


def read(tmp_path, documents, *, genes=GENES, min_genes=1, **options):
  report = QualityReport()
  path = toy.write_bson(tmp_path / "geneExpression.bson", documents)
  table = expression.read_expression(path, genes, report, min_genes_per_unit=min_genes, **options)
  return table, report


@pytest.fixture(scope="module", params=["2022", "2023"])
def toy_table(request, tmp_path_factory):
  dump = toy.write(tmp_path_factory.mktemp("toy"), generation=request.param, compression=".gz")
  scan = records.scan_genes(dump.files["geneDatamart"], dump.length_bp, QualityReport())
  report = QualityReport()
  table = expression.read_expression(
    dump.files["geneExpression"],
    scan.genes,
    report,
    min_genes_per_unit=dump.min_genes_per_unit,
    skipped=scan.unplaced_ids | scan.excluded_ids | scan.skipped_tags,
  )
  return dump, table, report


def test_toy_tpm_of_both_generations_equal_the_hand_worked_table(toy_table):
  dump, table, _ = toy_table
  assert table.datasets == tuple(name for name in toy.TPM if name != "ERR_FEW")
  assert table.gene_ids == tuple(g.id for g in dump.genes)
  expected = dump.tpm_matrix(table.gene_ids, table.datasets)
  np.testing.assert_allclose(table.tpm, expected, rtol=1e-12)


def test_toy_report_counts_every_skipped_and_repaired_record(toy_table):
  _, _, report = toy_table
  assert report.reasons == {
    "expression document of a gene not in geneDatamart": 1,
    "expression document of a skipped gene": 2,
    "expression document without a gene": 1,
    "expression document without a data set": 1,
    "bad tpm: not a number, negative or infinite": 4,
    "gene measured twice in a data set: mean": 1,
    "absent tpm read as 0": 1,
    "data set converted from fpkm to TPM": 1,
    "data set converted from count to TPM": 1,
    "data set that can not be TPM: rescaled to a sum of 1e6": 1,
    "data set left out: no unit with enough genes": 1,
  }
  rescaled = datasets_of(report, "data set that can not be TPM: rescaled to a sum of 1e6")
  assert rescaled == toy.RESCALED
  assert datasets_of(report, "bad tpm: not a number, negative or infinite") == ("ERR_BAD",)
  assert report.totals == {"expression documents": 45, "data sets with expression": 7}


def test_prefixed_and_bare_names_are_one_data_set(tmp_path):
  table, _ = read(
    tmp_path,
    [document("GENE_EXPRESSION_X", "g0", tpm=1.0), document("X", "g1", tpm=2.0)],
  )
  assert table.datasets == ("X",)
  np.testing.assert_array_equal(table.tpm[:2, 0], [1, 2])


def test_a_document_of_two_data_sets_counts_in_both(tmp_path):
  both = document("A", "g0", tpm=3.0) | {"datasetIds": ["A", "B"]}
  table, _ = read(tmp_path, [both])
  assert table.datasets == ("A", "B")
  np.testing.assert_array_equal(table.tpm[0], [3, 3])


def test_genes_match_by_id_before_b_number(tmp_path):
  table, report = read(
    tmp_path,
    [
      document("A", "g0", tpm=1.0) | {"gene": {"_id": "g0", "bnumber": "b1"}},
      document("A", "?", tpm=2.0) | {"gene": {"bnumber": "b1"}},
      document("A", "?", tpm=3.0) | {"gene": {"_id": "other", "bnumber": "b2"}},
    ],
  )
  np.testing.assert_array_equal(table.tpm[:3, 0], [1, 2, 3])
  assert report.reasons == {}


@pytest.mark.parametrize("zero", [0, 0.0, "0.000000", -0.0])
def test_any_explicit_zero_makes_absent_keys_unknown(tmp_path, zero):
  documents = [document("A", "g0", tpm=5.0), document("A", "g1"), document("A", "g2", tpm=zero)]
  table, _ = read(tmp_path, documents)
  np.testing.assert_array_equal(table.tpm[:3, 0], [5, np.nan, 0])


def test_the_rule_of_absent_keys_is_per_data_set_and_unit(tmp_path):
  table, report = read(
    tmp_path,
    [
      document("A", "g0", tpm=5.0, fpkm=0.0),
      document("A", "g1", fpkm=0.0),  # absent TPM is 0: the explicit zeros are FPKM
      document("B", "g0", tpm=5.0),
      document("B", "g1", tpm=0.0),
      document("B", "g2"),  # unknown
      document("C", "g0", tpm=None, fpkm=2.0),
      document("C", "g1"),  # absent FPKM is 0; TPM was never written
      document("C", "g2", fpkm=2.0),
      document("C", "g3", fpkm=None),  # null is unknown
    ],
  )
  expected = [[5, 5, 5e5], [0, 0, 0], [np.nan, np.nan, 5e5], [np.nan] * 3]
  np.testing.assert_array_equal(table.tpm[:4], expected)
  assert datasets_of(report, "absent tpm read as 0") == ("A",)
  assert datasets_of(report, "absent fpkm read as 0") == ("C",)


def test_genes_without_a_document_stay_unknown(tmp_path):
  table, _ = read(tmp_path, [document("A", "g0", tpm=5.0), document("A", "g1")])
  np.testing.assert_array_equal(np.isnan(table.tpm[:, 0]), [False, False, True, True, True, True])


@pytest.mark.parametrize("order", [1, -1], ids=["as written", "reversed"])
def test_unit_needs_enough_genes_whatever_the_order(tmp_path, order):
  documents = [
    document("A", "g0", tpm=100.0, fpkm=1.0, count=1),
    document("A", "g1", tpm=None, fpkm=1.0, count=1),
    document("A", "g2", tpm=None, fpkm=None, count=2),
    document("B", "g0", tpm=7.0, fpkm=1.0),
    document("B", "g1", tpm=8.0, fpkm=1.0),
    document("B", "g2", tpm=None, fpkm=1.0),
  ][::order]
  two, _ = read(tmp_path, documents, min_genes=2)
  values = {d: two.tpm[:3, i] for i, d in enumerate(two.datasets)}
  np.testing.assert_array_equal(values["A"], [5e5, 5e5, np.nan])
  np.testing.assert_array_equal(values["B"], [7, 8, np.nan])
  three, _ = read(tmp_path, documents, min_genes=3)
  values = {d: three.tpm[:3, i] for i, d in enumerate(three.datasets)}
  np.testing.assert_allclose(values["A"], [2.5e5, 2.5e5, 5e5])
  np.testing.assert_allclose(values["B"], [1e6 / 3] * 3)


def test_absent_keys_do_not_count_towards_a_unit(tmp_path):
  documents = [document("A", "g0", tpm=3.0, fpkm=1.0)]
  documents += [document("A", f"g{i}", fpkm=1.0) for i in range(1, 4)]
  table, _ = read(tmp_path, documents, min_genes=2)
  np.testing.assert_array_equal(table.tpm[:4, 0], [2.5e5] * 4)


def test_tpm_at_the_limit_is_kept_and_beyond_it_rescaled(tmp_path):
  documents = [document("A", "g0", tpm=1.5e6), document("B", "g0", tpm=1.6e6)]
  table, _ = read(tmp_path, documents)
  np.testing.assert_array_equal(table.tpm[0], [1.5e6, 1e6])


def test_huge_but_finite_values_do_not_overflow(tmp_path):
  documents = [document("A", f"g{i}", tpm=9e299) for i in range(6) for _ in range(3)]
  table, _ = read(tmp_path, documents)
  np.testing.assert_allclose(table.tpm[:, 0], 1e6 / 6)
  table, report = read(tmp_path, [document("A", "g0", tpm=1e308), document("A", "g1", tpm=1.0)])
  np.testing.assert_array_equal(table.tpm[:2, 0], [np.nan, 1])
  assert report["bad tpm: not a number, negative or infinite"] == 1


def test_a_data_set_of_zeros_is_left_out(tmp_path):
  table, report = read(tmp_path, [document("Z", "g0", tpm=0.0), document("A", "g0", tpm=1.0)])
  assert table.datasets == ("A",)
  assert datasets_of(report, "data set left out: every value is 0") == ("Z",)


def test_many_interleaved_data_sets_equal_a_plain_loop(tmp_path):
  """More documents than one flush and more data sets than one block, in mixed order."""
  rng = np.random.default_rng(0)
  truth = {}
  documents = []
  for _ in range(9000):
    dataset, gene = f"D{rng.integers(70)}", int(rng.integers(6))
    value = float(rng.integers(1, 1000))
    truth.setdefault((dataset, gene), []).append(value)
    documents.append(document(dataset, f"g{gene}", tpm=value, fpkm=1.0))
  table, report = read(tmp_path, documents)
  assert sorted(table.datasets) == sorted({d for d, _ in truth})
  for column, dataset in enumerate(table.datasets):
    for gene in range(6):
      values = truth.get((dataset, gene))
      expected = np.mean(values) if values else math.nan
      np.testing.assert_allclose(table.tpm[gene, column], expected, rtol=1e-12)
  assert report.totals["expression documents"] == 9000


def test_documents_that_match_no_gene_are_an_error_unless_reading_stops_early(tmp_path):
  documents = [document("A", "elsewhere", tpm=1.0)] * 3
  with pytest.raises(DataError, match="none of its 3 documents matches a gene"):
    read(tmp_path, documents)
  table, _ = read(tmp_path, documents, max_docs=2)
  assert table.tpm.shape == (6, 0)


def test_odd_documents_are_counted_never_raised(tmp_path):
  documents = [
    document("A", "g0", tpm=1.0),
    document("A", "g0", tpm=1.0) | {"gene": []},
    document("A", "g0", tpm=1.0) | {"gene": {"_id": {"a": 1}}},
    document("A", "g0", tpm=1.0) | {"datasetIds": None},
    document("A", "g0", tpm=[1.0]),
    document("A", "g0", tpm={"a": 1}),
    document("A", "g1", tpm=True),
    document("A", "g1", tpm=2) | {"datasetIds": "A"},
  ]
  table, report = read(tmp_path, documents)
  np.testing.assert_array_equal(table.tpm[:2, 0], [1, 2])
  assert report.reasons == {
    "expression document without a gene": 1,
    "expression document of a gene not in geneDatamart": 1,
    "expression document without a data set": 1,
    "bad tpm: not a number, negative or infinite": 3,
  }
