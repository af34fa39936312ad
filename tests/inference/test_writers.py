import dataclasses
import gzip

import numpy as np
import pyBigWig
import pytest

from alphaecoli.errors import DataError
from alphaecoli.inference import writers
from alphaecoli.inference.prediction import Prediction
from tests.inference.standin import TABLE, predictor, random_codes

CONTIGS = [("NC_1.3", 1000), ("NC_1.10", 300), ("plasmid|p1", 128), ("Zz", 1)]


@pytest.fixture(scope="module")
def predictions() -> dict[str, Prediction]:
  return {name: predictor().predict(random_codes(n, seed=n)) for name, n in CONTIGS}


def write_all(folder, predictions, tracks=TABLE.names, kind=writers.BigWigTracks):
  writer = kind(folder, CONTIGS, tracks)
  for name, _ in writer.order:
    writer.write(name, predictions[name])
  writer.close()
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


def test_bedgraph_has_a_line_for_each_run_of_equal_values(tmp_path, predictions, monkeypatch):
  monkeypatch.setattr(writers, "CHUNK_VALUES", 3)
  values = np.repeat(np.array([0, 0.5, 0.5, 1 / 3, 2], np.float32), [3, 1, 2, 1, 993])[:, None]
  flat = dataclasses.replace(predictions["NC_1.3"], operon_membership=values)
  for kind in (writers.BedGraphTracks, writers.PackedBedGraphTracks):
    write_all(tmp_path, {**predictions, "NC_1.3": flat}, kind=kind)
  path = tmp_path / "operon_membership.bedgraph"
  lines = [row.split("\t") for row in path.read_text().splitlines()]
  assert [row for row in lines if row[0] == "NC_1.3"] == [
    ["NC_1.3", "0", "3", "0"],
    ["NC_1.3", "3", "6", "0.5"],
    ["NC_1.3", "6", "7", "0.333333"],
    ["NC_1.3", "7", "1000", "2"],
  ]
  assert list(dict.fromkeys(row[0] for row in lines)) == ["NC_1.10", "NC_1.3", "Zz", "plasmid|p1"]
  packed = tmp_path / "operon_membership.bedgraph.gz"
  assert gzip.decompress(packed.read_bytes()) == path.read_bytes()


def test_bedgraph_gives_back_every_value(tmp_path, predictions):
  write_all(tmp_path, predictions, kind=writers.BedGraphTracks)
  for name, length in CONTIGS:
    for file, values, span in (
      ("gene_expression.heat_+.bedgraph", predictions[name].gene_expression[:, 0], 1),
      ("gene_density.bedgraph", predictions[name].gene_density[:, 0], 128),
    ):
      rows = [r.split("\t") for r in (tmp_path / file).read_text().splitlines()]
      found = np.full(length, np.nan)
      for _, start, end, value in (row for row in rows if row[0] == name):
        assert np.isnan(found[int(start) : int(end)]).all()
        found[int(start) : int(end)] = float(value)
      np.testing.assert_allclose(found, np.repeat(values, span)[:length], rtol=1e-5)


def test_folder_that_can_not_be_written_is_one_line(tmp_path, predictions):
  with pytest.raises(DataError, match="can not be written") as caught:
    write_all(tmp_path / "absent", predictions)
  assert "\n" not in str(caught.value)


def test_tracks_whose_names_clash_in_a_file_system_get_their_own_files():
  files = writers.track_files(["heat shock", "heat/shock", "HEAT_shock", "heat_shock_1"])
  names = [name.lower() for name in files.values()]
  assert len(set(names)) == len(names) == 6
  assert files["gene_expression", 0] == "gene_expression.heat_shock.bw"


def test_manifest_says_what_every_file_is(tmp_path):
  writer = writers.BigWigTracks(tmp_path, [("c", 10)], ["mean"])
  writer.close()
  assert writer.describe("tpm") == [
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


def test_names_of_files_are_safe_and_different():
  names = writers.safe_names([".hidden", "a/b", "A B", "a_b_2", ""], taken=["genomes.tsv"])
  assert names == ["_hidden", "a_b", "A_B_2", "a_b_2_3", "_"]
  assert writers.safe_names(["Genomes.tsv"], taken=["genomes.tsv"]) == ["Genomes.tsv_0"]
