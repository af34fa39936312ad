"""What a model has been trained on, so that held-out bases stay unseen when it is trained further.

A checkpoint says of each genome it has learnt from, and of those its start had learnt from, which
bases they were. Bases count as the same where the whole sequence is the same.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alphaecoli.data.splits import TEST, TRAIN, VALIDATION
from alphaecoli.errors import ConfigError
from alphaecoli.tracks.store import TrackStore
from alphaecoli.training.source import Source

LOGGER = logging.getLogger("alphaecoli")

Seen = Sequence[Mapping[str, Any]]


def training_data(store: TrackStore) -> dict[str, Any]:
  """The bases that training on a store sees."""
  return {
    "contig": store.contig,
    "genome_sha256": hashlib.sha256(store.sequence.tobytes()).hexdigest(),
    "arcs": [list(arc) for arc in store.arcs(TRAIN)],
  }


def trained_on(source: Source, store: TrackStore) -> Seen | None:
  """What a start was trained on, of bacteria; None where it does not say."""
  if not source.meta:  # AlphaGenome's: human and mouse
    return []
  if "trained_on" in source.meta:
    return source.meta["trained_on"]
  same = source.meta["store_fingerprint"] == store.fingerprint  # it is older than this record
  return [training_data(store)] if same else None


def with_stores(seen: Seen, stores: Sequence[TrackStore]) -> list[dict[str, Any]]:
  """The record with what training on stores adds."""
  entries = [dict(entry) for entry in seen]
  for now in map(training_data, stores):
    entries += [] if now in entries else [now]
  return entries


def held_out_seen(seen: Seen, store: TrackStore) -> dict[str, int]:
  """How many bases of each held-out split of a store have been trained on."""
  now, mask = training_data(store), np.zeros(store.length_bp, bool)
  for entry in seen:
    if entry["genome_sha256"] == now["genome_sha256"]:
      for start, end in entry["arcs"]:
        mask[np.arange(start, end) % store.length_bp] = True
  return {
    split: sum(int(mask[np.arange(*arc) % store.length_bp].sum()) for arc in store.arcs(split))
    for split in (VALIDATION, TEST)
  }


def check_seen(source: Source, store: TrackStore, allowed: bool) -> dict[str, int] | None:
  """Compares what a start was trained on with what is held out now.

  Returns:
    Bases seen of each held-out split; None where the checkpoint does not say.

  Raises:
    ConfigError: some were, and that is not allowed.
  """
  seen = trained_on(source, store)
  if seen is None:
    LOGGER.warning(
      "THE CHECKPOINT %s DOES NOT SAY WHAT IT WAS TRAINED ON: where that was this genome with "
      "other folds, figures on validation and test are not held out",
      source.path,
    )
    return None
  counts = held_out_seen(seen, store)
  if not any(counts.values()):
    return counts
  total = {s: sum(arc.length_bp for arc in store.arcs(s)) for s in counts}
  parts = " and ".join(f"{n:,} of {total[s]:,} bases of {s}" for s, n in counts.items() if n)
  text = f"init.from={source.path} was trained on {parts}, so that figures on them say nothing"
  if not allowed:
    data = source.meta["config"]["data"]
    flags = (f"--config.data.{key}={data[key]}" for key in ("fold", "n_folds", "n_blocks"))
    raise ConfigError(
      f"{text}; hold out what it held out ({' '.join(flags)}), or start all the same with "
      "--config.init.allow_seen=true"
    )
  LOGGER.warning("NOT HELD OUT: %s", text)
  return counts
