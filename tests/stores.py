"""Track stores of toy chromosomes, for tests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alphaecoli import config
from alphaecoli.schema import Config
from alphaecoli.tracks.process import process_data
from alphaecoli.tracks.store import TrackStore
from tests import toy

WINDOW_BP = 2048


def config_of(**data: Any) -> Config:
  """The values of configs/base.py with another data section."""
  base = config.base_config()
  config.apply_overrides(base, {f"data.{key}": value for key, value in data.items()})
  return config.resolve(base)


def toy_config(dump: toy.ToyDump, **data: Any) -> Config:
  """A toy dump and windows that fit its regions."""
  paths = {"dump": str(dump.dump), "genome": str(dump.fasta)}
  sizes = {"window_bp": WINDOW_BP, "min_genes_per_unit": dump.min_genes_per_unit}
  return config_of(**{**paths, **sizes, **data})


def damage_beside(folder: Path) -> None:
  """Adds stores that can not be opened: one of another version, one with a broken manifest."""
  old = '{"format": "alphaecoli-track-store", "format_version": 0, "fingerprint": "x"}'
  for name, manifest in (("0" * 16, old), ("1" * 16, "{")):
    (folder / name).mkdir()
    (folder / name / "manifest.json").write_text(manifest)


def random_store(directory: Path, *, length_bp: int = 120_000, seed: int = 0, **data: Any):
  """A store of `toy.write_random`; its held-out regions are length_bp / 20 each."""
  dump = toy.write_random(directory / "dump", length_bp, seed)
  return process_data(toy_config(dump, **data), directory)


def hand_worked_store(
  directory: Path, evidence: Mapping[str, str] | None = None, **data: Any
) -> TrackStore:
  """A store of `toy.write`: three blocks, one for each split; with evidence codes of operons."""
  dump = toy.write(directory / "dump")
  if evidence:
    documents = toy.operon_documents(dump.length_bp, old=False)
    for document in documents:
      for unit in document["transcriptionUnits"]:
        unit["citations"] = [{"evidence": {"code": evidence.get(document["_id"])}}]
    toy.write_bson(dump.files["operonDatamart"], documents)
  settings = {"n_blocks": 3, "n_folds": 3, "block_offset": 0.0, **data}
  return process_data(toy_config(dump, **settings), directory)
