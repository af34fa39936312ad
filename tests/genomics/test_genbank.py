"""GenBank: hand-checked positions, Biopython's own writer as a source, damaged files."""

import bz2
import gzip
import logging
import lzma
import random

import numpy as np
import pytest
from Bio import SeqIO
from Bio.Seq import Seq
from Bio.SeqFeature import CompoundLocation, SeqFeature, SimpleLocation
from Bio.SeqRecord import SeqRecord

from alphaecoli.errors import DataError
from alphaecoli.genomics.genbank import read_genbank, read_sequences
from alphaecoli.genomics.genes import past_ends, place_genes
from alphaecoli.genomics.sequence import decode, reverse_complement

BASES = "".join(random.Random(1).choices("ACGT", k=1000))


def feature(kind, *parts, **notes):
  """A feature from (start, end, strand) parts in the order of reading."""
  places = [SimpleLocation(*part) for part in parts]
  where = places[0] if len(places) == 1 else CompoundLocation(places)
  return SeqFeature(where, type=kind, qualifiers=notes)


def record(name, features, topology="circular", bases=BASES):
  notes = {"molecule_type": "DNA", "topology": topology}
  return SeqRecord(
    Seq(bases), name, name.partition(".")[0], "a toy", features=features, annotations=notes
  )


@pytest.fixture
def written(tmp_path):
  def write(*records, name="toy.gbk"):
    path = tmp_path / name
    SeqIO.write(records, path, "genbank")
    if name.endswith(".gz"):
      path.write_bytes(gzip.compress(path.read_bytes()))
    return path

  return write


CHROMOSOME = [
  feature("source", (0, 1000, 1), organism="x"),
  feature("gene", (100, 200, 1), gene="thrL", locus_tag="b0001"),
  feature("CDS", (100, 200, 1), gene="thrL", locus_tag="b0001"),
  feature("gene", (950, 1000, 1), (0, 20, 1), locus_tag="b0002"),
  feature("gene", (0, 30, -1), (980, 1000, -1), locus_tag="b0003", pseudo=""),
  feature("gene", (400, 450, -1), (300, 350, -1), gene="insX"),
]


@pytest.mark.parametrize("name", ["a.gb", "b.gbff.gz"])
def test_positions_by_hand(written, name):
  path = written(record("NC_1.1", CHROMOSOME), record("p1.2", [], "linear", "ACGTN"), name=name)
  contigs, annotation = read_genbank(path)
  assert [(c.name, c.circular, c.description) for c in contigs] == [
    ("NC_1.1", True, "a toy"),
    ("p1.2", False, "a toy"),
  ]
  assert decode(contigs[0].codes) == BASES and decode(contigs[1].codes) == "ACGTN"
  assert annotation.circular == {"NC_1.1"}
  fields = ("id", "locus_tag", "name", "type", "contig", "start", "end", "strand")
  assert [tuple(getattr(g, f) for f in fields) for g in annotation.genes] == [
    ("b0001", "b0001", "thrL", "gene", "NC_1.1", 100, 200, 1),
    ("b0002", "b0002", "", "gene", "NC_1.1", 950, 1020, 1),
    ("b0003", "b0003", "", "pseudogene", "NC_1.1", 980, 1030, -1),
    ("insX", "", "insX", "gene", "NC_1.1", 300, 450, -1),
  ]
  assert annotation.genes[1].fragments == ((950, 1000), (1000, 1020))
  assert annotation.genes[3].fragments == ((300, 350), (400, 450))
  placed = place_genes(annotation, {"NC_1.1": 1000, "p1.2": 5}, {"NC_1.1": True, "p1.2": False})
  assert np.array_equal(placed["NC_1.1"][2].bases(1000), [*range(30), *range(980, 1000)])


def test_bases_of_a_gene_are_what_biopython_extracts(written):
  (contig,), annotation = read_genbank(written(record("NC_1.1", CHROMOSOME)))
  features = [f for f in CHROMOSOME if f.type == "gene"]
  for gene, source in zip(annotation.genes, features, strict=True):
    codes = np.concatenate([contig.codes.take(range(*s), mode="wrap") for s in gene.intervals])
    codes = reverse_complement(codes) if gene.strand < 0 else codes
    assert decode(codes) == str(source.extract(Seq(BASES)))


