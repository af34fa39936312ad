"""Genes, operons and data sets against the hand-worked toy chromosome."""

import dataclasses

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alphaecoli.genomics.intervals import covering_interval
from alphaecoli.genomics.quality import QualityReport
from alphaecoli.regulondb import fields as positions
from alphaecoli.regulondb import records
from tests import toy

GENE_FIELDS = [f.name for f in dataclasses.fields(toy.ToyGene)]
OPERON_FIELDS = [f.name for f in dataclasses.fields(toy.ToyOperon)]


def fields(item, names):
  return {name: getattr(item, name) for name in names}


@pytest.fixture(scope="module", params=["2022", "2023"])
def dump(request, tmp_path_factory):
  return toy.write(tmp_path_factory.mktemp("toy"), generation=request.param)


def test_genes_of_both_generations_read_the_same(dump):
  report = QualityReport()
  genes = records.scan_genes(dump.files["geneDatamart"], dump.length_bp, report).genes
  assert [fields(g, GENE_FIELDS) for g in genes] == [dataclasses.asdict(g) for g in dump.genes]
  assert report.reasons == {
    "gene without b-number": 1,
    "gene without strand": 1,
    "gene of excluded type phantom": 1,
    "gene without positions": 1,
    "gene with positions outside the chromosome": 1,
  }
  assert report.totals == {"gene documents": 14, "genes": 11}


def test_phantoms_come_back_when_no_type_is_excluded(dump):
  genes = records.scan_genes(
    dump.files["geneDatamart"], dump.length_bp, QualityReport(), exclude_types=()
  ).genes
  (phantom,) = [g for g in genes if g.type == "phantom"]
  assert (phantom.start, phantom.end) == (1000, 1100)


def test_interrupted_gene_is_as_long_as_its_fragments(dump):
  genes = records.scan_genes(dump.files["geneDatamart"], dump.length_bp, QualityReport()).genes
  lengths = {g.id: g.transcript_bp for g in genes}
  assert lengths["T09"] == 400 and lengths["T02"] == 300 and lengths["T01"] == 150


def test_operons_of_both_generations_read_the_same(dump):
  report = QualityReport()
  scan = records.scan_genes(dump.files["geneDatamart"], dump.length_bp, QualityReport())
  path = dump.files["operonDatamart"]
  operons = records.read_operons(path, dump.length_bp, report, scan=scan)
  expected = [dataclasses.asdict(o) for o in dump.operons]
  assert [fields(o, OPERON_FIELDS) for o in operons] == expected
  assert report.reasons == {
    "operon gene not in geneDatamart": 2,
    "operon without strand": 1,
    "operon gene of an excluded type": 1,
    "operon without positions": 2,
    "operon placed by its genes": 1,
    "operon skipped: no positions and no placed gene": 1,
  }
  assert report.totals["operons with two genes or more"] == 3


def test_without_genes_operons_keep_every_id(dump):
  operons = records.read_operons(dump.files["operonDatamart"], dump.length_bp, QualityReport())
  assert {o.id: o.gene_ids for o in operons}["O4"] == ("T07", "TX99")


def test_growth_conditions_are_flat_strings(dump):
  datasets = records.read_datasets(dump.files["dataset"], QualityReport())
  assert {d.name: d.conditions for d in datasets} == dump.conditions


def test_on_a_linear_contig_nothing_passes_the_origin(dump):
  report = QualityReport()
  path = dump.files["geneDatamart"]
  genes = records.scan_genes(path, dump.length_bp, report, circular=False).genes
  assert "T01" not in {g.id for g in genes}
  assert report["gene with left end beyond right end"] == 1


