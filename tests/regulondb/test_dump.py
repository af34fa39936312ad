"""Whole dumps: the toy chromosome, missing parts, and the embedded data set."""

import dataclasses
from pathlib import Path

import bson
import numpy as np
import pytest
from bson import json_util

from alphaecoli import config
from alphaecoli.errors import DataError
from alphaecoli.genomics.quality import QualityReport
from alphaecoli.genomics.sequence import decode
from alphaecoli.regulondb import dump as dump_lib
from alphaecoli.schema import DataConfig
from alphaecoli.tracks.process import process_data
from tests import toy
from tests.stores import toy_config


def data_config(**changes) -> DataConfig:
  data = config.resolve(config.base_config()).data
  return dataclasses.replace(data, **changes)


def read(written: toy.ToyDump, **changes) -> dump_lib.GenomeRecords:
  data = data_config(
    dump=str(written.dump),
    genome=str(written.fasta),
    min_genes_per_unit=written.min_genes_per_unit,
    **changes,
  )
  report = QualityReport()
  return dump_lib.read_dump(written.dump, dump_lib.read_genome(data, report), data, report)


@pytest.mark.parametrize("generation", ["2022", "2023"])
@pytest.mark.parametrize(("layout", "suffix"), [("flat", ""), ("dump", ".zip"), ("2021", ".gz")])
def test_every_release_layout_and_compression_reads_the_same(tmp_path, generation, layout, suffix):
  written = toy.write(tmp_path, generation=generation, layout=layout, compression=suffix)
  genome_records = read(written)
  assert decode(genome_records.contig.codes) == written.sequence.upper()
  assert [(g.id, g.start, g.end) for g in genome_records.genes] == [
    (g.id, g.start, g.end) for g in written.genes
  ]
  assert [o.gene_ids for o in genome_records.operons] == [o.gene_ids for o in written.operons]
  expected = written.tpm_matrix(
    genome_records.expression.gene_ids, genome_records.expression.datasets
  )
  np.testing.assert_allclose(genome_records.expression.tpm, expected, rtol=1e-12)
  assert genome_records.inputs == written.files
  assert {d.name for d in genome_records.datasets} == set(written.conditions)


def test_random_toy_reads_back(tmp_path):
  written = toy.write_random(tmp_path, 30_000, seed=3)
  genome_records = read(written)
  assert [(g.id, g.start, g.end, g.strand) for g in genome_records.genes] == [
    (g.id, g.start, g.end, g.strand) for g in written.genes
  ]
  assert [(o.start, o.end, o.gene_ids) for o in genome_records.operons] == [
    (o.start, o.end, o.gene_ids) for o in written.operons
  ]
  expected = written.tpm_matrix(
    genome_records.expression.gene_ids, genome_records.expression.datasets
  )
  np.testing.assert_allclose(genome_records.expression.tpm, expected, rtol=1e-12)
  assert genome_records.report.reasons == {}


@pytest.fixture
def warnings_of(monkeypatch):
  lines: list[str] = []
  monkeypatch.setattr(dump_lib.LOGGER, "warning", lambda text, *args: lines.append(text % args))
  return lines


def test_missing_optional_collections_degrade_with_one_warning_each(tmp_path, warnings_of):
  written = toy.write(tmp_path, collections=("geneDatamart",))
  genome_records = read(written)
  assert (
    genome_records.operons is None
    and genome_records.expression is None
    and genome_records.datasets == []
  )
  assert [line.split(":")[0] for line in warnings_of] == ["no operons", "no expression"]
  assert "regulondbht" in warnings_of[1]
  reasons = genome_records.report.reasons
  assert reasons["no geneExpression: expression unknown"] == 1
  assert reasons["no operonDatamart: operons unknown"] == 1


def test_no_usable_data_set_degrades_too(tmp_path, warnings_of):
  written = dataclasses.replace(toy.write(tmp_path), min_genes_per_unit=100)
  genome_records = read(written)
  assert genome_records.expression is None
  assert genome_records.report["no usable data set: expression unknown"] == 1
  assert warnings_of[0].startswith("no expression: no data set")


def test_missing_genes_say_where_was_looked(tmp_path):
  written = toy.write(tmp_path, collections=("operonDatamart",))
  with pytest.raises(DataError, match="geneDatamart not found; looked for geneDatamart") as e:
    read(written)
  assert str(tmp_path / "dump" / "regulondbdatamarts") in str(e.value)


def test_missing_dump_directory(tmp_path):
  with pytest.raises(DataError, match="no such directory"):
    dump_lib.resolve_dump(tmp_path / "none")


