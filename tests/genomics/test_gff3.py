import gzip
import logging

import numpy as np
import pytest

from alphaecoli.errors import DataError
from alphaecoli.genomics.genes import past_ends, place_genes
from alphaecoli.genomics.gff3 import read_gff3

NCBI = """##gff-version 3
##sequence-region NC_1.1 1 1000
NC_1.1\tRefSeq\tregion\t1\t1000\t.\t+\t.\tID=r1;Dbxref=taxon:511145;Is_circular=true
NC_1.1\tRefSeq\tgene\t101\t200\t.\t+\t.\tID=gene-b0001;Name=x;gene=thr%2CL;locus_tag=b0001
NC_1.1\tRefSeq\tCDS\t101\t200\t.\t+\t0\tID=cds-1;Parent=gene-b0001;locus_tag=b0001
NC_1.1\tRefSeq\tpseudogene\t301\t400\t.\t-\t.\tID=gene-b0002;gene=insX;locus_tag=b0002
NC_1.1\tRefSeq\tgene\t951\t1020\t.\t?\t.\tID=gene-b0003;locus_tag=b0003

# a comment
##FASTA
>NC_1.1
ACGT
"""


def written(tmp_path, text, name="genes.gff3"):
  path = tmp_path / name
  path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
  return path


@pytest.mark.parametrize("name", ["a.gff3", "a.gff.gz"])
def test_ncbi_annotation_by_hand(tmp_path, name):
  annotation = read_gff3(written(tmp_path, NCBI, name))
  assert annotation.circular == {"NC_1.1"}
  assert [(g.id, g.locus_tag, g.name, g.start, g.end, g.strand) for g in annotation.genes] == [
    ("gene-b0001", "b0001", "thr,L", 100, 200, 1),
    ("gene-b0002", "b0002", "insX", 300, 400, -1),
    ("gene-b0003", "b0003", "", 950, 1020, 0),
  ]
  assert [g.line for g in annotation.genes] == [4, 6, 7]


def test_gene_across_the_origin_fits_a_ring_and_is_counted_on_a_line(tmp_path, caplog, monkeypatch):
  annotation = read_gff3(written(tmp_path, NCBI))
  ring = place_genes(annotation, {"NC_1.1": 1000}, {"NC_1.1": True})["NC_1.1"]
  expected = [*range(20), *range(950, 1000)]
  assert np.array_equal(ring[2].bases(1000), expected)
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  line = place_genes(annotation, {"NC_1.1": 1000}, {"NC_1.1": False})["NC_1.1"]
  assert len(line) == 2
  assert "1 genes skipped: past the end of NC_1.1, which is linear" in caplog.text


def test_gene_in_two_parts_across_the_origin_is_joined(tmp_path):
  text = "c\t.\tgene\t981\t1000\t.\t-\t.\tID=g\nc\t.\tgene\t1\t30\t.\t-\t.\tID=g\n"
  annotation = read_gff3(written(tmp_path, text))
  (ring,) = place_genes(annotation, {"c": 1000}, {"c": True})["c"]
  assert (ring.start, ring.end) == (980, 1030)
  assert np.array_equal(ring.bases(1000), [*range(30), *range(980, 1000)])
  (line,) = place_genes(annotation, {"c": 1000}, {"c": False})["c"]
  assert np.array_equal(line.bases(1000), [*range(30), *range(980, 1000)])


def test_products_stand_in_for_genes_and_lines_of_one_id_are_one(tmp_path):
  text = (
    "c\tProdigal\tCDS\t11\t20\t.\t+\t0\tID=x;locus_tag=L1\n"
    "c\tProdigal\tCDS\t20\t40\t.\t+\t0\tID=x;locus_tag=L1\n"
    "c\tAragorn\ttRNA\t51\t60\t.\t-\t.\tlocus_tag=L2\n"
    "c\tx\trepeat_region\t71\t80\t.\t-\t.\tID=r\n"
  )
  first, second = read_gff3(written(tmp_path, text)).genes
  assert (first.start, first.end, first.fragments) == (10, 40, ((10, 20), (19, 40)))
  assert (second.id, second.type) == ("L2", "tRNA")
  (placed, _) = place_genes(read_gff3(written(tmp_path, text)), {"c": 90}, {"c": False})["c"]
  assert np.array_equal(placed.bases(90), range(10, 40))