def test_duplicates_and_nameless_records_are_counted(tmp_path):
  gene = {"leftEndPosition": 1, "rightEndPosition": 9, "strand": "forward"}
  path = toy.write_bson(
    tmp_path / "g.bson",
    [
      {"_id": "a", "gene": {"_id": "a"} | gene},
      {"_id": "a", "gene": {"_id": "a"} | gene},
      {"gene": gene},
      {"_id": "b", "gene": None},
      {"_id": "c", "gene": {"id": "c"} | gene | {"leftEndPosition": 2.5}},
      {"_id": "d", "gene": {"id": "d"} | gene | {"leftEndPosition": 0, "strand": "sideways"}},
      {"_id": "e", "gene": {"id": "e"} | gene | {"strand": "sideways"}},
      {"_id": "f", "gene": {"id": "f"} | gene | {"leftEndPosition": 60, "rightEndPosition": 20}},
    ],
  )
  report = QualityReport()
  genes = records.scan_genes(path, 100, report).genes
  assert [(g.id, g.strand) for g in genes] == [("a", 1), ("e", 0)]
  assert report["gene listed twice"] == 1
  assert report["gene document without a gene id"] == 2
  assert report["gene with positions that are not whole numbers"] == 1
  assert report["gene with positions outside the chromosome"] == 1
  assert report["gene with bad strand"] == 1
  assert report["gene with left end beyond right end"] == 1  # it would cover 61 of 100 bp


def test_fragments_place_a_gene_and_follow_it_over_the_origin(tmp_path):
  def gene(identifier, left, right, *fragments):
    parts = [{"leftEndPosition": a, "rightEndPosition": b} for a, b in fragments]
    ends = {"leftEndPosition": left, "rightEndPosition": right}
    return {"_id": identifier, "gene": {"_id": identifier, "fragments": parts} | ends}

  path = toy.write_bson(
    tmp_path / "g.bson",
    [
      gene("wraps", 91, 10, (91, 95), (3, 10)),
      gene("unplaced", None, None, (31, 35), (41, 50)),
      gene("single", 31, 50, (31, 50)),
      gene("beyond", 31, 50, (31, 40), (45, 60)),
      gene("bad", 31, 50, (31, 40), ("x", 50)),
    ],
  )
  report = QualityReport()
  genes = {g.id: g for g in records.scan_genes(path, 100, report).genes}
  assert (genes["wraps"].start, genes["wraps"].end) == (90, 110)
  assert genes["wraps"].fragments == ((90, 95), (102, 110))
  assert (genes["unplaced"].start, genes["unplaced"].end) == (30, 50)
  assert genes["unplaced"].fragments == ((30, 35), (40, 50))
  assert genes["single"].fragments == () and genes["beyond"].fragments == ()
  assert report["gene placed by its fragments"] == 1
  assert report["gene with fragments outside it"] == 1
  assert report["gene fragment with bad positions"] == 1


@pytest.mark.parametrize(
  ("value", "number"),
  [
    (1, 1.0), (2.5, 2.5), ("0.000000", 0.0), (" 7 ", 7.0), ("1e3", 1000.0), (None, None),
    (True, None), ("abc", None), ("1_000", None), ("", None), ([1], None), ({}, None),
    (b"1", None),
  ],
)  # fmt: skip
def test_numbers_and_numeric_strings(value, number):
  assert positions.parse_number(value) == number


def test_text_is_one_line_of_scalars():
  assert positions.text_of("a\tb\nc ") == "a b c"
  assert positions.text_of(5) == "5"
  assert positions.text_of({"a": 1}) == positions.text_of(["a"]) == positions.text_of(None) == ""


@settings(max_examples=100, deadline=None)
@given(
  length=st.integers(5, 30),
  seeds=st.lists(st.tuples(st.integers(0, 100), st.integers(1, 6)), min_size=1, max_size=4),
)
@example(length=20, seeds=[(0, 1), (17, 5), (46, 6)])  # one passes the origin, beyond the first
def test_covering_interval_is_the_shortest_arc(length, seeds):
  intervals = [(a % length, a % length + min(n, length)) for a, n in seeds]
  start, end = covering_interval(intervals, length)
  assert 0 <= start < length and start < end <= start + length
  bases = {p % length for a, b in intervals for p in range(a, b)}

  def covers(first, size):
    return bases <= {p % length for p in range(first, first + size)}

  shortest = next(n for n in range(1, length + 1) if any(covers(s, n) for s in range(length)))
  assert covers(start, end - start)
  assert end - start == shortest
