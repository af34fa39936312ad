"""The genes of one contig, and the names by which tables call them."""

import logging
from pathlib import Path

import pytest

from alphaecoli.errors import DataError
from alphaecoli.genomics.genes import Annotation, Gene
from alphaecoli.genomics.quality import QualityReport
from alphaecoli.genomics.sequence import random_genome
from alphaecoli.organism.genes import NO_MATCH, GeneNames, take_genes


def gene(number, **fields):
  start = 100 * number
  given = {"id": f"gene-b{number}", "name": "", "locus_tag": f"b{number}", "contig": "random"}
  return Gene(start=start, end=start + 90, strand=1, type="gene", **{**given, **fields})


def test_names_are_found_in_other_spellings_where_one_gene_alone_fits(caplog, monkeypatch):
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  caplog.set_level("INFO")
  genes = [
    gene(1, name="lacZ"),
    gene(2, id="gene:b2", name="insA"),
    gene(3, name="insa"),
    gene(4, name="insB", old_locus_tags=("ECK0004",)),
    gene(5, name="insB", locus_tag="B4x"),
    gene(6, locus_tag="b4X", id="y"),
  ]
  names = GeneNames(genes, {"b9"})
  for name, expected in {
    "b1": (0, "locus tag"),
    "lacZ": (0, "name"),
    "insA": (1, "name"),
    "insa": (2, "name"),
    "insB": "name of several genes",
    "b9": "gene that is left out",
    "x": NO_MATCH,
  }.items():
    assert names.find(name) == expected
  assert not caplog.text
  for name, expected in {
    "B1": (0, "locus tag"),
    "gene-b2": (1, "locus tag"),
    "gene:b1": (0, "locus tag"),
    "LacZ": (0, "name"),
    "eck0004": (3, "old locus tag"),
    "INSA": NO_MATCH,  # insA or insa
    "INSB": "name of several genes",
    "b4x": NO_MATCH,  # B4x or b4X
  }.items():
    assert names.find(name) == expected
  (record,) = caplog.records
  assert "B1 is b1" in record.getMessage()


def test_genes_of_contigs_that_the_genome_lacks_are_one_reason_with_their_names():
  contig = random_genome(2000, 1)
  report = QualityReport()
  genes = [*(gene(n) for n in range(1, 8)), gene(8, contig="x"), gene(9, contig="y")]

  def take(genes):
    annotation = Annotation(tuple(genes), frozenset(), Path("g.gff3"))
    return take_genes(
      annotation, [contig], ["p"], circular={contig.name: False}, exclude_types=(), report=report
    )[0]

  assert len(take(genes)) == 7
  assert report["gene on a contig that is not in the genome"] == 2
  assert report.to_json()["problems"]["gene on a contig that is not in the genome"]["examples"] == [
    "x",
    "y",
  ]
  with pytest.raises(DataError, match=r"1 of 2 genes fit random .*names random, x: is it"):
    take([gene(1), gene(8, contig="x")])
