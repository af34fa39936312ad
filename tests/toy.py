"""A toy circular chromosome with every oddity of a RegulonDB dump, worked out by hand.

`write` puts a complete dump and its FASTA into a directory and returns the truth beside them. The
truth is written down in toy_truth.py as numbers, never computed with the package. `write_random`
makes a longer, plainer chromosome.
"""

import dataclasses
import gzip
import io
import math
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import bson
import numpy as np

from tests.toy_truth import (
  CONDITIONS,
  RESCALED,
  SKIPPED_GENES,
  TPM,
  ToyGene,
  ToyOperon,
  kept_genes,
  kept_operons,
)

__all__ = [
  "COLLECTIONS",
  "CONDITIONS",
  "MIN_GENES_PER_UNIT",
  "PREFIX",
  "RESCALED",
  "SKIPPED_GENES",
  "TPM",
  "ToyDump",
  "ToyGene",
  "ToyOperon",
  "place",
  "random_sequence",
  "write",
  "write_bson",
  "write_fasta",
  "write_random",
]

NAN = math.nan
COLLECTIONS = ("geneDatamart", "operonDatamart", "geneExpression", "dataset")
PREFIX = "GENE_EXPRESSION_"
MIN_GENES_PER_UNIT = 3  # what the hand-worked TPM assume


@dataclasses.dataclass(frozen=True)
class ToyDump:
  """Files and truth. `tpm[data set][gene id]`; a gene that is not listed is unknown."""

  dump: Path
  fasta: Path
  files: dict[str, Path]
  length_bp: int
  sequence: str
  genes: tuple[ToyGene, ...]
  operons: tuple[ToyOperon, ...]
  tpm: dict[str, dict[str, float]]
  conditions: dict[str, dict[str, str]]
  min_genes_per_unit: int = MIN_GENES_PER_UNIT

  def tpm_matrix(self, gene_ids: Sequence[str], datasets: Sequence[str]) -> np.ndarray:
    """The TPM as (genes, data sets), NaN where unknown."""
    return np.array([[self.tpm[d].get(g, NAN) for d in datasets] for g in gene_ids])


def write_bson(path: Path, documents: Iterable[dict[str, Any] | bytes], compression="") -> Path:
  """Writes documents (or raw bytes) as `path`, `path.gz` or `path.zip`; returns the file."""
  data = b"".join(d if isinstance(d, bytes) else bson.encode(d) for d in documents)
  path.parent.mkdir(parents=True, exist_ok=True)
  path = path.with_name(path.name + compression)
  if compression == ".gz":
    path.write_bytes(gzip.compress(data, mtime=0))
  elif compression == ".zip":
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
      archive.writestr(path.name.removesuffix(".zip"), data)
    path.write_bytes(buffer.getvalue())
  else:
    path.write_bytes(data)
  return path


def place(directory: Path, layout: str, collection: str) -> Path:
  """Where a collection lies. layout: "flat", "dump" (an extra dump/) or "2021" (no regulondbht)."""
  base = directory / "dump" if layout == "dump" else directory
  ht = collection in ("geneExpression", "dataset") and layout != "2021"
  return base / ("regulondbht" if ht else "regulondbdatamarts") / f"{collection}.bson"


def write(
  directory: Path,
  *,
  length_bp: int = 6144,
  generation: str = "2023",
  compression: str = "",
  layout: str = "flat",
  collections: Sequence[str] = COLLECTIONS,
) -> ToyDump:
  """Writes the hand-worked dump.

  Args:
    directory: becomes the dump directory; the FASTA goes there too.
    length_bp: at least 4096.
    generation: "2022" (nested `id`, `gene_id`, numbers as strings) or "2023".
    compression: "", ".gz" or ".zip".
    layout: see `place`.
    collections: which to write.
  """
  assert length_bp >= 4096
  directory = Path(directory)
  old = generation == "2022"
  documents = {
    "geneDatamart": gene_documents(length_bp, old),
    "operonDatamart": operon_documents(length_bp, old),
    "geneExpression": expression_documents(old),
    "dataset": dataset_documents(old),
  }
  files = {
    c: write_bson(place(directory, layout, c), documents[c], compression) for c in collections
  }
  sequence = random_sequence(length_bp, seed=1)
  fasta = write_fasta(directory / "toy.fna", sequence)
  genes = tuple(kept_genes(length_bp))
  return ToyDump(
    directory, fasta, files, length_bp, sequence, genes, tuple(kept_operons(length_bp)),
    {d: {g: v for g, v in row.items() if not math.isnan(v)} for d, row in TPM.items()},
    CONDITIONS,
  )  # fmt: skip


