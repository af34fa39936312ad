"""Operon tables as people have them, and operons that can not be."""

import dataclasses
import logging

import numpy as np
import pytest

from alphaecoli.errors import DataError
from alphaecoli.genomics.genes import Gene, GenomeRecords
from alphaecoli.genomics.quality import QualityReport
from alphaecoli.genomics.sequence import Contig
from alphaecoli.organism.genes import GeneNames
from alphaecoli.organism.operons import read_operons
from alphaecoli.tracks.gene_table import possible_operons
from tests.organism.test_prepare import gene_line, prepared, write_files

# The lac region: 1-based first and last base, strand.
LAC = [
  ("b0342", 1249, 1860, -1), ("b0343", 1926, 3179, -1), ("b0344", 3231, 6305, -1),
  ("b0345", 6428, 7510, -1), ("b0346", 7587, 8420, -1), ("b0347", 8611, 10275, 1),
  ("b0348", 10277, 11221, 1), ("b0349", 11239, 12105, 1), ("b0350", 12115, 12924, 1),
]  # fmt: skip
LENGTH_BP = 20_000


def genes_of(rows, length_bp=LENGTH_BP):
  """Genes; one whose last base lies before the first passes the origin."""
  return [
    Gene(
      tag,
      tag.replace("b", "gene"),
      tag,
      a - 1,
      b if b >= a else b + length_bp,
      strand,
      "CDS",
      contig="ctg",
    )
    for tag, a, b, strand in rows
  ]


def read(tmp_path, lines, rows=LAC, *, circular=True, skipped=()):
  """The operons of a table by id, and the quality report."""
  path = tmp_path / "operons.tsv"
  path.write_text("\n".join(lines) + "\n", newline="")
  genes, report = genes_of(rows), QualityReport()
  contig = Contig("ctg", np.zeros(LENGTH_BP, np.uint8))
  names = GeneNames(genes, set(skipped))
  place = {"circular": {contig.name: circular}, "report": report}
  operons = read_operons(path, genes, names, [contig], [], **place)[contig.name]
  return {operon.id: operon for operon in operons}, report


LAC_GENES = ("b0342", "b0343", "b0344")
LAYOUTS = {
  "commas": ["operon\tgenes", "lac\tb0342,b0343,b0344"],
  "semicolons": ["operon\tgenes", "lac\tb0342; b0343; b0344"],
  "biocyc": ["Operon\tGenes", "lac\tb0342 // b0343 // b0344"],
  "spaces": ["operon\tgenes", "lac\tb0342 b0343  b0344"],
  "mixed": ["operon\tgenes", "lac\tb0342, b0343 b0344"],
  "bars": ["operon\tgenes", "lac\tb0342|b0343|b0344"],
  "names": ["operon\tgenes", "lac\tgene0342,gene0343,gene0344"],
  "one-gene-a-row": ["operon\tgene", "lac\tb0342", "lac\tb0343", "lac\tb0344"],
  "gene-positions": [  # as DOOR has them: a row a gene, with the gene's own positions
    "OperonID\tSynonym\tStart\tEnd\tStrand",
    "lac\tb0342\t1249\t1860\t-", "lac\tb0343\t1926\t3179\t-", "lac\tb0344\t3231\t6305\t-",
  ],
  "operon-positions-in-each-row": [
    "operon\tlocus_tag\tstart\tstop\tstrand",
    *(f"lac\t{tag}\t1249\t6305\t-1" for tag in ("b0342", "b0343", "b0344")),
  ],
  "stop": ["operon\tstart\tstop\tstrand", "lac\t1249\t6305\treverse"],
  "left-right": ["operon\tleft\tright\tstrand", "lac\t1249\t6305\tminus"],
  "floats": ["operon\tstart\tend\tstrand", "lac\t1249.0\t6305.0\t-1.0"],
  "minus-strand-backwards": ["operon\tgenes\tstart\tend", "lac\tb0342,b0343,b0344\t6305\t1249"],
  "rockhopper": [
    "Start\tStop\tStrand\tNumber of Genes\tGenes", "1249\t6305\t-\t3\tgene0342, gene0343, gene0344",
  ],
  "regulondb": [
    "## RegulonDB",
    "1)operonId\t2)operonName\t3)firstGeneLeftPos\t4)lastGeneRightPos\t5)strand\t6)numberOfGenes\t"
    "7)operonGenes", "RDB1\tlacZYA\t1249\t6305\treverse\t3\tgene0342;gene0343;gene0344",
  ],
  "commas-between-cells": ["operon,genes,strand", 'lac,"b0342,b0343,b0344",-'],
  "excel": ["\ufeffsep=;\r", "operon;genes;start;end\r", "lac;b0342, b0343, b0344;1249;6305\r"],
  "hyphens": ["operon\tgenes", "lac\tgene0342-gene0343-gene0344"],
  "operon-mapper": [
    "Operon\tIdGene\tType\tCOGgene\tPosLeft\tpostRight\tStrand\tFunction", "1\t\t\t\t\t\t\t",
    "\tb0342\tCDS\tCOG1\t1249\t1860\t-\tx", "\tb0343\tCDS\tCOG1\t1926\t3179\t-\tx",
    "\tb0344\tCDS\tCOG1\t3231\t6305\t-\tx",
  ],
  "backwards-without-genes": ["operon\tstart\tend\tstrand", "lac\t6305\t1249\t-"],
}  # fmt: skip


