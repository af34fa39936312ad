"""Annotated GenBank, read back by Biopython and by our own reader."""

import dataclasses
import re

import numpy as np
import pytest
from Bio import SeqIO

from alphaecoli.genomics.genbank import read_genbank
from alphaecoli.genomics.genes import Gene
from alphaecoli.genomics.sequence import decode, encode, reverse_complement
from alphaecoli.outputs.genbank import AnnotatedContig, write_genbank

LONG = "NODE_1_length_4641652_cov_31.7"
OPEN = "GTGAAACTGTGA"  # M K L, whatever the start codon
BACK = decode(reverse_complement(encode("ATGTGGCGATAG")))  # M W R, on the other strand


def gene(name, start, end, strand, kind="gene"):
  return Gene(f"id_{name}", name, f"t_{name}", start, end, strand, kind)


def row(level, operon=""):
  return {"log_tpm:mean": level, "operon": operon}


@pytest.fixture
def path(tmp_path):
  text = OPEN[6:] + "CC" + OPEN + "AA" + BACK + "TTTAGAAAA" + OPEN[:6]
  length = len(text)
  genes = [
    gene("a", 8, 20, 1),
    gene("b", 22, 34, -1),
    gene("stop", 35, 41, 1),
    gene("rna", 34, 40, 1, "ncRNA_gene"),
    gene("round", length - 6, length + 6, 1),
  ]
  rows = [row(1.0, "operon1"), row(2.0, "operon1"), row(3.0), row(4.0), row(5.0)]
  operons = [(8, 34, 1, "operon1", 0.75), (length - 6, length + 20, 1, "operon2", 0.5)]
  first = AnnotatedContig(LONG, encode(text), True, genes, rows, operons, {0: (1, 0.9)})
  second = AnnotatedContig("p", encode("ACGTN" * 20), False, [], [], [], {})
  write_genbank(tmp_path / "genome.gbk", [first, second])
  return tmp_path / "genome.gbk"


def read(path):
  with path.open() as file:
    return list(SeqIO.parse(file, "genbank"))


def features(path, kind):
  record = read(path)[0]
  return record, [feature for feature in record.features if feature.type == kind]


def test_names_sequences_and_topology_come_back(path):
  first, second = read(path)
  assert (first.id, second.id) == (LONG, "p")
  assert len(first.name) <= 16
  assert [r.annotations["topology"] for r in (first, second)] == ["circular", "linear"]
  assert str(second.seq) == "ACGTN" * 20
  assert all(len(line) <= 80 for line in path.read_text().splitlines())


@pytest.mark.parametrize("name", ["NODE_11_length_9_cov_27.071", "c.0", "c.00", "U00096.3", "a.b."])
def test_names_that_look_like_versions_stay_whole(tmp_path, name):
  write_genbank(tmp_path / "g.gbk", [AnnotatedContig(name, encode("ACG"), False, [], [], [], {})])
  (contig,), _ = read_genbank(tmp_path / "g.gbk")
  assert contig.name == name == read(tmp_path / "g.gbk")[0].id


def test_proteins_are_translated_by_table_11_also_backwards_and_over_the_origin(path):
  record, found = features(path, "CDS")
  proteins = {f.qualifiers["locus_tag"][0]: f.qualifiers["translation"][0] for f in found}
  assert proteins == {"t_a": "MKL", "t_b": "MWR", "t_round": "MKL"}
  for feature in found:
    assert feature.qualifiers["transl_table"] == ["11"]
    protein = str(feature.translate(record.seq, cds=True, table=11))
    assert protein == feature.qualifiers["translation"][0]
  (over,) = [f for f in found if f.qualifiers["gene"] == ["round"]]
  assert len(over.location.parts) == 2 and str(over.extract(record.seq)) == OPEN


def test_genes_carry_levels_pairs_and_colours(path):
  _, found = features(path, "gene")
  notes = {f.qualifiers["gene"][0]: f.qualifiers for f in found}
  assert notes["a"]["note"][:3] == [
    "expression: lowest fifth of the genes",
    "log_tpm:mean=1",
    "shares an operon with b: probability 0.9",
  ]
  assert notes["round"]["note"][0] == "expression: highest fifth of the genes"
  for look in notes.values():
    (code,) = look["ApEinfo_fwdcolor"]
    assert look["ApEinfo_revcolor"] == look["color"] == [code]
    assert look["colour"] == [" ".join(str(int(code[n : n + 2], 16)) for n in (1, 3, 5))]
    assert f"color: {code}" in look["note"]
  assert notes["a"]["operon"] == ["operon1"] and "operon" not in notes["rna"]
  _, (rna,) = features(path, "ncRNA")
  assert rna.qualifiers["ncRNA_class"] == ["other"]


