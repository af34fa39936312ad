"""What one fold's model gave on its held-out split, in a file beside its run."""

import dataclasses
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from alphaecoli.checkpoints.read import LoadedCheckpoint, hash_checkpoint
from alphaecoli.errors import DataError
from alphaecoli.evaluation.results import Report
from alphaecoli.evaluation.run import gene_table
from alphaecoli.evaluation.split_arrays import Layout
from alphaecoli.files import atomic_write
from alphaecoli.tracks.store import TrackStore
from alphaecoli.tracks.track_table import trained_heads

_BASES, _GENES, _PAIRS = "bases.", "genes.", "pairs."  # prefixes of arrays in the file


@dataclasses.dataclass(frozen=True)
class FoldResult:
  """What one fold's model gave on its held-out split.

  Attributes:
    metadata: JSON object: fold, step, checkpoint (name of its folder) and checkpoint_sha256,
      contig, tracks, the run's config, and the evaluation's report.
    layout: place of the split's regions in `bases`.
    bases: by head, over split positions: log TPM (n, T), genes per bin at the first base of bins
      (n,), probability (n,); NaN where nothing was predicted.
    genes: columns over the genes that lie fully in the split, observed beside predicted.
    pairs: the same over neighbouring genes on one strand.
  """

  metadata: Mapping[str, Any]
  layout: Layout
  bases: Mapping[str, np.ndarray]
  genes: Mapping[str, np.ndarray]
  pairs: Mapping[str, np.ndarray]

  @classmethod
  def of(cls, loaded: LoadedCheckpoint, store: TrackStore, report: Report) -> "FoldResult":
    """Collects what an evaluation found, in the units of users."""
    found, table = report.predictions, store.table
    metadata = {
      "fold": store.manifest["config"]["fold"],
      "step": loaded.step,
      "checkpoint": loaded.path.name,
      "checkpoint_sha256": hash_checkpoint(loaded.path),
      "contig": store.contig,
      "tracks": list(table.names),
      "config": loaded.config.to_dict(),
      "report": report.to_json(),
    }
    bases = {
      "gene_expression": table.to_log_tpm(found.bases["gene_expression"]),
      "gene_density": found.bases["gene_density"][:, 0],
      "operon_membership": special.expit(found.bases["operon_membership"][:, 0]),
    }
    trained = trained_heads(loaded.config.loss.weights, loaded.table)
    for head in bases.keys() - set(trained):
      bases[head] = np.full_like(bases[head], np.nan)
    genes = gene_table(found.genes, table)
    return cls(metadata, found.layout, bases, genes, pair_table(found.genes, found.pairs))

  def write(self, path: Path) -> None:
    """Writes the file of a fold.

    Raises:
      DataError: it can not be written.
    """
    arrays = {
      "metadata": np.array(json.dumps(self.metadata)),
      "regions": np.array(self.layout.regions, np.int64).reshape(-1, 2),
      "length_bp": np.int64(self.layout.length_bp),
    }
    for prefix, part in ((_BASES, self.bases), (_GENES, self.genes), (_PAIRS, self.pairs)):
      arrays |= {prefix + name: values for name, values in part.items()}
    write_npz(path, arrays)

  @classmethod
  def read(cls, path: Path) -> "FoldResult":
    """Reads the file of a fold.

    Raises:
      DataError: it is broken.
    """
    try:
      with open(path, "rb") as opened, np.load(opened) as file:
        arrays = dict(file)
      regions = tuple((int(start), int(end)) for start, end in arrays["regions"])
      layout = Layout(regions, int(arrays["length_bp"]))
      metadata = json.loads(str(arrays["metadata"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
      raise DataError(f"{path}: can not be read ({error}); delete it and run again") from error
    bases, genes, pairs = (
      {name.removeprefix(p): values for name, values in arrays.items() if name.startswith(p)}
      for p in (_BASES, _GENES, _PAIRS)
    )
    return cls(metadata, layout, bases, genes, pairs)


def pair_table(
  genes: Mapping[str, np.ndarray], pairs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Returns the columns of a table of pairs: genes, distance, observed and predicted operon."""
  columns = {
    f"{side}_{short}": genes[key][pairs[side]]
    for side in ("left", "right")
    for short, key in (("id", "gene_id"), ("locus_tag", "locus_tag"), ("name", "name"))
  }
  columns |= {"strand": genes["strand"][pairs["left"]], "start": genes["start"][pairs["left"]]}
  columns |= {"distance_bp": pairs["distance_bp"]}
  columns |= {"observed_same_operon": pairs["same_operon"].astype(np.int64)}
  # What is left are scores.
  done = {"left", "right", "low", "high", "distance_bp", "same_operon", "experimental"}
  return columns | {key: values for key, values in pairs.items() if key not in done}


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
  """Writes compressed arrays to a file that is either whole or absent.

  Raises:
    DataError: the file can not be written.
  """
  with atomic_write(path) as file:
    np.savez_compressed(file.buffer, **arrays)
