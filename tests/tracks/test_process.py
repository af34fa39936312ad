"""When a store is used again, when it is built, and what a failure leaves behind."""

import concurrent.futures
import errno
import gzip
import threading

import numpy as np
import pytest

from alphaecoli.errors import DataError
from alphaecoli.tracks import process, write
from alphaecoli.tracks.process import process_data
from alphaecoli.tracks.store import open_store
from tests import toy
from tests.stores import toy_config


@pytest.fixture
def dump(tmp_path):
  return toy.write(tmp_path / "dump")


def config_of_three(dump, **data):
  return toy_config(dump, **{"n_blocks": 3, "n_folds": 3, **data})


def entries(directory):
  return sorted(p.name for p in directory.iterdir()) if directory.exists() else []


def test_the_same_inputs_and_configuration_use_one_store(dump, tmp_path, monkeypatch):
  store = process_data(config_of_three(dump), tmp_path / "run")
  assert store.path.parent == tmp_path / "run" / "tracks"

  def fail(*_, **__):
    raise AssertionError("read again")

  monkeypatch.setattr(process, "read_dump", fail)
  again = process_data(config_of_three(dump), tmp_path / "run")
  assert (again.path, again.fingerprint) == (store.path, store.fingerprint)


def test_equal_stores_are_equal_byte_by_byte(dump, tmp_path):
  stores = [process_data(config_of_three(dump), tmp_path / name) for name in "ab"]
  for path in stores[0].path.iterdir():
    assert path.read_bytes() == (stores[1].path / path.name).read_bytes()


@pytest.mark.parametrize(
  "data",
  [
    {"window_bp": 4096},
    {"read_threads": 0},
    {"prefetch": 3},
    {"reverse_complement": 0.0},
  ],
  ids=lambda data: next(iter(data)),
)
def test_how_windows_are_cut_does_not_change_the_store(dump, tmp_path, data):
  store = process_data(config_of_three(dump), tmp_path)
  assert process_data(config_of_three(dump, **data), tmp_path).path == store.path


@pytest.mark.parametrize(
  "data",
  [
    {"fold": 1},
    {"n_blocks": 4},
    {"min_operon_genes": 1},
    {"circular": False},
    {"exclude_gene_types": ()},
    {"stranded": True},
    {"max_tpm_sum": 1e9},
    {"min_genes_per_unit": 2},
    {"max_docs_per_file": 1000},
    {"expression_groups": {"a": ("ERR_TPMS",)}},
    {"genome": "random"},
    {"unknown_expression_types": ()},
    {"operon_evidence": "experimental"},
  ],
  ids=lambda data: next(iter(data)),
)
def test_another_configuration_has_another_store(dump, tmp_path, data):
  paths = {
    process.locate_store(config.data, tmp_path)[0]
    for config in (config_of_three(dump), config_of_three(dump, **data))
  }
  assert len(paths) == 2


def test_keys_that_came_later_are_in_the_manifest_where_they_matter(dump, tmp_path):
  later = {"unknown_expression_types", "operon_evidence"}
  for data, kept in (({}, {"unknown_expression_types"}), ({"unknown_expression_types": ()}, set())):
    _, metadata = process.locate_store(config_of_three(dump, **data).data, tmp_path)
    assert metadata["config"].keys() & later == kept


def test_another_input_has_another_store(dump, tmp_path):
  first = process_data(config_of_three(dump), tmp_path)
  text = dump.fasta.read_text()
  dump.fasta.write_text(text[:-1] + "A\n" if text[-2] != "A" else text[:-2] + "C\n")
  second = process_data(config_of_three(dump), tmp_path)
  assert second.path != first.path
  next(p for c, p in dump.files.items() if c == "dataset").unlink()
  assert process_data(config_of_three(dump), tmp_path).path not in (first.path, second.path)