def test_a_genome_that_is_not_the_dumps_is_refused(tmp_path):
  written = toy.write(tmp_path)
  toy.write_fasta(written.fasta, "ACGT" * 250)
  with pytest.raises(DataError, match=r"genes lie outside toy \(1000 bp\)"):
    read(written)


def test_the_longest_contig_is_used_and_the_others_reported(tmp_path, warnings_of):
  written = toy.write(tmp_path)
  written.fasta.write_text(">plasmid\nACGT\n" + written.fasta.read_text())
  genome_records = read(written)
  assert genome_records.contig.name == "toy"
  assert genome_records.report["contig that is not the longest: left out"] == 1
  assert "using the longest, toy" in warnings_of[0]


def test_random_genome_is_logged_counted_and_as_long_as_the_genes_need(tmp_path, warnings_of):
  written = toy.write(tmp_path)
  data = data_config(dump=str(written.dump), genome="random")
  report = QualityReport()
  contig = dump_lib.read_genome(data, report)
  assert contig.length_bp == written.length_bp + 200  # the end of badP
  assert report["random bases in place of a genome"] == contig.length_bp
  assert "made-up sequence" in warnings_of[0]


def test_max_docs_per_file_reads_the_first_documents_of_each(tmp_path):
  genome_records = read(toy.write(tmp_path), max_docs_per_file=5)
  assert [g.id for g in genome_records.genes] == ["T01", "T02", "T03", "T04", "T07"]
  assert genome_records.report.totals["operon documents"] == 5


def test_embedded_data_set():
  """The counts are those of its README; 61 phantoms and 20 genes without positions are left out."""
  report = QualityReport()
  data = data_config()
  contig = dump_lib.read_genome(data, report)
  calls = []
  genome_records = dump_lib.read_dump(
    "builtin", contig, data, report, lambda *args: calls.append(args)
  )
  assert (contig.name, contig.length_bp) == ("NC_000913.3", 4_641_652)
  assert decode(contig.codes[:10]) == "AGCTTTTCAT"
  assert report.totals == {
    "gene documents": 4747,
    "genes": 4666,
    "operon documents": 2600,
    "operons": 2600,
    "operons with two genes or more": 844,
    "operons with two genes or more: experimental evidence": 423,
    "operons with two genes or more: no evidence": 73,
    "data set documents": 23,
    "expression documents": 90_247,
    "data sets with expression": 23,
  }
  assert genome_records.expression.tpm.shape == (4666, 23)
  thra = {g.name: g for g in genome_records.genes}["thrA"]
  assert (thra.start, thra.end, thra.strand, thra.locus_tag) == (336, 2799, 1, "b0002")
  assert decode(contig.codes[thra.start : thra.start + 3]) == "ATG"
  row = genome_records.expression.gene_ids.index(thra.id)
  column = genome_records.expression.datasets.index("control__wt_glc__1")
  np.testing.assert_allclose(genome_records.expression.tpm[row, column], 2056.4655)
  sums = np.nansum(genome_records.expression.tpm, axis=0)
  assert (sums > 0.95e6).all() and (sums < 1.05e6).all()
  assert {d.name for d in genome_records.datasets} == set(genome_records.expression.datasets)
  assert calls[-1][0] == "geneExpression" and calls[-1][3] == 90_247


def as_json(written: toy.ToyDump, array: bool) -> dict[str, Path]:
  """Replaces the files of a dump by JSON exports."""
  files = {}
  for collection, path in written.files.items():
    lines = [json_util.dumps(d) for d in bson.decode_all(path.read_bytes())]
    text = "[" + ",".join(lines) + "]" if array else "\n".join(lines)
    files[collection] = path.with_suffix(".json")
    files[collection].write_text(text)
    path.unlink()
  return files


@pytest.mark.parametrize("array", [True, False], ids=["array", "lines"])
def test_a_dump_exported_as_json_reads_the_same(tmp_path, array):
  written = toy.write(tmp_path)
  expected = read(written)
  files = as_json(written, array)
  found = read(written)
  assert found.inputs == files
  assert (found.genes, found.operons, found.datasets) == (
    expected.genes, expected.operons, expected.datasets,
  )  # fmt: skip
  np.testing.assert_array_equal(found.expression.tpm, expected.expression.tpm)
  assert found.report.to_json() == expected.report.to_json()


def terms(*values, score=100):
  return [{"value": v, "score": score, "associatedPhrase": "x", "nameField": "y"} for v in values]