def random_sequence(length_bp: int, seed: int) -> str:
  """A C G T with a few lower case letters and an N, as FASTA files have them."""
  letters = np.random.default_rng(seed).choice(list("ACGT"), length_bp)
  letters[10:20] = [c.lower() for c in letters[10:20]]
  letters[40] = "N"
  return "".join(letters)


def write_fasta(path: Path, sequence: str, name: str = "toy") -> Path:
  """One contig, 70 letters a line."""
  path.parent.mkdir(parents=True, exist_ok=True)
  lines = [sequence[i : i + 70] for i in range(0, len(sequence), 70)]
  path.write_text("\n".join([f">{name} a toy chromosome", *lines]) + "\n")
  return path


def gene_documents(length: int, old: bool) -> list[dict[str, Any]]:
  """geneDatamart."""
  genes: list[dict[str, Any]] = []
  for gene in kept_genes(length):
    left, right = gene.start + 1, gene.end if gene.end <= length else gene.end - length
    value: dict[str, Any] = {"_id": gene.id, "name": gene.name, "synonyms": [gene.name]}
    if gene.locus_tag:
      value["bnumber"] = gene.locus_tag
    as_string = gene.id == "T07"
    value["leftEndPosition"] = str(left) if as_string else left
    value["rightEndPosition"] = str(right) if as_string else right
    value["strand"] = {1: "forward", -1: "reverse", 0: None}[gene.strand]
    value["type"] = gene.type
    value["fragments"] = [
      {"_id": f"{gene.id}.{i}", "leftEndPosition": a + 1, "rightEndPosition": b}
      for i, (a, b) in enumerate(gene.fragments)
    ]
    genes.append(value)
  base = {"synonyms": [], "strand": "forward", "type": "mRNA"}
  genes += [
    base | {"_id": "T05", "name": "phaX", "bnumber": "b0005", "leftEndPosition": 1001,
            "rightEndPosition": 1100, "type": "phantom"},
    base | {"_id": "T06", "name": "nulP", "bnumber": "b0006", "leftEndPosition": None,
            "rightEndPosition": None},
    base | {"_id": "T12", "name": "badP", "bnumber": "b0012", "leftEndPosition": length + 10,
            "rightEndPosition": length + 200},
  ]  # fmt: skip
  return [
    {"_id": g["_id"], "gene": nested(g, old), "organism": {"_id": "ECOLI"}, "schemaVersion": 1.0}
    for g in genes
  ]


def nested(value: dict[str, Any], old: bool) -> dict[str, Any]:
  """Nested objects had `id` before March 2023."""
  if not old:
    return value
  return {("id" if k == "_id" else k): v for k, v in value.items()}


def operon_documents(length: int, old: bool) -> list[dict[str, Any]]:
  """operonDatamart."""

  def operon(id, left, right, strand, *units):
    return {
      "_id": id,
      "operon": nested(
        {
          "_id": id,
          "name": id.lower(),
          "strand": strand,
          "regulationPositions": {"leftEndPosition": left, "rightEndPosition": right},
        },
        old,
      ),
      "transcriptionUnits": [
        nested(
          {"_id": f"{id}-{i}", "genes": [nested({"_id": g, "name": g}, old) for g in unit]}, old
        )
        for i, unit in enumerate(units)
      ],
      "organism": {"_id": "ECOLI"},
    }

  return [
    operon("O1", 101, 700, "forward", ["T02"], ["T02", "T03"]),
    operon("O2", 651, 900, "reverse", ["T04"]),
    operon("O3", length - 299, 50, "forward", ["T14", "T01"]),
    operon("O4", "1201", "1500", None, ["T07", "TX99"]),
    operon("O5", 2701, 3000, "forward", ["T05", "T10"]),
    operon("O6", None, None, "forward", ["T08", "T09"]),
    operon("O7", None, None, "forward", ["TX97"]),  # nothing to place it by: skipped
  ]


