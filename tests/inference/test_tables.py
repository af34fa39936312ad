"""Tables and operon files by hand; Parquet by pandas, GFF3 by our own reader."""

import dataclasses

import numpy as np
import pandas
import pytest
from pyarrow import parquet

from alphaecoli.genomics.genes import Gene, place_genes
from alphaecoli.genomics.gff3 import read_gff3
from alphaecoli.inference import tables
from alphaecoli.inference.genomes import NamedContig
from alphaecoli.inference.operon_calls import GenePair, PredictedOperon
from alphaecoli.inference.prediction import Prediction
from alphaecoli.tracks.gene_table import GeneTable, write_genes
from alphaecoli.tracks.store import TrackStore
from tests.inference.standin import TABLE


def gene(start, end, strand=1, fragments=(), **fields) -> Gene:
  values = {"id": "g", "locus_tag": "b1", "name": "thrL", "type": "gene", "contig": "c", "line": 1}
  values |= {"start": start, "end": end, "strand": strand}
  return Gene(**values | fields, fragments=fragments)


def contig(*genes, circular=True, length=10, label="chr|1") -> NamedContig:
  return NamedContig("c", label, np.zeros(length, np.uint8), circular, genes)


def toy_prediction() -> Prediction:
  table = dataclasses.replace(TABLE, expression=TABLE.expression[:1])
  return Prediction(
    gene_expression=np.arange(10, dtype=np.float32)[:, None],
    gene_density=np.zeros((1, 1), np.float32),
    operon_membership=np.linspace(0, 0.9, 10, dtype=np.float32)[:, None],
    table=table,
  )


GENES = (
  gene(0, 3, id="a"),
  gene(2, 9, strand=0, fragments=((2, 4), (8, 9)), id="interrupted"),  # bases 2 3 8
  gene(8, 12, strand=-1, id="wraps"),  # bases 8 9 0 1
)


def written(folder, rows):
  tables.write_tsv(folder / "x.tsv", rows)
  return (folder / "x.tsv").read_text().splitlines()


def test_gene_table_by_hand(tmp_path):
  rows = tables.gene_rows(contig(*GENES), toy_prediction(), {0: "operon7"})
  assert [line.split("\t") for line in written(tmp_path, rows)] == [
    ["id", "locus_tag", "name", "type", "contig", "start", "end", "strand", "log_tpm:heat/+",
     "tpm:heat/+", "operon_probability", "operon"],
    ["a", "b1", "thrL", "gene", "chr|1", "1", "3", "+", "1", "1.71828", "0.1", "operon7"],
    ["interrupted", "b1", "thrL", "gene", "chr|1", "3", "9", ".", "4.33333", "75.1979", "0.433333",
     ""],
    ["wraps", "b1", "thrL", "gene", "chr|1", "9", "12", "-", "4.5", "89.0171", "0.45", ""],
  ]  # fmt: skip


def test_gene_table_is_the_same_in_any_units():
  rows = tables.gene_rows(contig(GENES[0]), toy_prediction(), {})
  assert tables.gene_rows(contig(GENES[0]), toy_prediction().in_units("tpm"), {}) == rows


def test_untrained_head_is_empty_in_text_and_null_in_parquet(tmp_path):
  unknown = np.full((10, 1), np.nan, np.float32)
  prediction = dataclasses.replace(toy_prediction(), gene_expression=unknown)
  rows = tables.gene_rows(contig(GENES[0]), prediction, {})
  assert written(tmp_path, rows)[1].split("\t")[8:] == ["", "", "0.1", ""]
  tables.write_parquet(tmp_path / "x.parquet", rows)
  found = parquet.read_table(tmp_path / "x.parquet")
  assert found.column("tpm:heat/+").null_count == 1


def test_parquet_has_types_and_units(tmp_path):
  rows = tables.gene_rows(contig(*GENES), toy_prediction(), {})
  tables.write_parquet(tmp_path / "x.parquet", rows)
  frame = pandas.read_parquet(tmp_path / "x.parquet")
  assert frame["id"].tolist() == ["a", "interrupted", "wraps"]
  assert frame["end"].tolist() == [3, 9, 12] and frame["end"].dtype == np.int64
  np.testing.assert_allclose(frame["log_tpm:heat/+"], [1, 13 / 3, 4.5], rtol=1e-12)
  schema = parquet.read_schema(tmp_path / "x.parquet")
  assert schema.field("tpm:heat/+").metadata == {b"units": b"TPM"}
  assert schema.field("operon_probability").metadata == {b"units": b"probability"}


@pytest.fixture
def store(tmp_path) -> TrackStore:
  table = GeneTable(
    gene_id=np.array(["EG1", "EG2", "EG3"]),
    name=np.array(["a", "b", "c"]),
    locus_tag=np.array(["b1", "b2", ""]),
    start=np.array([0, 4, 8]),
    end=np.array([3, 7, 12]),
    strand=np.array([1, 1, -1], np.int8),
    type=np.array(["mRNA"] * 3),
    split=np.array(["test", "test", "train"]),
    operon_id=np.array(["O1", "O1", ""]),
    fragments=(((0, 3),), ((4, 5), (6, 7)), ((8, 12),)),
    log_tpm=np.array([[2.5, 1.0], [np.nan, 1.0], [0.0, 1.0]]),
  )
  write_genes(tmp_path / "genes.tsv", table, TABLE.names)
  manifest = {
    "contig": {"name": "c", "length_bp": 10, "circular": True},
    "tracks": TABLE.to_json(),
    "splits": {},
    "fingerprint": "f",
  }
  return TrackStore(tmp_path, manifest)