@pytest.mark.parametrize("circular", [True, False], ids=["circular", "linear"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_that_people_have_give_the_same_operon(tmp_path, layout, circular):
  operons, report = read(tmp_path, LAYOUTS[layout], circular=circular)
  (lac,) = operons.values()
  assert (lac.start, lac.end, lac.strand, lac.gene_ids) == (1248, 6305, -1, LAC_GENES)
  swapped = {"operon whose end lies before its start: swapped": 1}
  assert report.reasons == (swapped if "backwards" in layout else {})


@pytest.mark.parametrize(
  ("text", "strand"),
  [("1", 1), ("+1", 1), ("+", 1), ("forward", 1), ("Plus", 1), ("-1", -1), ("-", -1),
   ("Reverse", -1), ("\N{MINUS SIGN}", -1)],
)  # fmt: skip
def test_an_operon_without_genes_holds_those_of_its_strand(tmp_path, text, strand):
  # From lacZ to mhpA: three genes of the minus strand, one of the plus strand.
  operons, _ = read(tmp_path, ["operon\tstart\tend\tstrand", f"x\t3231\t10275\t{text}"])
  expected = {1: ("b0347",), -1: ("b0344", "b0345", "b0346")}[strand]
  assert (operons["x"].strand, operons["x"].gene_ids) == (strand, expected)


def test_a_hyphen_between_genes_that_are_no_neighbours_may_be_a_range(tmp_path):
  lines = ["operon\tgenes", "o\tb0342-b0344, b0345", "p\tb0347-b0348"]
  operons, report = read(tmp_path, lines)
  assert operons["o"].gene_ids == ("b0345", "b0342-b0344")
  assert operons["p"].gene_ids == ("b0347", "b0348")
  assert report.reasons == {"operon gene: matches no gene": 1}


def test_a_table_of_single_genes_is_no_table_of_operons(tmp_path):
  with pytest.raises(DataError, match="columns genes, start, end; expected a table of operons"):
    read(tmp_path, ["genes\tstart\tend", "b0342\t1249\t1860", "b0343\t1926\t3179"])


def test_a_strand_that_is_not_understood_is_refused(tmp_path):
  with pytest.raises(DataError, match="line 2: strand 'sense'; expected"):
    read(tmp_path, ["operon\tstart\tend\tstrand", "x\t3231\t10275\tsense"])


def test_the_strand_of_the_genes_is_taken_where_the_table_has_the_other(tmp_path):
  operons, report = read(tmp_path, ["operon\tgenes\tstrand", "lac\tb0342,b0343\t+"])
  assert operons["lac"].strand == -1
  assert report.reasons == {"operon on the other strand than its genes: theirs is taken": 1}


ORIGIN = [*LAC, ("b9998", 18501, 19400, 1), ("b9999", 19501, 19900, 1), ("b0001", 101, 600, 1)]


@pytest.mark.parametrize(
  "line",
  ["o\tb9999,b0001\t19501\t600\t+", "o\t\t19501\t600\t+", "o\tb9999,b0001\t19501\t20600\t+",
   "o\tb9999,b0001\t\t\t+"],
  ids=["end-before-start", "without-genes", "beyond-the-length", "genes-alone"],
)  # fmt: skip
def test_an_operon_over_the_origin_of_a_circle_stays_there(tmp_path, line):
  operons, report = read(tmp_path, ["operon\tgenes\tstart\tend\tstrand", line], ORIGIN)
  operon = operons["o"]
  assert (operon.start, operon.end, operon.gene_ids) == (19_500, 20_600, ("b9999", "b0001"))
  assert report.reasons == {}


def test_genes_at_both_ends_of_a_linear_contig_do_not_wrap(tmp_path):
  operons, _ = read(tmp_path, ["operon\tgenes", "o\tb9999,b0001"], ORIGIN, circular=False)
  assert (operons["o"].start, operons["o"].end) == (100, 19_900)


BAD_ROWS = {
  "an-end-before-the-start-that-no-gene-explains": (
    "x\t\t6305\t1249\t+", "operon left out: its end lies before its start"
  ),
  "genes-on-both-sides": (
    "x\tb0342,b0348\t6305\t1249\t", "operon left out: its end lies before its start"
  ),
  "positions-of-another-assembly": (
    "x\tb0342,b0343\t11239\t12924\t-", "operon left out: its genes lie elsewhere"
  ),
  "no-operon": ("NA\tb0345\t\t\t", "row without an operon"),
  "no-operon-of-excel": ("#N/A\tb0345\t\t\t", "row without an operon"),
  "no-operon-in-words": ("singleton\tb0345\t\t\t", "row without an operon"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_row_that_can_not_be_read_for_certain_is_left_out_by_name(tmp_path, case):
  line, reason = BAD_ROWS[case]
  lines = ["operon\tgenes\tstart\tend\tstrand", "lac\tb0342,b0343,b0344\t\t\t-", line]
  operons, report = read(tmp_path, lines)
  assert list(operons) == ["lac"] and report.reasons == {reason: 1}
  named = report.to_json()["problems"][reason]["examples"]
  assert named == [line.split("\t")[0 if line[0] == "x" else 1]]


def test_genes_that_are_left_out_do_not_count_and_unknown_ones_do(tmp_path):
  lines = ["operon\tgenes", "lac\tb0342,ph1", "mhp\tb0347,b9990", "x\tb0348,b0349"]
  operons, report = read(tmp_path, lines, skipped=["ph1"])
  assert operons["lac"].gene_ids == ("b0342",)
  assert operons["mhp"].gene_ids == ("b0347", "b9990")
  assert report.reasons == {
    "operon gene: gene that is left out": 1, "operon gene: matches no gene": 1,
  }  # fmt: skip


# Twenty genes of 300 bp, one every 400: 13 on the plus strand, then 7 on the minus strand.
GENES = [gene_line(f"g{i}", 400 * i + 1, 400 * i + 300, "+-"[i > 12]) for i in range(20)]
GOOD = ["operon\tgenes", "A\tg0,g1,g2", "B\tg5,g6", "C\tg14,g15"]


def store_of(tmp_path, operons, genes=GENES, **changes):
  files = dataclasses.replace(write_files(tmp_path, genes, (), operons), expression=None)
  return prepared(files, tmp_path, **{"block_offset": 0.0, **changes})


IMPOSSIBLE = {
  "not-neighbours": ("bad\tg0,g9", "operon left out: more foreign genes than its own"),
  "both-strands": ("bad\tg11,g13", "operon left out: genes of both strands"),
  "neighbours-of-both-strands": ("bad\tg12,g13", "operon left out: genes of both strands"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_an_operon_that_can_not_be_labels_nothing_and_is_named(tmp_path, case, caplog, monkeypatch):
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  line, reason = IMPOSSIBLE[case]
  store = store_of(tmp_path, [*GOOD, line])
  expected = np.zeros(8000, np.uint8)
  for start, end in ((0, 1100), (2000, 2700), (5600, 6300)):
    expected[start:end] = 1
  np.testing.assert_array_equal(store.operon_membership, expected)
  assert "bad" not in store.genes.operon_id
  assert store.quality["problems"][reason]["examples"] == ["bad"]
  assert "1 of 4 operons can not be: bad" in caplog.text


def test_an_operon_may_skip_as_many_genes_as_it_has(tmp_path):
  store = store_of(tmp_path, ["operon\tgenes", "A\tg0,g3", "B\tg5,g6"])  # g1 and g2 are skipped
  assert store.operon_membership[:1500].all()
  assert not any(reason.startswith("operon left out") for reason in store.quality["problems"])


@pytest.mark.parametrize(
  ("foreign", "possible"),
  [
    ([(700, 800, -1), (1000, 1100, -1)], True),
    ([(700, 800, -1), (1000, 1100, -1), (1300, 1400, -1)], False),
    ([(120, 180, -1), (200, 290, -1), (1520, 1580, -1)], True),  # antisense to its own
  ],
  ids=["as-many", "more", "antisense"],
)
def test_genes_of_the_other_strand_between_its_own_are_foreign(tmp_path, foreign, possible):
  rows = [("b1", 101, 300, 1), ("b2", 1501, 1600, 1), ("b3", 3001, 3200, 1), ("b4", 3301, 3400, 1)]
  rows += [(f"b{5 + i}", *row) for i, row in enumerate(foreign)]
  operons, report = read(tmp_path, ["operon\tgenes", "x\tb1,b2", "y\tb3,b4"], rows)
  contig = Contig("ctg", np.zeros(LENGTH_BP, np.uint8))
  records = GenomeRecords(contig, genes_of(rows), list(operons.values()), [], None, report, {})
  assert [operon.id for operon in possible_operons([records])[0]] == (
    ["x", "y"] if possible else ["y"]
  )


def test_a_table_of_operons_of_which_none_can_be_is_refused(tmp_path):
  with pytest.raises(DataError, match="1 of 1 operons can not be: bad; are they operons of this"):
    store_of(tmp_path, ["operon\tgenes", "bad\tg0,g9"])


@pytest.mark.parametrize(
  ("operons", "share"),
  [(["all\tg0,g1,g2,g3,g4,g5,g6,g7,g8,g9,g10,g11,g12", "rest\tg13,g14,g15,g16,g17,g18,g19"], "9"),
   (["A\tg0,g1", "B\tg5"], "0")],
  ids=["nearly-all", "nearly-none"],
)  # fmt: skip
def test_an_unlikely_share_of_bases_in_operons_is_said(
  tmp_path, operons, share, caplog, monkeypatch
):
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  store = store_of(tmp_path, ["operon\tgenes", *operons])  # the last third trains
  assert store.quality["problems"]["unlikely share of training bases in operons"]["count"] == 1
  assert f"{share}" in caplog.text and "% of the training bases lie in operons" in caplog.text


def test_genes_in_no_listed_operon_can_be_unknown(tmp_path, caplog, monkeypatch):
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  # Single genes are listed as operons of one; g3, g4, g8 to g13 and g16 to g19 are not listed.
  lines = [*GOOD, "D\tg7"]
  known = store_of(tmp_path / "a", lines)
  assert known.manifest["format_version"] == 1 and not known.masks_unlisted
  assert "unlisted_genes" not in known.manifest["config"]
  assert known.quality["totals"]["genes in listed operons"] == 8
  assert "list 8 of 20 genes (40%)" in caplog.text
  masked = store_of(tmp_path / "b", lines, unlisted_genes="unknown")
  assert masked.manifest["format_version"] == 2 and masked.masks_unlisted
  assert not masked.masks_operons
  reason = "gene in no listed operon: unknown"
  assert masked.quality["problems"][reason]["count"] == 12
  unknown = np.zeros(8000, bool)
  # A gap is unknown between two unlisted genes of one strand: not beside a listed gene, nor between
  # g12 and g13 of different strands, nor over the origin, where g19 and g0 are.
  for start, end in ((1200, 1900), (3200, 5100), (5200, 5500), (6400, 7900)):
    unknown[start:end] = True
  np.testing.assert_array_equal(masked.operon_known, ~unknown)
  np.testing.assert_array_equal(
    masked.operon_membership[~unknown], known.operon_membership[~unknown]
  )
  # Junctions: of g3 and g4 unknown; of g2 and g3 a border; of g0 and g1 an operon.
  window = masked.window(0, 2048)
  label, is_known = window["operon_junction"][:, 0], window["operon_junction_known"][:, 0]
  assert not is_known[1550] and known.window(0, 2048)["operon_junction_known"][1550, 0]
  assert is_known[1150] and label[1150] == 0 and is_known[350] and label[350] == 1
  inside = masked.operon_membership[5333:] == 1
  assert masked.table.operon_prevalence == pytest.approx(inside.sum() / (~unknown[5333:]).sum())