ABSENT = object()


def expression_documents(old: bool) -> list[dict[str, Any]]:
  """geneExpression."""
  documents: list[dict[str, Any]] = []
  bnumbers = {f"T{i:02d}": f"b{i:04d}" for i in range(1, 15) if i != 8}

  def number(value):
    return f"{value:.6f}" if old and isinstance(value, int | float) else value

  def add(dataset, gene, tpm=None, fpkm=None, count=None, **fields):
    tag = bnumbers.get(gene, gene)
    name = dataset if old else PREFIX + dataset
    document: dict[str, Any] = {"_id": f"{name},{tag}" if old else f"{name}_{tag}"}
    for key, value in (("count", count), ("fpkm", fpkm), ("tpm", tpm)):
      if value is not ABSENT:
        document[key] = number(value)
    document["datasetIds"] = [name]
    value = {"gene_id" if old else "_id": gene, "gene_name" if old else "name": gene}
    if gene in bnumbers:
      value["bnumber"] = bnumbers[gene]
    document["gene"] = value
    documents.append(document | fields)

  for gene, tpm in TPM["ERR_TPMS"].items():
    for value in (100, 300) if gene == "T02" else (tpm,):
      add("ERR_TPMS", gene, tpm=value, fpkm=7.0)  # FPKM must be ignored
  add("ERR_TPMS", "T11", tpm=None, fpkm=7.0)
  add("ERR_TPMS", "T98", tpm=5.0)  # not in geneDatamart
  documents[-1]["gene"]["bnumber"] = "b9999"
  add("ERR_TPMS", "T05", tpm=999.0)  # a phantom
  add("ERR_TPMS", "T06", tpm=999.0)  # a gene without position
  add("ERR_TPMS", "T97", tpm=5.0)
  del documents[-1]["gene"]
  add("ERR_TPMS", "T01", tpm=5.0, datasetIds=[])

  for gene, tpm in (("T01", 10.0), ("T02", 20.0), ("T03", ABSENT), ("T04", 30.0), ("T14", None)):
    add("ERR_DROP", gene, tpm=tpm, fpkm=ABSENT, count=ABSENT)
  for gene, tpm in (("T01", 10), ("T02", 0), ("T03", ABSENT), ("T04", 30), ("T07", 40)):
    add("ERR_EXPL", gene, tpm=tpm, fpkm=ABSENT)
  for i, gene in enumerate(("T01", "T02", "T03", "T04")):
    add("ERR_FPKMS", gene, tpm=5.0 if i == 0 else None, fpkm=10.0 * (i + 1))
  for gene, count in (("T01", 150), ("T02", 600), ("T04", 500), ("T09", 2000)):
    add("ERR_COUNTED", gene, count=str(count))
  for gene, tpm in (("T01", 192631014), ("T02", 96315507), ("T03", 96315507.0)):
    add("ERR_HUGE", gene, tpm=tpm)
  bad = (("T01", NAN), ("T02", -5), ("T03", math.inf), ("T04", "abc"))
  for gene, tpm in (*bad, ("T07", 10), ("T08", 20), ("T09", 30)):
    add("ERR_BAD", gene, tpm=tpm)
  add("ERR_FEW", "T01", tpm=5)
  return documents


def dataset_documents(old: bool) -> list[dict[str, Any]]:
  """dataset: growth conditions are one object in some releases, a list of them in others."""
  documents = []
  for name, conditions in CONDITIONS.items():
    value: dict[str, Any] = dict(conditions) | {"ph": None}
    if "otherTerms" in value:
      value["otherTerms"] = value["otherTerms"].split("; ")
    document: dict[str, Any] = {"_id": name if old else PREFIX + name, "sample": {"title": name}}
    if conditions:
      document["growthConditions"] = value if old else [value]
    documents.append(document)
  return documents


