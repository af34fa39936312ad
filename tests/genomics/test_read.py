"""Annotations that call the contigs otherwise than the genome does."""

import logging

import numpy as np
import pandas as pd
import pytest

from alphaecoli.errors import DataError
from alphaecoli.genomics.genes import place_genes
from alphaecoli.genomics.read import read_annotated, read_variants
from alphaecoli.genomics.sequence import Contig
from alphaecoli.genomics.vcf import Variant, as_variants


@pytest.fixture
def log(caplog, monkeypatch):
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  caplog.set_level("INFO")
  return caplog


@pytest.fixture
def read(tmp_path):
  """Reads a genome of contigs of given lengths with genes on contigs of given lengths.

  Each contig of the annotation has `genes` genes; one whose length is 0 declares none.
  """

  def go(genome, annotation, genes=1):
    fasta, gff = tmp_path / "g.fna", tmp_path / "g.gff3"
    fasta.write_text(
      "".join(f">{name}\n{'ACGT' * n}"[: len(name) + 2 + n] + "\n" for name, n in genome.items())
    )
    text = "".join(f"##sequence-region {name} 1 {n}\n" for name, n in annotation.items() if n)
    for name in annotation:
      text += "".join(
        f"{name}\t.\tgene\t{i + 1}\t{i + 9}\t.\t+\t.\tID={name}{i}\n" for i in range(genes)
      )
      text += f"{name}\t.\tsource_tag\t1\t9\t.\t+\t.\tIs_circular=true\n"
    gff.write_text(text)
    contigs, found = read_annotated(fasta, gff)
    assert {c.name: c.length_bp for c in contigs} == genome
    assert found.circular == {gene.contig for gene in found.genes}
    return {gene.id: gene.contig for gene in found.genes}

  return go


@pytest.mark.parametrize(
  ("ours", "theirs"),
  [
    ("NC_000913.3", "NC_000913"),
    ("NC_000913", "NC_000913.3"),
    ("NC_000913.3", "nc_000913.3"),
    ("gi|556503834|ref|NC_000913.3|", "NC_000913.3"),
    ("ctg1", "gnl|Prokka|ctg1"),
    ("Chromosome", "chromosome"),
  ],
)
def test_names_that_differ_in_spelling_alone_are_the_same(read, log, ours, theirs):
  assert read({ours: 100, "p": 50}, {theirs: 0}) == {f"{theirs}0": ours}
  assert f"{theirs} is read as {ours} of the genome: they differ in spelling alone" in log.text
  assert len(log.records) == 1


def test_another_version_is_another_sequence_unless_lengths_agree(read, log):
  assert read({"NC_1.3": 100}, {"NC_1.2": 0}) == {"NC_1.20": "NC_1.2"}
  assert read({"NC_1.3": 100}, {"NC_1.2": 99}) == {"NC_1.20": "NC_1.2"}
  assert read({"NC_1.3": 100}, {"NC_1": 99}) == {"NC_10": "NC_1"}
  assert not log.text
  assert read({"NC_1.3": 100}, {"NC_1.2": 100}) == {"NC_1.20": "NC_1.3"}


def test_names_that_two_contigs_could_have_are_not_guessed(read, log):
  assert read({"c.1": 100, "c.2": 90}, {"c": 0}) == {"c0": "c"}
  assert read({"a": 100}, {"A.1": 0, "A.2": 0}) == {"A.10": "A.1", "A.20": "A.2"}
  assert not log.text


def test_contigs_of_refseq_and_insdc_are_matched_by_length(read, log):
  found = read({"NC_000964.3": 4216, "NC_9.1": 300}, {"AL009126.3": 4216, "CP9.1": 300})
  assert found == {"AL009126.30": "NC_000964.3", "CP9.10": "NC_9.1"}
  (record,) = log.records
  assert record.levelname == "WARNING"
  assert "AL009126.3, CP9.1 is read as NC_000964.3, NC_9.1 of the genome" in record.getMessage()
  assert "the same length, which no other contig has" in record.getMessage()