def test_products_stand_in_for_genes(written):
  products = [
    feature("CDS", (10, 40, 1), locus_tag="L1"),
    feature("tRNA", (50, 60, -1), locus_tag="L2"),
    feature("repeat_region", (70, 80, 1)),
  ]
  _, annotation = read_genbank(written(record("c", products)))
  assert [(g.id, g.type, g.start, g.end) for g in annotation.genes] == [
    ("L1", "CDS", 10, 40),
    ("L2", "tRNA", 50, 60),
  ]


def test_sequences_of_either_format(written, tmp_path):
  contigs, annotation = read_sequences(written(record("NC_1.1", CHROMOSOME)))
  assert contigs[0].circular and len(annotation.genes) == 4
  contigs, annotation = read_sequences(written(record("construct", [], "linear")))
  assert contigs[0].circular is False and annotation is None
  fasta = tmp_path / "x.fna.gz"
  fasta.write_bytes(gzip.compress(b"\n>LOCUS_1 a na\xefve header\nACGT\n"))
  (contig,), annotation = read_sequences(fasta)
  assert (contig.name, contig.circular, annotation) == ("LOCUS_1", None, None)


def test_locus_names_a_record_without_version(written):
  path = written(record("toy.1", []))
  text = path.read_text().replace("VERSION     toy.1", "VERSION     .")
  path.write_text(text.replace("ACCESSION   toy", "ACCESSION   ."))
  assert read_genbank(path)[0][0].name == "toy"


def test_locations_that_are_mended_or_skipped_are_said(written, caplog, monkeypatch):
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  path = written(record("c", CHROMOSOME))
  text = path.read_text().replace("join(951..1000,1..20)", "951..20")
  text = text.replace("gene            101..200", "gene            1o1..200")
  path.write_text(text.replace("complement(join(301..350,401..450))", "J1.1:401..450"))
  _, annotation = read_genbank(path)
  wrapped = next(g for g in annotation.genes if g.id == "b0002")
  assert (wrapped.start, wrapped.end) == (950, 1020)
  assert "incorrect origin wrapping" in caplog.text
  assert "2 genes skipped: their location can not be read" in caplog.text


@pytest.mark.parametrize(
  ("old", "new", "message"),
  [
    ("//", "", "Premature end of file in sequence data"),
    ("ORIGIN", "CONTIG      join(X:1..1000)\n//\nxORIGIN", "no sequence; download the full"),
    ("1000 bp", "1001 bp", "Expected sequence length 1001, found 1000"),
    ("bp    DNA ", "aa        ", "is a protein"),
  ],
  ids=["cut", "no-sequence", "length", "protein"],
)
def test_broken_file_is_one_line(written, old, new, message):
  path = written(record("c", CHROMOSOME))
  text = path.read_text()
  assert old in text
  path.write_text(text.replace(old, new))
  with pytest.raises(DataError, match=message) as caught:
    read_genbank(path)
  assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_every_truncation_is_noticed(written):
  path = written(record("c", CHROMOSOME, bases=BASES[:120]))
  whole = path.read_text()
  for length in range(0, len(whole.rstrip()) - 2, 7):
    path.write_text(whole[:length])
    with pytest.raises(DataError) as caught:
      read_genbank(path)
    assert "\n" not in str(caught.value)


def test_two_records_of_one_name_and_missing_files(written, tmp_path):
  with pytest.raises(DataError, match="two records are named c"):
    read_genbank(written(record("c", []), record("c", [])))
  with pytest.raises(DataError, match="can not be read: No such file"):
    read_genbank(tmp_path / "absent.gbk")
  with pytest.raises(DataError, match="no such genome file"):
    read_sequences(tmp_path / "absent.gbk")
  packed = tmp_path / "cut.gbk.gz"
  packed.write_bytes(gzip.compress(written(record("c", [])).read_bytes())[:300])
  with pytest.raises(DataError, match="truncated or corrupt"):
    read_genbank(packed)


