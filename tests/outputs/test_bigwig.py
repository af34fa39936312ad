"""BigWig, read back by two libraries that share no code with the writer."""

import numpy as np
import pybigtools
import pyBigWig
import pytest

from alphaecoli.errors import DataError
from alphaecoli.outputs import bigwig
from alphaecoli.outputs.bigwig import BigWigFile

RANDOM = np.random.default_rng(0)
GENOMES = {
  "one": [("chr", 40_000)],
  "chromosome-and-short-last-plasmid": [("chr", 20_000), ("p", 1000)],
  "single-bases": [("a", 1), ("b", 5), ("c", 129)],
  "many": [(f"c{i:03d}", int(RANDOM.integers(1, 400))) for i in range(300)],
}


@pytest.fixture(params=[(name, span) for name in GENOMES for span in (1, 128)], ids=str)
def written(request, tmp_path):
  """A file and, of each contig, the value of every base."""
  name, span = request.param
  file = BigWigFile(tmp_path / "track.bw", GENOMES[name], span)
  bases = {}
  for contig, length in GENOMES[name]:
    values = RANDOM.normal(1, 2, -(-length // span)).astype(np.float32)
    bases[contig] = np.repeat(values, span)[:length]
    file.write(contig, values)
  file.close()
  return tmp_path / "track.bw", bases


def test_every_zoom_record_is_what_the_bases_give(written):
  path, bases = written
  file = pybigtools.open(str(path))
  assert file.zooms() and sorted(file.zooms()) == file.zooms()
  for window in file.zooms():
    for contig, values in bases.items():
      reached = 0
      for start, end, record in file.zoom_records(window, contig):
        part = values[start:end].astype(np.float64)
        assert start == reached and record["bases_covered"] == len(part) == end - start
        assert (record["min_val"], record["max_val"]) == (part.min(), part.max())
        assert record["sum"] == pytest.approx(part.sum(), rel=1e-5, abs=1e-4)
        assert record["sum_squares"] == pytest.approx((part**2).sum(), rel=1e-5, abs=1e-4)
        reached = end
      assert reached == len(values)


def test_both_libraries_give_back_every_base_and_the_sums_of_the_file(written):
  path, bases = written
  every = np.concatenate(list(bases.values())).astype(np.float64)
  other = pybigtools.open(str(path))
  with pyBigWig.open(str(path)) as file:
    lengths = {contig: len(values) for contig, values in bases.items()}
    assert file.chroms() == other.chroms() == lengths
    for contig, values in bases.items():
      assert np.array_equal(file.values(contig, 0, len(values), numpy=True), values)
      assert np.array_equal(other.values(contig, 0, len(values), fillna=None), values)
  summary = other.info()["summary"]
  assert summary["basesCovered"] == len(every)
  assert (summary["min"], summary["max"]) == (every.min(), every.max())
  assert summary["sum"] == pytest.approx(every.sum())
  assert summary["std"] == pytest.approx(every.std(ddof=1))


def test_the_end_of_a_chromosome_zoomed_out_is_its_mean(tmp_path):
  file = BigWigFile(tmp_path / "track.bw", [("chr", 100_000), ("p", 1000)])
  file.write("chr", np.full(100_000, 3, np.float32))
  file.write("p", np.full(1000, 5, np.float32))
  file.close()
  with pyBigWig.open(str(tmp_path / "track.bw")) as tracks:
    assert tracks.stats("chr", 0, 100_000, nBins=10) == [3.0] * 10
    assert tracks.stats("p", 0, 1000, nBins=2) == [5.0] * 2


def test_values_that_are_summarised_in_chunks_give_the_same_file(tmp_path, monkeypatch):
  values = RANDOM.normal(size=9000).astype(np.float32)
  monkeypatch.setattr(bigwig, "IN_BLOCK", 1024)
  for name, chunk in (("whole", 1 << 20), ("chunks", 2048)):
    monkeypatch.setattr(bigwig, "CHUNK_VALUES", chunk)
    file = BigWigFile(tmp_path / name, [("chr", 9000 * 128 - 5)], 128)
    file.write("chr", values)
    file.close()
  assert (tmp_path / "whole").read_bytes() == (tmp_path / "chunks").read_bytes()


def test_a_full_disk_is_one_line(tmp_path):
  (tmp_path / "track.bw").symlink_to("/dev/full")
  with pytest.raises(DataError, match=r"track.bw: can not be written: No space left") as caught:
    file = BigWigFile(tmp_path / "track.bw", [("chr", 10)])
    file.write("chr", np.ones(10, np.float32))
    file.close()
  assert "\n" not in str(caught.value)