@pytest.mark.parametrize(
  ("genome", "annotation"),
  [
    ({"x": 100, "y": 100}, {"a": 100}),
    ({"x": 100}, {"a": 100, "b": 100}),
    ({"x": 100, "a": 100}, {"a": 100, "b": 100}),
    ({"x": 100}, {"a": 0}),
    ({"x": 100}, {"a": 101}),
    ({"x": 100, "y": 70}, {"a": 100, "b": 60, "c": 50}),
  ],
  ids=["two-ours", "two-theirs", "taken", "undeclared", "longer", "a-third-of-the-genes"],
)
def test_lengths_that_do_not_agree_one_to_one_match_nothing(read, log, genome, annotation):
  assert set(read(genome, annotation).values()) == set(annotation)
  assert "is read as" not in log.text


def test_another_length_of_the_same_name_is_said(read, log):
  read({"c": 100}, {"c": 120})
  assert "declares 120 bp for c, which has 100" in log.text


def test_what_matches_nothing_is_refused_with_both_sides(tmp_path):
  (tmp_path / "g.fna").write_text(">NC_1.3\n" + "ACGT" * 25 + "\n")
  (tmp_path / "g.gff3").write_text("NC_1.2\t.\tgene\t1\t9\t.\t+\t.\tID=a\n")
  contigs, annotation = read_annotated(tmp_path / "g.fna", tmp_path / "g.gff3")
  lengths = {contig.name: contig.length_bp for contig in contigs}
  with pytest.raises(DataError, match=r"the annotation names NC_1.2, the FASTA NC_1.3"):
    place_genes(annotation, lengths, {"NC_1.3": True})


def test_genbank_is_an_annotation_of_a_fasta(tmp_path, log):
  (tmp_path / "g.fna").write_text(">NC_1.3\n" + "acgt" * 5 + "\n")
  (tmp_path / "g.gb").write_text(
    "LOCUS       U1                        20 bp    DNA     circular BCT 01-JAN-2020\n"
    "ACCESSION   U1\nVERSION     U1.1\nFEATURES             Location/Qualifiers\n"
    '     CDS             2..10\n                     /gene="bla"\n'
    "ORIGIN\n        1 acgtacgtac gtacgtacgt\n//\n"
  )
  _, annotation = read_annotated(tmp_path / "g.fna", tmp_path / "g.gb")
  assert [(g.contig, g.name, g.start, g.end) for g in annotation.genes] == [
    ("NC_1.3", "bla", 1, 10)
  ]
  assert annotation.circular == {"NC_1.3"}


@pytest.mark.parametrize(
  ("names", "header", "expected"),
  [
    (["NC_1"], {}, ["NC_1.1"]),
    (["nc_1.1", "gi|7|ref|NC_2.1|"], {}, ["NC_1.1", "NC_2.1"]),
    (["chrNC_1.1", "chr2"], {}, ["NC_1.1", "2"]),
    (["AL_9.3"], {"AL_9.3": 400}, ["NC_1.1"]),  # INSDC's, by the length that the header says
    (["NC_1.2"], {"NC_1.2": 400}, ["NC_1.1"]),
    (["NC_1.2"], {}, ["NC_1.2"]),  # another version may be another sequence
    (["AL_9.3"], {"AL_9.3": 401}, ["AL_9.3"]),
    (["AL_9.3"], {}, ["AL_9.3"]),
    (["chr"], {}, ["chr"]),
  ],
  ids=str,
)
def test_contigs_of_variants_are_named_as_those_of_annotations(tmp_path, names, header, expected):
  path = tmp_path / "v.vcf"
  lines = [f"##contig=<ID={n},length={bp},assembly=x>" for n, bp in header.items()]
  lines += ["#CHROM\tPOS\tID\tREF\tALT", *(f"{name}\t7\t.\tA\tC" for name in names)]
  path.write_text("\n".join(["##fileformat=VCFv4.2", *lines]) + "\n")
  sizes = {"NC_1.1": 400, "NC_2.1": 300, "2": 200}
  contigs = [Contig(name, np.zeros(n, np.uint8)) for name, n in sizes.items()]
  assert [v.contig for v in read_variants(path, contigs)] == expected


@pytest.mark.parametrize("name", [None, float("nan"), ".", pd.NA])
def test_a_row_of_a_data_frame_without_a_name_has_none(name):
  frame = pd.DataFrame({"chrom": ["c"], "pos": [5], "ref": ["A"], "alt": ["C"], "id": [name]})
  assert as_variants(frame) == [Variant("c", 5, "A", "C", "")]
