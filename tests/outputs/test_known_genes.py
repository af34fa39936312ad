"""How odd genes and contigs are beside training, ranks, and levels in words of known genes."""

import csv
import logging

import numpy as np
import pytest

from alphaecoli.genomics.sequence import encode, random_genome, read_fasta, reverse_complement
from alphaecoli.outputs.known_genes import (
  _FOLDER,
  CANDIDATES,
  KnownGeneColumns,
  Reference,
  choose_ladder,
  tetranucleotides,
)
from alphaecoli.tracks.process import process_data
from tests.stores import config_of

LEVELS = {"lacI": 1.0, "rpoD": 2.0, "ompA": 3.0}
EMBEDDED = {"config": {"data": {"dump": "builtin", "genome": "builtin", "stores": ()}}}


def reference(genes=500, seed=0):
  """A random genome whose genes use the first 32 codons."""
  rng = np.random.default_rng(seed)
  counts = np.zeros((genes, 64))
  for row in counts:
    row[:32] = rng.multinomial(rng.integers(50, 500), np.full(32, 1 / 32))
  return Reference(random_genome(100_000, seed).codes, counts, LEVELS), counts


def test_table_of_genes_is_that_of_the_embedded_data(tmp_path):
  genes = process_data(config_of(), tmp_path).genes
  whole = np.array([len(spans) == 1 for spans in genes.fragments])
  coding = (genes.type == "mRNA") & whole & (genes.strand != 0)
  coding &= (genes.end - genes.start) % 3 == 0
  with (_FOLDER / "genes.tsv").open(newline="") as file:
    found = {row["name"]: row for row in csv.DictReader(file, dialect="excel-tab")}
  assert len(found) == coding.sum() > 4000
  for i in np.flatnonzero(coding):
    row, level = found[genes.name[i]], genes.log_tpm[i, 0]
    place = (int(row["start"]), int(row["end"]), int(row["strand"]))
    assert place == (genes.start[i], genes.end[i], genes.strand[i])
    assert (row["log_tpm"] == "") == np.isnan(level)
    assert np.isnan(level) or float(row["log_tpm"]) == pytest.approx(level, rel=1e-3)
  assert not set(CANDIDATES) - found.keys()


def test_shares_of_the_training_genes_themselves_are_uniform():
  known, counts = reference()
  shares = known.genes_as_odd(counts)
  for part in (0.1, 0.5, 0.9):
    assert (shares <= part).mean() == pytest.approx(part, abs=0.05)


def test_gene_of_codons_that_training_never_uses_is_odder_than_all():
  known, counts = reference()
  foreign = counts[:20, ::-1]
  assert (known.genes_as_odd(foreign) == 0).all()
  assert np.isnan(known.genes_as_odd(np.zeros((1, 64)))).all()
  assert known.genes_as_odd(np.zeros((0, 64))).shape == (0,)


def test_tetranucleotides_by_hand():
  found = tetranucleotides(encode("ACGTA"), 5, 1)  # ACGT, its own complement; CGTA, with TACG
  number = {w: int("".join(str("ACGT".index(c)) for c in w), 4) for w in
            ("ACGT", "CGTA", "TACG")}  # fmt: skip
  expected = np.zeros(256)
  expected[list(number.values())] = 0.5, 0.25, 0.25
  np.testing.assert_allclose(found[0], expected)


def test_contig_is_as_odd_as_its_words_on_either_strand():
  known, _ = reference()
  like, other = random_genome(30_000, 5).codes, encode("GGGCCC" * 1000)
  assert 0.1 < known.contig_as_odd(like) < 0.9
  assert known.contig_as_odd(reverse_complement(like)) == known.contig_as_odd(like)
  assert known.contig_as_odd(other) == 0
  assert known.contig_as_odd(other[:255]) is None
  assert known.contig_as_odd(np.full(5000, 4, np.uint8)) is None


def test_embedded_genome_is_like_itself():
  codes = read_fasta(next(_FOLDER.glob("*.fna.gz")))[0].codes
  known = Reference.embedded()
  assert known.contig_as_odd(codes) == pytest.approx(0.5, abs=0.1)
  assert known.ladder["lacZ"] < known.ladder["rpoD"] < known.ladder["tufA"]
  assert 15 <= len(known.ladder) <= 20
  assert list(known.ladder.values()) == sorted(known.ladder.values())


