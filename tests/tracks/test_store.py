"""Windows against slices of the doubled chromosome, and stores that are broken."""

import json
import pickle
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import alphaecoli
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.schema import HEADS
from alphaecoli.tracks.store import FILES, WEIGHTED, open_store
from tests import toy
from tests.stores import hand_worked_store, random_store

LENGTH_BP = 6144
GENES = toy.kept_genes(LENGTH_BP)
TYPES = {
  "sequence": np.uint8,
  "gene_expression": np.float32,
  "gene_expression_known": np.bool_,
  "gene_density": np.float32,
  "gene_density_known": np.bool_,
  "operon_membership": np.float32,
  "operon_membership_known": np.bool_,
  "gene_structure": np.float32,
  "gene_structure_known": np.bool_,
  "operon_junction": np.float32,
  "operon_junction_known": np.bool_,
  "gene_expression_weight": np.float32,
  "operon_junction_weight": np.float32,
  "start": np.int32,
  "reverse": np.bool_,
  "organism": np.int32,
}
EXAMPLES = settings(
  max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
  """Two tracks for each strand."""
  groups = {"warm": ("ERR_TPMS",), "rest": ("ERR_TPMS", "ERR_EXPL")}
  directory = tmp_path_factory.mktemp("store")
  return hand_worked_store(directory, stranded=True, expression_groups=groups)


@pytest.fixture
def broken(store, tmp_path):
  """A copy that a test may damage."""
  return shutil.copytree(store.path, tmp_path / "copy")


def doubled(store):
  """Targets of every base, twice around; density per base: the genes over each base's bin."""
  return {
    name: np.concatenate([np.load(store.path / f"{name}.npy")] * 2)
    for name in ("sequence", "gene_expression", "operon_membership")
  }


def density(start, window_bp):
  counts = []
  for first in range(start, start + window_bp, 128):
    held = {p % LENGTH_BP for p in range(first, first + 128)}
    spans = [g.fragments or ((g.start, g.end),) for g in GENES]
    counts.append(sum(any(p % LENGTH_BP in held for a, b in s for p in range(a, b)) for s in spans))
  return np.array(counts, np.float32)[:, None]


def reverse_complement(window, names):
  """The other strand, by names of tracks and letters."""
  letters = dict(zip("ACGTN", "TGCAN", strict=True))
  out = {k: v[::-1] if v.ndim else v for k, v in window.items()}
  text = [letters["ACGTN"[code]] for code in out["sequence"]]
  out["sequence"] = np.array(["ACGTN".index(c) for c in text], np.uint8)
  order = [names.index(n[:-1] + {"+": "-", "-": "+"}[n[-1]]) for n in names]
  for key in ("gene_expression", "gene_expression_known", "gene_expression_weight"):
    out[key] = out[key][:, order]
  for key in (k for k in out if k.startswith(("gene_structure", "operon_junction"))):
    out[key] = np.roll(out[key], out[key].shape[1] // 2, axis=1)  # the other strand's first
  out["reverse"] = ~window["reverse"]
  return out


def assert_same(found, expected):
  assert found.keys() == expected.keys()
  for key, value in expected.items():
    np.testing.assert_array_equal(found[key], value, err_msg=key)


@given(st.integers(-LENGTH_BP, 2 * LENGTH_BP), st.integers(1, LENGTH_BP // 128))
@EXAMPLES
def test_a_window_is_the_slice_of_the_doubled_chromosome(store, start, n_bins):
  window, window_bp = store.window(start, n_bins * 128), n_bins * 128
  first = start % LENGTH_BP
  rows = {k: v[first : first + window_bp] for k, v in doubled(store).items()}
  np.testing.assert_array_equal(window["sequence"], rows["sequence"])
  known = ~np.isnan(rows["gene_expression"])
  np.testing.assert_array_equal(window["gene_expression_known"], known)
  np.testing.assert_array_equal(
    window["gene_expression"], np.where(known, rows["gene_expression"], 0)
  )
  np.testing.assert_array_equal(window["operon_membership"][:, 0], rows["operon_membership"])
  np.testing.assert_array_equal(window["gene_density"], density(first, window_bp))
  assert window["gene_density_known"].all() and window["operon_membership_known"].all()
  whole = store.window(0, LENGTH_BP)  # test_gene_targets.py holds it against genes
  for key in window.keys() - doubled(store).keys():
    if window[key].ndim and "density" not in key:
      expected = np.concatenate([whole[key]] * 2)[first : first + window_bp]
      np.testing.assert_array_equal(window[key], expected, err_msg=key)
  assert (window["start"], window["reverse"], window["organism"]) == (first, False, 0)


@given(st.integers(0, LENGTH_BP - 1), st.integers(1, LENGTH_BP // 128))
@EXAMPLES
def test_reverse_complement_twice_is_the_identity(store, start, n_bins):
  forward, reverse = (store.window(start, n_bins * 128, r) for r in (False, True))
  assert_same(reverse_complement(reverse, store.table.names), forward)
  assert_same(reverse_complement(forward, store.table.names), reverse)


def test_reverse_complement_without_strands_keeps_the_tracks(tmp_path):
  store = hand_worked_store(tmp_path)
  forward, reverse = (store.window(5000, 2048, r) for r in (False, True))
  np.testing.assert_array_equal(forward["gene_expression"], reverse["gene_expression"][::-1])
  assert forward["gene_expression_known"].any()


def test_an_unknown_base_stays_unknown_on_the_other_strand(store):
  codes = store.window(0, 128)["sequence"]
  assert codes[40] == 4 and store.window(0, 128, True)["sequence"][127 - 40] == 4


def test_arrays_have_the_shapes_and_types_of_the_specification(store):
  window = store.window(0, 2048)
  assert {k: v.dtype.type for k, v in window.items()} == TYPES
  assert window["sequence"].shape == (2048,)
  assert window["gene_expression"].shape == (2048, 4)
  assert window["gene_density"].shape == (16, 1)
  assert window["operon_membership"].shape == (2048, 1)
  assert window["gene_structure"].shape == (2048, 8)
  assert window["operon_junction"].shape == (2048, 2)
  for key in HEADS:
    assert window[f"{key}_known"].shape == window[key].shape
  for key in WEIGHTED:
    assert window[f"{key}_weight"].shape == window[key].shape


def test_rows_of_a_batch_equal_single_windows(store):
  batch = store.empty_windows((3,), 2048)
  for row, start in enumerate((0, 6000, 3001)):
    store.fill(batch, row, start, row == 1)
  for row, start in enumerate((0, 6000, 3001)):
    assert_same({k: v[row] for k, v in batch.items()}, store.window(start, 2048, row == 1))


@pytest.mark.parametrize("first_new_bp", [0, 1, 128, 1000])
def test_repeated_bases_and_bins_that_hold_one_are_unknown(store, first_new_bp):
  batch = store.empty_windows((1,), 2048)
  store.fill(batch, 0, 0, False, first_new_bp)
  positions = np.arange(2048)
  np.testing.assert_array_equal(
    batch["operon_membership_known"][0, :, 0], positions >= first_new_bp
  )
  whole = (positions >= first_new_bp).reshape(16, 128).all(axis=1)
  np.testing.assert_array_equal(batch["gene_density_known"][0, :, 0], whole)
  for head in ("gene_expression", "gene_structure", "operon_junction"):
    assert not batch[f"{head}_known"][0, :first_new_bp].any()
    assert batch[f"{head}_known"].any()


@pytest.mark.parametrize(
  ("start", "window_bp", "message"),
  [
    (0, 100, "not a multiple of 128; nearest: 128 or 256"),
    (0, 300, "not a multiple of 128; nearest: 256 or 384"),
    (0, 6272, r"longer than toy \(6144 bp\)"),
  ],
)
def test_a_window_that_can_not_be_cut_is_refused(store, start, window_bp, message):
  with pytest.raises(ConfigError, match=message):
    store.window(start, window_bp)


def test_a_linear_chromosome_has_ends(tmp_path):
  store = random_store(tmp_path, length_bp=60_000, circular=False)
  assert (
    not store.circular and max(a.end for s in ("train", "test") for a in store.regions(s)) <= 60_000
  )
  assert store.window(60_000 - 2048, 2048)["sequence"].shape == (2048,)
  for start in (-1, 60_000 - 2047):
    with pytest.raises(ConfigError, match="leaves toy"):
      store.window(start, 2048)


def test_the_public_call_opens_a_store(store):
  window = alphaecoli.open_store(store.path).window(17, 256)
  assert_same(window, store.window(17, 256))


def test_an_open_store_pickles_small(store):
  store.window(0, 2048)
  data = pickle.dumps(store)
  assert len(data) < 20_000
  assert_same(pickle.loads(data).window(17, 256), store.window(17, 256))


def test_an_unknown_split_is_refused(store):
  with pytest.raises(
    ConfigError, match="no split 'valid'; expected one of train, validation, test"
  ):
    store.regions("valid")


def test_the_manifest_describes_the_files(store):
  manifest = json.loads((store.path / "manifest.json").read_text())
  assert sorted(p.name for p in store.path.iterdir()) == sorted([*FILES, "manifest.json"])
  assert manifest["contig"] == {
    "name": "toy", "description": "a toy chromosome", "length_bp": 6144, "circular": True,
  }  # fmt: skip
  assert manifest["arrays"]["gene_expression"] == {"dtype": "float32", "shape": [6144, 4]}
  assert manifest["statistics"]["bases"] == {"train": 2048, "validation": 2048, "test": 2048}
  assert manifest["genome_source"] == "file"
  assert manifest["inputs"]["geneDatamart"]["name"] == "geneDatamart.bson"
  assert manifest["quality"]["problems"] == {
    reason: entry["count"] for reason, entry in store.quality["problems"].items()
  }
  assert {"alphaecoli", "python", "numpy", "pymongo"} <= manifest["software"].keys()
  store.verify()


def test_gene_table_columns_are_as_documented(store):
  header, *rows = (store.path / "genes.tsv").read_text().splitlines()
  assert header.split("\t")[:9] == [
    "gene_id", "name", "locus_tag", "start", "end", "strand", "type", "split", "operon_id",
  ]  # fmt: skip
  tracks = (f"log_tpm:{n}" for n in store.table.names)
  assert header.split("\t")[9:] == ["fragments", "operon_evidence", *tracks]
  assert len(rows) == len(GENES)
  fragments = [row.split("\t")[9] for row in rows]
  assert [f for f in fragments if f] == ["2000-2200;2400-2600"]


def test_a_gene_table_of_an_earlier_version_has_no_evidence(broken):
  path = broken / "genes.tsv"
  rows = [line.split("\t") for line in path.read_text().splitlines()]
  path.write_text("".join("\t".join([*row[:10], *row[11:]]) + "\n" for row in rows))
  manifest = json.loads((broken / "manifest.json").read_text())
  manifest["files"]["genes.tsv"]["bytes"] = path.stat().st_size
  (broken / "manifest.json").write_text(json.dumps(manifest))
  genes = open_store(broken).genes
  assert genes.operon_evidence is None
  assert not genes.supported.any() and not genes.unsupported.any()


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_missing_file_is_one_error_that_says_what_to_do(broken, name):
  (broken / name).unlink()
  with pytest.raises(DataError, match=r"--process-data-only") as error:
    open_store(broken)
  assert name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_truncated_file_is_one_error_that_says_what_to_do(broken, name):
  data = (broken / name).read_bytes()
  (broken / name).write_bytes(data[: len(data) // 2])
  with pytest.raises(DataError, match=r"--process-data-only"):
    open_store(broken)


@pytest.mark.parametrize("key", ["format", "format_version"])
def test_what_a_manifest_says_is_told_in_brief(broken, key):
  manifest = json.loads((broken / "manifest.json").read_text())
  (broken / "manifest.json").write_text(json.dumps({**manifest, key: "A" * 5000}))
  with pytest.raises(DataError, match="AAA…") as caught:
    open_store(broken)
  assert len(str(caught.value)) < 600 + len(str(broken))


def test_a_store_of_another_version_is_refused(broken):
  manifest = json.loads((broken / "manifest.json").read_text())
  (broken / "manifest.json").write_text(json.dumps({**manifest, "format_version": 99}))
  with pytest.raises(DataError, match="version 99; expected alphaecoli-track-store version 1"):
    open_store(broken)


@pytest.mark.parametrize("text", ["[]", "{}", "not json", '{"format": 1}', "\xff"])
def test_a_manifest_that_is_not_one_is_refused(broken, text):
  (broken / "manifest.json").write_bytes(text.encode("latin-1"))
  with pytest.raises(DataError):
    open_store(broken)


@pytest.mark.parametrize("key", ["tracks", "contig", "splits", "files", "arrays", "fingerprint"])
def test_a_manifest_that_lacks_an_entry_is_refused(broken, key):
  manifest = json.loads((broken / "manifest.json").read_text())
  del manifest[key]
  (broken / "manifest.json").write_text(json.dumps(manifest))
  with pytest.raises(DataError, match="broken manifest"):
    open_store(broken)


def test_an_array_of_another_shape_is_refused(broken):
  values = np.load(broken / "gene_expression.npy")
  np.save(broken / "gene_expression.npy", values.T)
  with pytest.raises(DataError, match=r"expected float32 \(6144, 4\)"):
    open_store(broken)


def test_an_array_whose_header_is_cut_is_refused(broken):
  path = broken / "sequence.npy"
  path.write_bytes(path.read_bytes().replace(b"}", b" ", 1))  # numpy looks for the end of it
  with pytest.raises(DataError, match=r"sequence\.npy: broken array"):
    open_store(broken)


def test_changed_bytes_are_found_by_verify(broken):
  with (broken / "sequence.npy").open("r+b") as file:
    file.seek(-1, 2)
    file.write(b"\x07")
  store = open_store(broken)
  with pytest.raises(DataError, match=r"sequence\.npy: not what was written"):
    store.verify()


def test_a_broken_gene_table_is_refused(broken):
  path = broken / "genes.tsv"
  text = path.read_text()
  path.write_text(text.replace("4096", "4o96").replace("forward", "x").replace("\t1\t", "\tx\t"))
  with pytest.raises(DataError, match="broken gene table"):
    _ = open_store(broken).genes


def test_an_error_about_a_gene_table_does_not_repeat_it(broken):
  path = broken / "genes.tsv"
  path.write_text(path.read_text().replace("\t1\t", "\t1" + 5000 * "x" + "\t"))
  manifest = json.loads((broken / "manifest.json").read_text())
  manifest["files"]["genes.tsv"]["bytes"] = path.stat().st_size
  (broken / "manifest.json").write_text(json.dumps(manifest))
  with pytest.raises(DataError, match="broken gene table") as error:
    open_store(broken).annotation()
  assert len(str(error.value)) < 800


def test_a_directory_above_stores_names_one(store):
  with pytest.raises(DataError, match=f"did you mean .*{store.path.name}"):
    open_store(store.path.parent)