def write_random(
  directory: Path, length_bp: int = 60_000, seed: int = 0, n_datasets: int = 4
) -> ToyDump:
  """A plain random chromosome, one gene in about 1 kb, in operons of 1 to 5; 2023 documents.

  A gene's TPM depends on its strand and its operon, so that a model has something to learn. Genes
  near the origin may wrap it. One gene in 20 was never measured.
  """
  directory = Path(directory)
  rng = np.random.default_rng(seed)
  genes: list[ToyGene] = []
  operons: list[ToyOperon] = []
  level: list[float] = []
  position = int(rng.integers(50, 300))
  last = length_bp + int(rng.integers(-100, 40))
  while position < last - 300:
    strand = int(rng.choice([-1, 1]))
    first = len(genes)
    base = rng.normal(3.5 + strand, 1.0)
    for _ in range(int(rng.integers(1, 6))):
      end = position + 3 * int(rng.integers(60, 480))
      if end > last:
        break
      i = len(genes) + 1
      genes.append(ToyGene(f"G{i:04d}", f"gen{i}", f"b{i:04d}", position, end, strand))
      level.append(base + rng.normal(0, 0.3))
      position = end + int(rng.integers(-8, 60))
    if len(genes) == first:
      break
    members = tuple(g.id for g in genes[first:])
    span = genes[first].start, genes[-1].end
    operons.append(ToyOperon(f"P{len(operons) + 1:04d}", *span, strand, members))
    position = genes[-1].end + int(rng.integers(60, 250))
  names = [f"RND{i:02d}" for i in range(n_datasets)]
  tpm: dict[str, dict[str, float]] = {}
  for name in names:
    values = np.exp(np.array(level) + rng.normal(0, 0.2, len(level)))
    values *= 1e6 / values.sum()
    measured = rng.random(len(genes)) > 0.05
    tpm[name] = {
      g.id: round(float(v), 6) for g, v, m in zip(genes, values, measured, strict=True) if m
    }
  conditions = {n: {"medium": "M9" if i % 2 else "LB"} for i, n in enumerate(names)}
  files = _write_random_documents(directory, length_bp, genes, operons, tpm, conditions)
  sequence = random_sequence(length_bp, seed)
  return ToyDump(
    directory, write_fasta(directory / "toy.fna", sequence), files, length_bp, sequence,
    tuple(genes), tuple(operons), tpm, conditions, min_genes_per_unit=10,
  )  # fmt: skip


def _write_random_documents(directory, length_bp, genes, operons, tpm, conditions):
  def span(item):
    wraps = item.end > length_bp
    return {
      "leftEndPosition": item.start + 1,
      "rightEndPosition": item.end - length_bp if wraps else item.end,
    }

  strands = {1: "forward", -1: "reverse"}
  by_id = {g.id: g for g in genes}
  documents = {
    "geneDatamart": [
      {
        "_id": g.id,
        "gene": {"_id": g.id, "name": g.name, "bnumber": g.locus_tag, **span(g)}
        | {"strand": strands[g.strand], "type": g.type},
        "organism": {"_id": "TOY"},
      }
      for g in genes
    ],
    "operonDatamart": [
      {
        "_id": o.id,
        "operon": {"_id": o.id, "name": o.id, "strand": strands[o.strand]}
        | {"regulationPositions": span(o)},
        "transcriptionUnits": [{"_id": o.id, "genes": [{"_id": g} for g in o.gene_ids]}],
      }
      for o in operons
    ],
    "geneExpression": [
      {
        "_id": f"{PREFIX}{d}_{by_id[g].locus_tag}",
        "count": None,
        "datasetIds": [PREFIX + d],
        "fpkm": None,
        "gene": {"_id": g, "name": by_id[g].name, "bnumber": by_id[g].locus_tag},
        "tpm": value,
      }
      for d, row in tpm.items()
      for g, value in row.items()
    ],
    "dataset": [
      {"_id": PREFIX + d, "growthConditions": [fields]} for d, fields in conditions.items()
    ],
  }
  return {c: write_bson(place(directory, "flat", c), documents[c]) for c in COLLECTIONS}