GENE = "c\t.\tgene\t1\t30\t.\t-\t.\tID=g\n"


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("##gff-version 3\n", "no gene, CDS or RNA feature"),
    (GENE + "c\t.\tgene\t1\t30\n", "line 2: 5 columns"),
    (GENE.replace("\t1\t", "\t0\t"), "line 1: positions 0 to 30"),
    (GENE.replace("\t30\t", "\tx\t"), "line 1: positions 1 to x"),
    (GENE.replace("\t-\t", "\tforward\t"), "strand 'forward'"),
    (">c\nACGT\n", "no gene"),
  ],
  ids=["none", "columns", "zero", "word", "strand", "fasta"],
)
def test_broken_annotation_is_one_line_with_its_number(tmp_path, text, message):
  path = written(tmp_path, text)
  with pytest.raises(DataError, match=message) as caught:
    read_gff3(path)
  assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_unreadable_annotation_is_one_line(tmp_path):
  with pytest.raises(DataError, match="No such file"):
    read_gff3(tmp_path / "absent.gff3")
  packed = tmp_path / "cut.gff3.gz"
  packed.write_bytes(gzip.compress(NCBI.encode())[:60])
  with pytest.raises(DataError, match="truncated or corrupt"):
    read_gff3(packed)
  binary = tmp_path / "b.gff3"
  binary.write_bytes(b"\xff\xfe\x00")
  with pytest.raises(DataError, match="not a text file"):
    read_gff3(binary)


def test_annotation_of_another_genome_is_refused_with_both_names(tmp_path):
  annotation = read_gff3(written(tmp_path, NCBI))
  with pytest.raises(DataError, match=r"names NC_1.1, the FASTA chr1"):
    place_genes(annotation, {"chr1": 5000}, {"chr1": False})


def listed(tmp_path, text, name="genes.gff3"):
  """Writes and reads an annotation; lists locus tag, name, type, 1-based start, end and strand."""
  genes = read_gff3(written(tmp_path, text, name)).genes
  return [(g.locus_tag, g.name, g.type, g.start + 1, g.end, g.strand) for g in genes]


def line(kind, start, end, notes, strand="+", contig="c"):
  return f"{contig}\t.\t{kind}\t{start}\t{end}\t.\t{strand}\t.\t{notes}\n"


@pytest.fixture
def log(caplog, monkeypatch):
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  caplog.set_level("INFO")
  return caplog


def test_features_without_id_that_share_a_name_are_several_genes(tmp_path, log):
  text = (
    line("gene", 1, 30, "Name=hypothetical protein", "-")
    + line("gene", 41, 70, "Name=insA")
    + line("gene", 81, 95, "Name=hypothetical protein")
    + line("gene", 101, 130, "Name=insA")
  )
  assert listed(tmp_path, text) == [
    ("", "", "gene", 1, 30, -1),
    ("", "insA", "gene", 41, 70, 1),
    ("", "", "gene", 81, 95, 1),
    ("", "insA", "gene", 101, 130, 1),
  ]
  ids = [gene.id for gene in read_gff3(tmp_path / "genes.gff3").genes]
  assert ids == ["c:1-30", "insA", "c:81-95", "insA"]
  assert "2 of 4 genes have neither ID, locus tag nor symbol" in log.text


@pytest.mark.parametrize(
  ("notes", "strand", "contig"),
  [
    ("ID=x;locus_tag=B", "+", "c"),
    ("ID=x;locus_tag=A", "-", "c"),
    ("ID=x;locus_tag=A", "+", "d"),
  ],
  ids=["locus-tag", "strand", "contig"],
)
def test_one_id_with_another_locus_tag_strand_or_contig_is_another_gene(
  tmp_path, notes, strand, contig
):
  text = line("CDS", 1, 30, "ID=x;locus_tag=A") + line("CDS", 41, 70, notes, strand, contig)
  assert [gene[3:5] for gene in listed(tmp_path, text)] == [(1, 30), (41, 70)]