def test_features_that_no_gene_stands_for_are_genes_of_their_type(written):
  """A plasmid as tools merge it: one gene feature, with and without a CDS, and CDS of their own."""
  features = [
    feature("gene", (1, 91, 1), gene="bla"),
    feature("CDS", (1, 91, 1), gene="bla"),
    feature("gene", (100, 190, 1), gene="rop"),
    feature("CDS", (200, 290, 1), gene="repA"),
    feature("CDS", (300, 390, -1), label="EGFP"),
    feature("tRNA", (400, 476, 1), gene="trnA"),
    feature("ncRNA", (500, 560, 1), ncRNA_class="antisense_RNA", locus_tag="R1"),
    feature("CDS", (600, 690, 1), product="hypothetical protein"),
    feature("regulatory", (700, 710, 1)),
  ]
  _, annotation = read_genbank(written(record("p", features)))
  assert [(g.id, g.name, g.type, g.start) for g in annotation.genes] == [
    ("bla", "bla", "gene", 1),
    ("rop", "rop", "gene", 100),
    ("repA", "repA", "CDS", 200),
    ("EGFP", "EGFP", "CDS", 300),
    ("trnA", "trnA", "tRNA", 400),
    ("R1", "", "ncRNA", 500),
    ("p:601-690", "", "CDS", 600),
  ]


def test_gene_features_are_what_their_products_are(written):
  """GenBank has no biotypes: the gene of 5S rRNA, 120 bases, is no protein's."""
  features = [
    feature("gene", (0, 120, -1), locus_tag="L1"),
    feature("rRNA", (0, 120, -1), locus_tag="L1"),
    feature("gene", (200, 275, 1), gene="ileV"),
    feature("tRNA", (200, 275, 1), gene="ileV"),
    feature("gene", (300, 390, 1), locus_tag="L3"),
    feature("CDS", (300, 390, 1), locus_tag="L3"),
    feature("ncRNA", (320, 350, 1), locus_tag="L3"),
    feature("CDS", (400, 490, 1), locus_tag="L4", pseudo=""),
  ]
  _, annotation = read_genbank(written(record("c", features)))
  assert [(g.id, g.type) for g in annotation.genes] == [
    ("L1", "rRNA"), ("ileV", "tRNA"), ("L3", "gene"), ("L4", "pseudogene"),
  ]  # fmt: skip


def test_one_record_with_genes_does_not_hide_those_of_another(written):
  first = record("a", [feature("gene", (1, 91, 1), gene="x"), feature("CDS", (1, 91, 1), gene="x")])
  second = record("b", [feature("CDS", (1, 91, 1), gene="x"), feature("CDS", (100, 190, 1))])
  _, annotation = read_genbank(written(first, second))
  assert [(g.contig, g.start) for g in annotation.genes] == [("a", 1), ("b", 1), ("b", 100)]


def test_features_without_a_place_are_counted_and_skipped(written, caplog, monkeypatch):
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  path = written(record("c", CHROMOSOME))
  text = path.read_text().replace("gene            101..200", "gene            100^101")
  text = text.replace("CDS             101..200", "CDS             100^101")
  path.write_text(text.replace("join(301..350,401..450)", "join(?..350,401..450)"))
  _, annotation = read_genbank(path)
  assert [gene.id for gene in annotation.genes] == ["b0002", "b0003"]
  assert "1 genes skipped: they lie between two bases" in caplog.text
  assert "1 genes skipped: their location can not be read" in caplog.text


def test_gene_past_the_end_of_a_linear_record_is_said(written, caplog, monkeypatch):
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  _, annotation = read_genbank(written(record("c", CHROMOSOME[:4], "linear")))
  assert past_ends(annotation, {"c": 1000}) == ["c"]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, bz2.compress])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
def test_byte_order_mark_line_ends_and_compression(written, pack, end):
  path = written(record("NC_1.1", CHROMOSOME))
  path.write_bytes(pack(("\ufeff" + path.read_text().replace("\n", end)).encode()))
  contigs, annotation = read_sequences(path)
  assert decode(contigs[0].codes) == BASES and len(annotation.genes) == 4


def test_rna_and_ambiguity_letters(written, caplog, monkeypatch):
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  caplog.set_level("INFO")
  (contig,), _ = read_genbank(written(record("r", [], bases="ACGUURYN")))
  assert decode(contig.codes) == "ACGTTNNN" and decode(contig.vcf_codes) == "ACGTTACN"
  assert "U is read as T (RNA letters): r" in caplog.text
