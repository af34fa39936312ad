"""Array formats, read back by their own libraries."""

import json

import numpy as np
import pytest
import xarray
import zarr

from alphaecoli.inference import writers as arrays
from tests.inference.standin import TABLE, predictor, random_codes

CONTIGS = [("a/b", 1000), ("a b", 70_000), ("z", 1)]
HEADS = ("gene_expression", "gene_density", "operon_membership")


@pytest.fixture(scope="module")
def predictions():
  return {
    name: predictor().predict(random_codes(n, seed=n), circular=name == "z") for name, n in CONTIGS
  }


def write(kind, folder, predictions, heads=HEADS):
  writer = kind(folder, CONTIGS, TABLE.names, heads)
  for name, _ in CONTIGS:
    writer.write(name, predictions[name])
  writer.close()
  return writer.describe("log_tpm")


def test_npz_by_numpy(tmp_path, predictions):
  (entry,) = write(arrays.NpzArrays, tmp_path, predictions)
  folder = tmp_path / entry["file"]
  about = json.loads((folder / "attributes.json").read_text())
  assert list(about["contigs"]) == [name for name, _ in CONTIGS]
  assert about["contigs"]["z"]["circular"] and not about["contigs"]["a b"]["circular"]
  assert about["arrays"]["gene_expression"] == {
    "units": "ln(1 + TPM)",
    "resolution_bp": 1,
    "tracks": list(TABLE.names),
  }
  for name, _ in CONTIGS:
    with np.load(folder / about["contigs"][name]["file"], allow_pickle=False) as found:
      assert sorted(found) == sorted(HEADS)
      for head in HEADS:
        assert np.array_equal(found[head], getattr(predictions[name], head))


def test_zarr_by_zarr_and_xarray(tmp_path, predictions):
  (entry,) = write(arrays.ZarrArrays, tmp_path, predictions, HEADS[1:])
  root = zarr.open_group(tmp_path / entry["file"], mode="r")
  assert sorted(root.group_keys()) == ["a_b", "a_b_1", "z"]
  for name, _ in CONTIGS:
    group = root[root.attrs["contigs"][name]]
    assert group.attrs["contig"] == name and sorted(group.array_keys()) == sorted(HEADS[1:])
    for head in HEADS[1:]:
      assert np.array_equal(group[head][:], getattr(predictions[name], head))
  assert group["gene_density"].attrs["units"] == "genes per 128 bp"
  assert group["gene_density"].attrs["resolution_bp"] == 128


def test_zarr_has_consolidated_metadata_for_the_whole_and_each_contig(tmp_path, predictions):
  (entry,) = write(arrays.ZarrArrays, tmp_path, predictions, HEADS[1:])
  root = tmp_path / entry["file"]
  # Without it xarray warns, and warnings are errors here; `consolidated=True` insists on it.
  for path, group in ((root / "a_b_1", None), (root, "a_b_1")):
    for consolidated in (None, True):
      with xarray.open_dataset(path, group=group, engine="zarr", consolidated=consolidated) as data:
        assert data["operon_membership"].dims == ("position", "operon_membership_track")
        assert np.array_equal(data["operon_membership"], predictions["a b"].operon_membership)
  with xarray.open_datatree(root, engine="zarr") as tree:
    assert set(tree.groups) == {"/", "/a_b", "/a_b_1", "/z"}