def test_one_id_for_everything_is_told_apart_by_product(tmp_path, log):
  text = line("CDS", 1, 30, "ID=CDS;product=a") + line("CDS", 41, 70, "ID=CDS;product=b")
  text += line("CDS", 71, 80, "ID=CDS;product=b")
  assert [gene[3:5] for gene in listed(tmp_path, text)] == [(1, 30), (41, 80)]
  assert "1 IDs are kept apart" in log.text


@pytest.mark.parametrize(
  "notes",
  ["ID=x;locus_tag=A;product=p", "ID=x", "locus_tag=A"],
  ids=["labelled", "bare", "no-id"],
)
def test_lines_of_one_id_are_one_gene(tmp_path, notes):
  """A programmed frameshift repeats a base; an interrupted gene has a gap."""
  text = line("CDS", 11, 20, notes) + line("CDS", 20, 40, notes) + line("CDS", 91, 100, notes)
  (gene,) = read_gff3(written(tmp_path, text)).genes
  assert gene.intervals == ((10, 20), (19, 40), (90, 100))


# Lines as Bakta 1.9 (Name is the product), Prokka 1.14, Ensembl Bacteria and NCBI write them.
@pytest.mark.parametrize(
  ("notes", "expected"),
  [
    ("ID=H_5;Name=Protein DnaA;locus_tag=H_5;product=Protein DnaA;gene=dnaA", ("H_5", "dnaA")),
    ("ID=H_6;Name=Transposase;locus_tag=H_6;product=Transposase", ("H_6", "")),
    ("ID=P_1;Name=thrA_1;gene=thrA_1;locus_tag=P_1;product=Kinase", ("P_1", "thrA_1")),
    ("ID=gene:b0342;Name=lacA;biotype=protein_coding;gene_id=b0342", ("b0342", "lacA")),
    ("ID=gene:b0343;Name=lacY", ("b0343", "lacY")),
    ("ID=cds-C1.1;Name=C1.1;protein_id=C1.1;locus_tag=B1;gene=dnaA", ("B1", "dnaA")),
    ("ID=cds-C2.1;Name=C2.1;protein_id=C2.1;locus_tag=B2", ("B2", "")),
    ("ID=gene-B3;Name=B3;locus_tag=B3", ("B3", "B3")),
  ],
  ids=["bakta", "bakta-no-symbol", "prokka", "ensembl", "ensembl-id", "ncbi", "ncbi-none", "tag"],
)
def test_names_of_genes_by_source(tmp_path, notes, expected):
  ((tag, name, *_),) = listed(tmp_path, line("CDS", 1, 30, notes))
  assert (tag, name) == expected


def test_ensembl_biotype(tmp_path):
  text = line("ncRNA_gene", 1, 30, "ID=gene:r1;biotype=tRNA;gene_id=r1")
  text += line("tRNA", 1, 30, "ID=transcript:r1;Parent=gene:r1")
  (gene,) = read_gff3(written(tmp_path, text)).genes
  assert (gene.id, gene.locus_tag, gene.biotype) == ("gene:r1", "r1", "tRNA")


def test_features_that_no_gene_stands_for_are_genes_of_their_type(tmp_path):
  kinds = (
    "CDS", "tRNA", "rRNA", "tmRNA", "ncRNA", "sRNA", "antisense_RNA", "RNase_P_RNA", "SRP_RNA",
    "misc_RNA",
  )  # fmt: skip
  text = line("gene", 1, 90, "ID=g;gene=a") + line("mRNA", 1, 90, "ID=m;Parent=g")
  text += line("CDS", 1, 60, "ID=c1;Parent=m;gene=other")
  for row, kind in enumerate(kinds, start=1):
    text += line(kind, 100 * row, 100 * row + 50, f"ID=f{row};gene=n{row}")
  text += line("exon", 3001, 3050, "ID=e") + line("riboswitch", 3101, 3150, "ID=s")
  assert listed(tmp_path, text) == [
    ("", "a", "gene", 1, 90, 1),
    *(("", f"n{r}", kind, 100 * r, 100 * r + 50, 1) for r, kind in enumerate(kinds, start=1)),
  ]