def test_where_the_inputs_lie_does_not_matter(tmp_path):
  dumps = [toy.write(tmp_path / name) for name in "ab"]
  stores = {process_data(config_of_three(d), tmp_path).path for d in dumps}
  assert len(stores) == 1


def test_store_dir_is_where_stores_are_kept(dump, tmp_path):
  store = process_data(config_of_three(dump, store_dir=str(tmp_path / "kept")), tmp_path / "run")
  assert store.path.parent == tmp_path / "kept"
  assert not (tmp_path / "run").exists()


def test_a_random_genome_is_recorded_as_such(dump, tmp_path):
  store = process_data(config_of_three(dump, genome="random"), tmp_path)
  assert store.manifest["genome_source"] == "random"
  assert "genome" not in store.manifest["inputs"]
  assert store.contig == "random"


def test_builders_at_once_end_with_one_whole_store(dump, tmp_path, monkeypatch):
  n = 4
  barrier = threading.Barrier(n)
  build = process.build_tracks

  def wait_for_all(*arguments):
    barrier.wait(timeout=60)
    return build(*arguments)

  monkeypatch.setattr(process, "build_tracks", wait_for_all)
  with concurrent.futures.ThreadPoolExecutor(n) as pool:
    stores = list(pool.map(lambda _: process_data(config_of_three(dump), tmp_path), range(n)))
  assert len({store.path for store in stores}) == 1
  assert entries(tmp_path / "tracks") == [stores[0].path.name]
  stores[0].verify()


def test_a_leftover_of_a_killed_build_is_no_store(dump, tmp_path):
  store = process_data(config_of_three(dump), tmp_path)
  leftover = store.path.rename(store.path.with_name(f".{store.path.name}-0123.partial"))
  with pytest.raises(DataError, match="not a track store"):
    open_store(leftover)
  with pytest.raises(DataError, match="not a track store"):
    open_store(tmp_path / "tracks")
  assert process_data(config_of_three(dump), tmp_path).path == store.path


@pytest.mark.parametrize("name", ["write_genes", "hash_file"])
def test_a_full_disk_leaves_nothing_behind(dump, tmp_path, monkeypatch, name):
  def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(write, name, full)
  with pytest.raises(DataError, match=r"No space left on device.*data\.store_dir"):
    process_data(config_of_three(dump), tmp_path)
  assert entries(tmp_path / "tracks") == []


def test_an_unwritable_place_is_one_error(dump, tmp_path):
  (tmp_path / "file").write_text("")
  config = config_of_three(dump, store_dir=str(tmp_path / "file"))
  with pytest.raises(DataError, match=r"can not write the track store.*data\.store_dir"):
    process_data(config, tmp_path)


@pytest.mark.parametrize("collection", toy.COLLECTIONS)
def test_a_truncated_dump_leaves_no_store(dump, tmp_path, collection):
  path = dump.files[collection]
  path.write_bytes(path.read_bytes()[:-7])
  with pytest.raises(DataError, match=f"{collection}.bson.*byte"):
    process_data(config_of_three(dump), tmp_path)
  assert entries(tmp_path / "tracks") == []


def test_a_missing_genome_is_an_error(dump, tmp_path):
  with pytest.raises(DataError, match="no such genome file"):
    process_data(config_of_three(dump, genome=str(tmp_path / "none.fna")), tmp_path)


def test_a_damaged_store_is_not_used(dump, tmp_path):
  store = process_data(config_of_three(dump), tmp_path)
  (store.path / "sequence.npy").unlink()
  with pytest.raises(DataError, match=r"sequence\.npy: missing; delete the store"):
    process_data(config_of_three(dump), tmp_path)


def test_compressed_inputs_give_the_same_tracks(dump, tmp_path):
  plain = process_data(config_of_three(dump), tmp_path)
  for path in dump.files.values():
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
  packed = process_data(config_of_three(dump), tmp_path)
  assert packed.path != plain.path
  np.testing.assert_array_equal(packed.gene_expression, plain.gene_expression)
  assert packed.table == plain.table