@pytest.mark.parametrize(
  ("types", "feature", "ncrna_class"),
  [
    ({"biotype": "tRNA"}, "tRNA", None),
    ({"type": "rRNA"}, "rRNA", None),
    ({"type": "tmRNA"}, "tmRNA", None),
    ({"type": "rRNA_gene"}, "rRNA", None),
    ({"biotype": "misc_RNA"}, "misc_RNA", None),
    ({"biotype": "antisense_RNA"}, "ncRNA", "antisense_RNA"),
    ({"biotype": "RNase_P_RNA"}, "ncRNA", "RNase_P_RNA"),
    ({"type": "sRNA"}, "ncRNA", "other"),
    ({"type": "ncRNA_gene"}, "ncRNA", "other"),
    ({"type": "mRNA"}, "CDS", None),  # RegulonDB's word for coding genes
    ({"type": "CDS"}, "CDS", None),
    ({}, "CDS", None),
    ({"type": "pseudogene"}, None, None),
  ],
  ids=lambda value: str(value) if isinstance(value, str | None) else "".join(value.values()),
)
def test_genes_keep_the_kind_that_the_annotation_gives_them(tmp_path, types, feature, ncrna_class):
  one = dataclasses.replace(gene("x", 2, 14, 1), **types)
  contig = AnnotatedContig("c", encode("CC" + OPEN + "CC"), False, [one], [row(1.0)], [], {})
  write_genbank(tmp_path / "g.gbk", [contig])
  found = [f for f in read(tmp_path / "g.gbk")[0].features if f.type not in ("source", "gene")]
  assert [f.type for f in found] == ([feature] if feature else [])
  for one in found:
    assert one.qualifiers.get("ncRNA_class", [None]) == [ncrna_class]
    assert ("translation" in one.qualifiers) == (feature == "CDS")


@pytest.mark.parametrize(
  "bases", ["GCGAAACTGTGA", "GTGTGACTGTGA", "GTGAAACTGCTG", "NTGAAACTGTGA"],
  ids=["no-start", "stop-inside", "no-stop", "unknown-start"],
)  # fmt: skip
def test_what_does_not_read_through_is_no_cds(tmp_path, bases):
  contig = AnnotatedContig("c", encode(bases), False, [gene("x", 0, 12, 1)], [row(1.0)], [], {})
  write_genbank(tmp_path / "g.gbk", [contig])
  assert [f.type for f in read(tmp_path / "g.gbk")[0].features] == ["source", "gene"]


def test_locus_lines_are_those_of_the_format_and_locus_tags_are_unique(path):
  """Columns of LOCUS: GenBank release notes 3.4.4."""
  text = path.read_text()
  for line in (line for line in text.splitlines() if line.startswith("LOCUS")):
    assert len(line) <= 80 and len(line[12:28].strip()) <= 16 and " " not in line[12:28].strip()
    assert line[28:40].strip().isdecimal() and line[40:43] == " bp" and "DNA" in line[44:54]
    assert line[55:63].strip() in ("circular", "linear") and line[64:67] == "BCT"
    assert re.fullmatch(r"\d{2}-[A-Z]{3}-\d{4}", line[68:79])
  _, found = features(path, "gene")
  tags = [f.qualifiers["locus_tag"][0] for f in found]
  assert len(tags) == len(set(tags)) == 5


def test_operons_are_features(path):
  _, found = features(path, "operon")
  assert sorted(f.qualifiers["operon"][0] for f in found) == ["operon1", "operon2"]
  by_name = {f.qualifiers["operon"][0]: f.location for f in found}
  assert (by_name["operon1"].start, by_name["operon1"].end) == (8, 34)
  assert sum(len(part) for part in by_name["operon2"].parts) == 26


def test_our_own_reader_finds_the_genes_again(path):
  contigs, annotation = read_genbank(path)
  assert [contig.name for contig in contigs] == [LONG, "p"]
  assert [contig.circular for contig in contigs] == [True, False]
  places = {g.name: (g.start, g.end, g.strand) for g in annotation.genes}
  length = contigs[0].length_bp
  assert places["a"] == (8, 20, 1) and places["b"] == (22, 34, -1)
  assert places["round"] == (length - 6, length + 6, 1)
  assert np.array_equal(contigs[1].codes, encode("ACGTN" * 20))