def test_a_gene_without_biotype_is_what_its_products_are(tmp_path):
  """As Bakta, Prokka --addgenes and NCBI before 2018 write RNA genes: 5S rRNA has whole codons."""
  text = (
    line("gene", 1, 120, "ID=g1;locus_tag=L1") + line("rRNA", 1, 120, "ID=r1;Parent=g1")
    + line("exon", 1, 120, "ID=e1;Parent=r1")
    + line("gene", 201, 275, "ID=g2;locus_tag=L2") + line("tRNA", 201, 275, "ID=r2;locus_tag=L2")
    + line("gene", 301, 400, "ID=g3") + line("ncRNA", 301, 400, "ID=r3")
    + line("gene", 501, 800, "ID=g4;locus_tag=L4") + line("CDS", 501, 800, "ID=c4;Parent=g4")
    + line("ncRNA", 601, 650, "ID=r4;Parent=g4")
    + line("gene", 901, 990, "ID=g5;gene_biotype=tRNA") + line("misc_RNA", 901, 990, "Parent=g5")
    + line("gene", 1101, 1200, "ID=g6") + line("sRNA", 1101, 1150, "ID=r6")
  )  # fmt: skip
  genes = read_gff3(written(tmp_path, text)).genes
  assert [(g.id, g.biotype or g.type) for g in genes] == [
    ("g1", "rRNA"), ("g2", "tRNA"), ("g3", "ncRNA"), ("g4", "gene"), ("g5", "tRNA"), ("g6", "gene"),
  ]  # fmt: skip


@pytest.mark.parametrize("note", ["pseudo=true", "pseudo=True", "pseudogene=unknown"])
def test_what_says_that_it_is_a_pseudogene_is_none_that_codes(tmp_path, note):
  text = line("CDS", 1, 90, f"ID=c1;{note}") + line("CDS", 101, 190, "ID=c2;pseudo=false")
  text += line("gene", 201, 290, f"ID=g3;{note}") + line("region", 1, 900, f"ID=x;{note}")
  genes = read_gff3(written(tmp_path, text)).genes
  assert [(g.id, g.type) for g in genes] == [
    ("c1", "pseudogene"), ("c2", "CDS"), ("g3", "pseudogene"),
  ]  # fmt: skip


def test_which_products_a_gene_stands_for(tmp_path):
  """By locus tag, by bounds, by lying within; not another locus tag or symbol, or other strand."""
  text = line("gene", 101, 400, "ID=g1;locus_tag=A;gene=aaa") + line(
    "gene", 501, 800, "ID=g2;gene=bbb"
  )
  text += (
    line("CDS", 150, 420, "ID=c1;locus_tag=A")
    + line("CDS", 101, 400, "ID=c2;locus_tag=Z")
    + line("CDS", 110, 200, "ID=c3")
    + line("sRNA", 300, 390, "ID=s1;locus_tag=S")
    + line("CDS", 510, 790, "ID=c4;gene=BBB")
    + line("CDS", 520, 700, "ID=c5;gene=ccc")
    + line("antisense_RNA", 510, 600, "ID=s2", "-")
  )
  starts = [start for _, _, _, start, _, _ in listed(tmp_path, text)]
  assert sorted(starts) == [101, 300, 501, 510, 520]


GTF = """#!genome-build x
c\tProtein Homology\tgene\t1\t90\t.\t-\t.\tgene_id "b1"; transcript_id ""; gene "lacA"; gene_biotype "protein_coding"; locus_tag "b1"; note "a; b=c";
c\tProtein Homology\tCDS\t4\t90\t.\t-\t0\tgene_id "b1"; transcript_id "t1"; gene "lacA"; locus_tag "b1"; product "x";
c\tProtein Homology\tstop_codon\t1\t3\t.\t-\t0\tgene_id "b1"; transcript_id "t1";
"""  # noqa: E501


@pytest.mark.parametrize("name", ["a.gtf", "a.gff3", "a.gff.gz"])
def test_gtf_is_told_by_its_attributes(tmp_path, name):
  path = written(tmp_path, GTF, name)
  (gene,) = read_gff3(path).genes
  fields = (gene.id, gene.locus_tag, gene.name, gene.biotype, gene.start, gene.end, gene.strand)
  assert fields == ("b1", "b1", "lacA", "protein_coding", 0, 90, -1)


