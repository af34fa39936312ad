import dataclasses
import json

import numpy as np
import pyBigWig
import pytest

from alphaecoli.annotation.records import AnnotatedGene, PlacedGene
from alphaecoli.errors import DataError
from alphaecoli.inference import writers
from alphaecoli.inference.prediction import Prediction
from tests.inference.standin import TABLE, predictor, random_codes

CONTIGS = [("NC_1.3", 1000), ("NC_1.10", 300), ("plasmid|p1", 128), ("Zz", 1)]


@pytest.fixture(scope="module")
def predictions() -> dict[str, Prediction]:
  return {name: predictor().predict(random_codes(n, seed=n)) for name, n in CONTIGS}


def write_all(folder, predictions, tracks=TABLE.names):
  writer = writers.BigWigTracks(folder, CONTIGS, tracks)
  with writer:
    for name, _ in writer.order:
      writer.write(name, predictions[name])
  return writer


def test_bigwig_gives_back_every_value_under_the_fasta_names(tmp_path, predictions, monkeypatch):
  monkeypatch.setattr(writers, "CHUNK_VALUES", 64)
  write_all(tmp_path, predictions)
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    "gene_density.bw",
    "gene_expression.heat_+.bw",
    "gene_expression.heat_-.bw",
    "operon_membership.bw",
  ]
  columns = [("gene_expression.heat_+.bw", "gene_expression", 0)]
  columns += [("gene_expression.heat_-.bw", "gene_expression", 1)]
  columns += [("operon_membership.bw", "operon_membership", 0)]
  for file, head, column in columns:
    with pyBigWig.open(str(tmp_path / file)) as tracks:
      assert tracks.chroms() == dict(CONTIGS)
      for name, length in CONTIGS:
        values = np.array(tracks.values(name, 0, length), np.float32)
        assert np.array_equal(values, getattr(predictions[name], head)[:, column])


def test_density_spans_bins_and_the_last_is_clipped(tmp_path, predictions):
  write_all(tmp_path, predictions)
  with pyBigWig.open(str(tmp_path / "gene_density.bw")) as tracks:
    for name, length in CONTIGS:
      bins = [(s, min(s + 128, length)) for s in range(0, length, 128)]
      values = predictions[name].gene_density[:, 0]
      expected = [(s, e, float(v)) for (s, e), v in zip(bins, values, strict=True)]
      assert list(tracks.intervals(name)) == expected


def test_failure_leaves_no_track_behind(tmp_path, predictions):
  bad = predictions["NC_1.10"].operon_membership.copy()
  bad[77] = np.nan
  broken = {**predictions}
  broken["NC_1.10"] = dataclasses.replace(predictions["NC_1.10"], operon_membership=bad)
  with pytest.raises(DataError, match=r"nan for operon_membership at base 77 of NC_1.10"):
    write_all(tmp_path, broken)
  assert not list(tmp_path.iterdir())


def test_folder_that_can_not_be_written_is_one_line(tmp_path, predictions):
  with pytest.raises(DataError, match="can not be written") as caught:
    write_all(tmp_path / "absent", predictions)
  assert "\n" not in str(caught.value)


def test_tracks_whose_names_clash_in_a_file_system_get_their_own_files():
  files = writers.track_files(["heat shock", "heat/shock", "HEAT_shock", "heat_shock_1"])
  names = [name.lower() for name in files.values()]
  assert len(set(names)) == len(names) == 6
  assert files["gene_expression", 0] == "gene_expression.heat_shock.bw"


def gene(start, end, strand=1, segments=None, **fields) -> PlacedGene:
  values = {"id": "g", "locus_tag": "b1", "name": "thrL", "type": "gene", "contig": "c", "line": 1}
  values |= {"start": start, "end": end, "strand": strand}
  return PlacedGene(AnnotatedGene(**values | fields, segments=segments or ((start, end),)))


def toy_prediction() -> Prediction:
  table = dataclasses.replace(TABLE, expression=TABLE.expression[:1])
  return Prediction(
    gene_expression=np.arange(10, dtype=np.float32)[:, None],
    gene_density=np.zeros((1, 1), np.float32),
    operon_membership=np.linspace(0, 0.9, 10, dtype=np.float32)[:, None],
    table=table,
  )


def test_gene_rows_by_hand():
  genes = [
    gene(0, 3, id="a"),
    gene(8, 12, strand=-1, id="wraps"),  # bases 8 9 0 1
    gene(2, 9, strand=0, segments=((2, 4), (8, 9)), id="interrupted"),  # bases 2 3 8
  ]
  assert writers.gene_rows(genes, toy_prediction()) == [
    ["a", "b1", "thrL", "gene", "c", "1", "3", "+", "1", "1.71828", "0.1"],
    ["wraps", "b1", "thrL", "gene", "c", "9", "12", "-", "4.5", "89.0171", "0.45"],
    ["interrupted", "b1", "thrL", "gene", "c", "3", "9", ".", "4.33333", "75.1979", "0.433333"],
  ]
  assert writers.gene_table_header(["mean"]) == [
    *("id", "locus_tag", "name", "type", "contig", "start", "end", "strand"),
    *("log_tpm:mean", "tpm:mean", "operon_probability"),
  ]


def test_gene_rows_are_the_same_in_any_units():
  rows = writers.gene_rows([gene(1, 4)], toy_prediction())
  assert writers.gene_rows([gene(1, 4)], toy_prediction().in_units("tpm")) == rows


def test_gene_rows_of_an_untrained_head_are_empty():
  unknown = np.full((10, 1), np.nan, np.float32)
  prediction = dataclasses.replace(toy_prediction(), gene_expression=unknown)
  (row,) = writers.gene_rows([gene(1, 4)], prediction)
  assert row[8:] == ["", "", "0.2"]


def test_manifest_says_what_every_file_is(tmp_path):
  files = writers.describe_files(writers.track_files(["mean"]), ["mean"], "tpm")
  writers.write_manifest(tmp_path, {"tracks": files})
  assert json.loads((tmp_path / "predictions.json").read_text())["tracks"] == [
    {
      "file": f"{head}{dot_track}.bw",
      "head": head,
      "track": track,
      "units": units,
      "resolution_bp": bp,
    }
    for head, dot_track, track, units, bp in [
      ("gene_expression", ".mean", "mean", "TPM", 1),
      ("gene_density", "", "gene_density", "genes per 128 bp", 128),
      ("operon_membership", "", "operon_membership", "probability", 1),
    ]
  ]