def test_growth_conditions_stand_in_a_collection_of_their_own(tmp_path):
  written = toy.write(tmp_path)
  before = {d.name: d.conditions for d in read(written).datasets}
  documents = [
    {
      "_id": "GC_ERR_TPMS",
      "temporalId": "GC_GENE_EXPRESSION_ERR_TPMS",
      "datasetIds": ["GENE_EXPRESSION_ERR_TPMS"],
      "organism": terms("Escherichia coli"),
      "medium": terms("never: the data set has its own"),
      "growthPhase": terms("log phase", "log phase", "mid-log"),
      "pressure": [],
      "additionalProperties": [
        {"name": "Cultivar", "value": terms("batch", None)}, {"name": "", "value": terms("z")},
      ],
    },
    {"_id": "GC_2", "datasetIds": ["GENE_EXPRESSION_ERR_TPMS", "ERR_NEW"], "ph": terms(7.2)},
    {"_id": "GC_3", "medium": terms("of nothing")},
  ]  # fmt: skip
  place = toy.place(tmp_path, "flat", "dataset").with_name("nlpGrowthConditions.bson")
  path = toy.write_bson(place, documents)
  records = read(written)
  assert records.inputs["nlpGrowthConditions"] == path
  found = {d.name: d.conditions for d in records.datasets}
  own = before["ERR_TPMS"]
  assert own["medium"] and "growthPhase" not in own
  assert found.pop("ERR_TPMS") == {
    "organism": "Escherichia coli", "growthPhase": "log phase; mid-log", "Cultivar": "batch",
    "ph": "7.2", **own,
  }  # fmt: skip
  assert found.pop("ERR_NEW") == {"ph": "7.2"}
  assert found == {name: fields for name, fields in before.items() if name != "ERR_TPMS"}
  assert records.report.totals["growth condition documents"] == 3
  assert records.report["growth condition document without a data set"] == 1
  (tmp_path / "regulondbht" / "dataset.bson").unlink()
  alone = {d.name: d.conditions for d in read(written).datasets}
  assert alone["ERR_TPMS"]["medium"].startswith("never") and alone["ERR_NEW"] == {"ph": "7.2"}


def test_tracks_by_a_condition_of_the_new_collection(tmp_path):
  written = toy.write(tmp_path / "dump")
  names = ("ERR_TPMS", "ERR_EXPL")
  documents = [
    {"_id": f"GC_{n}", "datasetIds": [toy.PREFIX + n], "vesselType": terms(f"flask {i}")}
    for i, n in enumerate(names)
  ]
  place = toy.place(tmp_path / "dump", "flat", "nlpGrowthConditions")
  toy.write_bson(place.parents[1] / "regulondbht" / place.name, documents)
  blocks = {"n_blocks": 6, "n_folds": 6, "fold": 2}  # leaves the measured genes in training
  config = toy_config(written, **blocks, expression_tracks="group:vesselType")
  store = process_data(config, tmp_path)
  assert store.table.names == ("flask 0", "flask 1")
  assert "nlpGrowthConditions" in store.manifest["inputs"]


def test_genes_that_are_left_out_do_not_count_as_genes_of_operons(tmp_path):
  """T05 is a phantom and T06 has no position: neither joins T03 in an operon of two."""
  written = toy.write(tmp_path)
  documents = toy.operon_documents(written.length_bp, old=False)
  documents[0]["transcriptionUnits"] = [{"genes": [{"_id": g} for g in ("T03", "T05", "T06")]}]
  toy.write_bson(written.files["operonDatamart"], documents)
  records = read(written)
  assert {o.id: o.gene_ids for o in records.operons}["O1"] == ("T03",)
  assert records.report["operon gene of an excluded type"] == 2  # O5 has one, too
  assert records.report["operon gene without positions"] == 1


def test_names_with_tags_and_entities_are_plain_text(tmp_path):
  written = toy.write(tmp_path)
  documents = toy.gene_documents(written.length_bp, old=False)
  names = ["<i>lacZ</i>", "3'ETS-<sup><i>leuZ</i></sup>", "&beta;-gal", "&lt;i&gt;araC&lt;/i&gt;",
           "a<b", "thrA"]  # fmt: skip
  for document, name in zip(documents, names, strict=False):
    document["gene"]["name"] = name
  toy.write_bson(written.files["geneDatamart"], documents)
  found = [gene.name for gene in read(written).genes][: len(names)]
  assert found == ["lacZ", "3'ETS-leuZ", "β-gal", "araC", "a<b", "thrA"]