def test_store_adds_what_was_observed(store, tmp_path):
  genes = (gene(0, 3, id="x", locus_tag="b1"), gene(4, 7, id="x", locus_tag="b9"),
           gene(8, 12, id="EG3", locus_tag=""))  # fmt: skip
  rows = tables.gene_rows(contig(*genes), toy_prediction(), {}, store)
  assert list(rows[0])[-4:] == [
    *("observed_log_tpm:heat/+", "observed_tpm:heat/+", "observed_operon", "split"),
  ]
  assert [line.split("\t")[-4:] for line in written(tmp_path, rows)[1:]] == [
    ["2.5", "11.1825", "O1", "test"],
    ["", "", "", ""],
    ["0", "0", "", "train"],
  ]


def test_store_is_an_annotation(store):
  annotation = store.annotation()
  (first, second, third) = annotation.genes
  assert (first.id, first.locus_tag, first.name, first.contig) == ("EG1", "b1", "a", "c")
  assert second.fragments == ((4, 5), (6, 7)) and (third.start, third.end) == (8, 12)
  assert annotation.circular == {"c"}
  assert len(place_genes(annotation, {"c": 10}, {"c": True})["c"]) == 3


def test_pair_table_by_hand(store, tmp_path):
  genes = (gene(0, 3, id="x", locus_tag="b1"), gene(4, 7, id="y", locus_tag="b2", name=""),
           gene(8, 12, id="EG3", locus_tag=""), gene(9, 12, id="new", locus_tag=""))  # fmt: skip
  pairs = [GenePair(0, 1, 1, 0.75), GenePair(1, 2, 1, 0.25), GenePair(2, 3, -3, 0.5)]
  rows = tables.pair_rows(contig(*genes), pairs, 0.5, store)
  assert [line.split("\t") for line in written(tmp_path, rows)] == [
    ["contig", "strand", "left_id", "left_locus_tag", "left_name", "right_id", "right_locus_tag",
     "right_name", "distance_bp", "probability", "same_operon", "observed_same_operon", "split"],
    ["chr|1", "+", "x", "b1", "thrL", "y", "b2", "", "1", "0.75", "1", "1", "test"],
    ["chr|1", "+", "y", "b2", "", "EG3", "", "thrL", "1", "0.25", "0", "0", "border"],
    ["chr|1", "+", "EG3", "", "thrL", "new", "", "thrL", "-3", "0.5", "1", "", ""],
  ]  # fmt: skip


def test_the_pair_model_decides_where_there_is_one(tmp_path):
  genes = (gene(0, 3, id="x"), gene(4, 7, id="y"), gene(8, 10, id="z"))
  pairs = [GenePair(0, 1, 1, 0.25, 0.5, 0.75), GenePair(1, 2, 1, 0.75, 0.5, 0.25)]
  rows = tables.pair_rows(contig(*genes), pairs, 0.5)
  assert [line.split("\t")[-4:] for line in written(tmp_path, rows)] == [
    ["probability", "same_operon", "probability_membership", "probability_annotated"],
    ["0.25", "1", "0.5", "0.75"],
    ["0.75", "0", "0.5", "0.25"],
  ]


def test_operon_files_by_hand(tmp_path):
  chromosome = contig(
    gene(5, 20, -1, id="g", name="a;b", locus_tag="b1"),
    gene(80, 95, -1, id="g", name="", locus_tag="b3", type="pseudogene"),
    length=100,
    label="chr 1",
  )
  plasmid = contig(length=50, circular=False, label="p")
  files = tables.OperonFiles([chromosome, plasmid])
  names = files.add(chromosome, [PredictedOperon(80, 120, -1, 0.87654321, (1, 0))])
  assert names == {1: "operon1", 0: "operon1"}
  assert files.add(plasmid, [PredictedOperon(10, 20, 0, 0.5)]) == {}
  assert [row["file"] for row in files.write(tmp_path)] == ["operons.gff3", "operons.bed"]
  assert (tmp_path / "operons.gff3").read_text().splitlines() == [
    "##gff-version 3",
    "##sequence-region chr%201 1 100",
    "##sequence-region p 1 50",
    "chr%201\talphaecoli\tregion\t1\t100\t.\t.\t.\tID=chr 1:1..100;Is_circular=true",
    "chr%201\talphaecoli\toperon\t81\t120\t0.8765\t-\t."
    "\tID=operon1;Name=b3-a%3Bb;Ontology_term=SO:0000178;gene_count=2",
    "chr%201\talphaecoli\tpseudogene\t81\t95\t.\t-\t.\tID=g;Parent=operon1;locus_tag=b3",
    "chr%201\talphaecoli\tgene\t6\t20\t.\t-\t.\tID=g.2;Parent=operon1;Name=a%3Bb;locus_tag=b1",
    "p\talphaecoli\toperon\t11\t20\t0.5\t.\t.\tID=operon2;Name=operon2;Ontology_term=SO:0000178",
  ]
  assert (tmp_path / "operons.bed").read_text().splitlines() == [
    "#chrom\tchromStart\tchromEnd\tname\tscore\tstrand\tprobability\tgenes",
    "chr 1\t0\t20\toperon1\t877\t-\t0.876543\t2",
    "chr 1\t80\t100\toperon1\t877\t-\t0.876543\t2",
    "p\t10\t20\toperon2\t500\t.\t0.5\t0",
  ]
  annotation = read_gff3(tmp_path / "operons.gff3")
  assert annotation.circular == {"chr 1"}
  assert [(g.id, g.name, g.start, g.end) for g in annotation.genes] == [
    ("g", "", 80, 95),
    ("g.2", "a;b", 5, 20),
  ]
