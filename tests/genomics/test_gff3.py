import gzip
import logging

import numpy as np
import pytest

from alphaecoli.errors import DataError
from alphaecoli.genomics.genes import place_genes
from alphaecoli.genomics.gff3 import read_gff3

NCBI = """##gff-version 3
##sequence-region NC_1.1 1 1000
NC_1.1\tRefSeq\tregion\t1\t1000\t.\t+\t.\tID=r1;Dbxref=taxon:511145;Is_circular=true
NC_1.1\tRefSeq\tgene\t101\t200\t.\t+\t.\tID=gene-b0001;Name=thr%2CL;gene=thrL;locus_tag=b0001
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