def test_gtf_without_gene_features(tmp_path):
  """A CDS in two parts with its stop codon; an RNA; exons alone, as HTSeq and RSEM take them."""

  def notes(gene, more=""):
    return f'gene_id "{gene}"; transcript_id "t-{gene}";{more}'

  text = (
    line("transcript", 1, 99, notes("g1"))
    + line("exon", 1, 99, notes("g1"))
    + line("CDS", 11, 40, notes("g1", ' gene_name "abc";'))
    + line("CDS", 51, 60, notes("g1", ' gene_name "abc";'))
    + line("stop_codon", 61, 63, notes("g1"))
    + line("tRNA", 201, 270, notes("g2"))
    + line("exon", 301, 330, notes("g3"), "-")
    + line("exon", 401, 430, "gene_id g4; transcript_id t4")
    + line("transcript", 501, 530, notes("g5"))
  )
  assert listed(tmp_path, text) == [
    ("g1", "abc", "CDS", 11, 63, 1),
    ("g2", "", "tRNA", 201, 270, 1),
    ("g3", "", "gene", 301, 330, -1),
    ("g4", "", "gene", 401, 430, 1),
    ("g5", "", "gene", 501, 530, 1),
  ]
  first = read_gff3(tmp_path / "genes.gff3").genes[0]
  assert first.intervals == ((10, 40), (50, 63))


def test_features_between_two_bases_are_counted_and_skipped(tmp_path, log):
  text = line("gene", 5001, 5000, "ID=x") + line("gene", 1, 30, "ID=y")
  assert [start for *_, start, _, _ in listed(tmp_path, text)] == [1]
  assert "1 features skipped: they lie between two bases" in log.text
  with pytest.raises(DataError, match="positions 5002 to 5000"):
    read_gff3(written(tmp_path, line("gene", 5002, 5000, "ID=x")))


@pytest.mark.parametrize(
  ("ends", "expected"),
  [
    ([(950, 1020)], True),
    ([(1, 20), (981, 1000)], True),
    ([(950, 1000)], False),
    ([(950, 1020), (1100, 1200)], False),
    ([(1, 20), (900, 990)], False),
  ],
  ids=["past", "joined", "up-to", "other-genome", "interrupted"],
)
def test_a_gene_past_the_end_shows_a_circular_contig(tmp_path, ends, expected):
  ids = [1, 1] if ends[0][0] == 1 else [1, 2]
  text = "".join(line("CDS", *e, f"ID=i{n}") for e, n in zip(ends, ids, strict=False))
  found = past_ends(read_gff3(written(tmp_path, text)), {"c": 1000, "d": 5})
  assert found == (["c"] if expected else [])


@pytest.mark.parametrize("end", ["\r", "\r\n"], ids=["cr", "crlf"])
def test_line_ends_and_a_byte_order_mark(tmp_path, end):
  annotation = read_gff3(written(tmp_path, "\ufeff" + NCBI.replace("\n", end)))
  assert len(annotation.genes) == 3 and annotation.lengths == {"NC_1.1": 1000}


@pytest.mark.parametrize(
  "text",
  [
    line("gene", "x" * 5000, 3, ""),
    line("gene", 1, 30, "", "y" * 5000),
    line("gene", 1, "9" * 5000, ""),
  ],
  ids=["start", "strand", "digits"],
)
def test_errors_do_not_repeat_the_file(tmp_path, text):
  path = written(tmp_path, text)
  with pytest.raises(DataError) as caught:
    read_gff3(path)
  assert len(str(caught.value)) < len(str(path)) + 300


def test_most_genes_outside_the_genome_are_refused(tmp_path):
  def genes(n, contig):
    return "".join(
      line("gene", 1 + 10 * i, 9 + 10 * i, f"ID={contig}{i}", contig=contig) for i in range(n)
    )

  path = written(tmp_path, genes(4, "a") + genes(6, "b"))
  annotation = read_gff3(path)
  with pytest.raises(DataError, match=r"4 of 10 genes lie on a contig.*names a, b, the FASTA a, z"):
    place_genes(annotation, {"a": 100, "z": 900}, {"a": True, "z": True})
  # A plasmid of a whole genome's annotation: all of it is named.
  assert len(place_genes(annotation, {"a": 100}, {"a": True})["a"]) == 4
  with pytest.raises(DataError, match=r"3 of 10 genes lie"):  # of a shorter contig
    place_genes(annotation, {"a": 15, "b": 15}, {"a": True, "b": False})