def test_ladder_takes_of_each_step_the_gene_nearest_its_middle():
  # Steps of 1 from 0 to 20: rpoD is nearer 5.5 than crp, fis alone in its step.
  levels = {"lacI": 0.0, "ompA": 20.0, "crp": 5.1, "rpoD": 5.4, "fis": 9.9, "abcD": 7.5}
  assert list(choose_ladder(levels)) == ["lacI", "rpoD", "fis", "ompA"]
  assert choose_ladder({}) == {}


@pytest.mark.parametrize(
  ("low", "high", "words"),
  [
    (1.5, 1.5, "lacI and rpoD"),
    (1.5, 2.5, "lacI and ompA"),
    (2.0, 2.0, "rpoD"),
    (0.5, 0.5, "below lacI"),
    (3.5, 3.5, "above ompA"),
    (0.5, 3.5, ""),
  ],
)
def test_levels_in_words(low, high, words):
  assert reference()[0].between(low, high) == words


def rows_of(levels, **more):
  return [{"log_tpm:mean": level} | more for level in levels]


@pytest.fixture
def columns(monkeypatch):
  known, counts = reference()
  monkeypatch.setattr(Reference, "embedded", lambda: known)
  return KnownGeneColumns([EMBEDDED]), known, counts


def test_columns_of_a_genome_and_its_warning(columns, caplog):
  found, known, counts = columns
  rows = rows_of([1.5, 2.5, np.nan], **{"log_tpm_spread:mean": 0.75})
  foreign = np.concatenate([counts[:1], counts[:2, ::-1]])
  codes = random_genome(20_000, 3).codes
  with caplog.at_level(logging.INFO):
    found.add("c", codes, foreign, rows)
    found.finish("x.fna", rows)
  assert [row["expression_rank"] for row in rows] == [2, 1, None]
  assert [row["between"] for row in rows] == ["lacI and rpoD", "rpoD and ompA", ""]
  assert [row["between_spread"] for row in rows] == ["below ompA", "above lacI", ""]
  assert [row["as_odd_in_training"] for row in rows[1:]] == [0, 0]
  assert rows[0]["as_odd_in_training"] == known.genes_as_odd(counts[:1])[0]
  assert found.contigs["c"] == {
    "as_odd_in_training": known.contig_as_odd(codes), "genes_as_odd_in_training": 0
  }  # fmt: skip
  (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
  assert warning.startswith("x.fna is unlike E. coli K-12, the training genome: 67% of its genes")
  (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.INFO]
  assert line.startswith("x.fna: of E. coli K-12, the training genome, 0% of the genes (codon use)")


def test_without_genes_contigs_decide(columns, caplog):
  found = columns[0]
  found.add("c", encode("GGGCCC" * 1000), np.zeros((0, 64)), [])
  found.finish("x.fna", [])
  assert "100% of its bases" in caplog.text
  assert found.contigs["c"]["genes_as_odd_in_training"] is None


def test_annotated_levels_come_first_and_genome_like_training_has_no_warning(columns, caplog):
  found, _, counts = columns
  rows = [row | {"log_tpm_annotated:mean": 4 - row["log_tpm:mean"]} for row in rows_of([1.5, 2.5])]
  found.add("c", random_genome(20_000, 3).codes, counts[:2], rows)
  found.finish("x.fna", rows)
  assert [row["expression_rank"] for row in rows] == [1, 2]
  assert [row["between"] for row in rows] == ["rpoD and ompA", "lacI and rpoD"]
  assert "between_spread" not in rows[0] and not caplog.records


@pytest.mark.parametrize("data", [{}, {"dump": "builtin", "genome": "builtin", "stores": ["x"]}])
def test_models_of_other_genomes_have_ranks_alone(data):
  found, rows = KnownGeneColumns([EMBEDDED, {"config": {"data": data}}]), rows_of([1.0])
  found.add("c", np.zeros(300, np.uint8), np.zeros((1, 64)), rows)
  found.finish("x", rows)
  assert rows == [{"log_tpm:mean": 1.0, "expression_rank": 1}] and not found.contigs
