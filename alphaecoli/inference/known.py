"""What a track store knows of genes: observed expression, operons and splits."""

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np

from alphaecoli.errors import DataError
from alphaecoli.genomics.genes import Annotation, Gene
from alphaecoli.tracks.gene_table import GeneTable, read_genes

MANIFEST, GENES = "manifest.json", "genes.tsv"  # of a store


@dataclasses.dataclass(frozen=True)
class KnownGenes:
  """The genes of a track store.

  Attributes:
    path: the store.
    contig: the chromosome they lie on.
    length_bp: its length.
    circular: whether it is a ring.
    tracks: names of the observed tracks.
    table: the genes.
    fingerprint: of the store.
  """

  path: Path
  contig: str
  length_bp: int
  circular: bool
  tracks: tuple[str, ...]
  table: GeneTable
  fingerprint: str

  @functools.cached_property
  def _rows(self) -> dict[str, int]:
    """Row of each locus tag, and of each id."""
    ids = {name: row for row, name in enumerate(self.table.gene_id.tolist())}
    return ids | {name: row for row, name in enumerate(self.table.locus_tag.tolist()) if name}

  def row(self, gene: Gene) -> int | None:
    """The row of a gene of an annotation: the same locus tag, else the same id."""
    return self._rows.get(gene.locus_tag, self._rows.get(gene.id))

  def log_tpm(self, row: int, track: str) -> float:
    """Observed ln(1 + TPM); NaN where unknown."""
    return (
      float(self.table.log_tpm[row, self.tracks.index(track)]) if track in self.tracks else np.nan
    )

  def annotation(self) -> Annotation:
    """The genes as an annotation of the chromosome."""
    table, genes = self.table, []
    for row in range(len(table)):
      gene = Gene(
        id=str(table.gene_id[row]),
        locus_tag=str(table.locus_tag[row]),
        name=str(table.name[row]),
        type=str(table.type[row]),
        contig=self.contig,
        start=int(table.start[row]),
        end=int(table.end[row]),
        strand=int(table.strand[row]),
        fragments=table.fragments[row],
        line=row + 2,
      )
      genes.append(gene)
    rings = frozenset([self.contig]) if self.circular else frozenset()
    return Annotation(tuple(genes), rings, self.path / GENES)


def read_known(path: Path) -> KnownGenes:
  """Reads the genes of a store.

  Args:
    path: a track store, or the directory of a run that has one.

  Raises:
    DataError: there is none, several, or it is broken.
  """
  stores = (
    [path] if (path / GENES).is_file() else [p.parent for p in path.glob(f"tracks/*/{GENES}")]
  )
  if len(stores) != 1:
    names = f"; it has {', '.join(sorted(str(p) for p in stores))}" if stores else ""
    raise DataError(f"--store={path}: expected one track store, or a run with one{names}")
  (store,) = stores
  try:
    manifest = json.loads((store / MANIFEST).read_text(encoding="utf-8"))
    contig = manifest["contig"]
    tracks = tuple(track["name"] for track in manifest["tracks"]["expression"])
    return KnownGenes(
      path=store,
      contig=contig["name"],
      length_bp=contig["length_bp"],
      circular=contig["circular"],
      tracks=tracks,
      table=read_genes(store / GENES, tracks),
      fingerprint=manifest["fingerprint"],
    )
  except (OSError, KeyError, ValueError, TypeError) as error:
    raise DataError(f"{store}: broken track store ({error!r}); build it again") from error
