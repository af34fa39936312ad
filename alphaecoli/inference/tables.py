"""Tables of genes and of neighbouring genes; called genes and operons as GFF3 and BED.

Positions in tables and GFF3 are 1-based and inclusive; in BED they are 0-based and half-open.
"""

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int

from alphaecoli.files import optional, tsv_writer, write_text
from alphaecoli.genomics.gene_calls import CalledGene
from alphaecoli.genomics.genes import Gene
from alphaecoli.genomics.gff3 import gff3_header, gff3_line
from alphaecoli.genomics.intervals import split_at_origin
from alphaecoli.genomics.sequence import decode, reverse_complement
from alphaecoli.inference.genomes import NamedContig
from alphaecoli.inference.operon_calls import GenePair, PredictedOperon
from alphaecoli.inference.prediction import UNITS, Prediction, spread_of
from alphaecoli.outputs.bigbed import Feature
from alphaecoli.outputs.browsers import OPERON
from alphaecoli.outputs.genbank import AnnotatedContig
from alphaecoli.tracks.store import TrackStore

LOGGER = logging.getLogger(__name__)

GENES, PAIRS, OPERONS = "genes", "pairs", "operons"
STRANDS = {1: "+", -1: "-", 0: "."}
BED_COLUMNS = ("chrom", "chromStart", "chromEnd", "name", "score", "strand", "probability", "genes")

Row = dict[str, Any]


def gene_rows(
  contig: NamedContig,
  prediction: Prediction,
  operon_names: Mapping[int, str],
  store: TrackStore | None = None,
  members: Sequence[str] = (),
  annotated: Float64[np.ndarray, "G T"] | None = None,
  has_spread: bool = False,
) -> list[Row]:
  """Makes one row a gene.

  A gene's log_tpm is the mean over its bases of the predicted ln(1 + TPM), which is what the model
  learnt from; its tpm is exp(log_tpm) - 1, at least 0; log_tpm_annotated weighs it against the
  gene's codon use and its likely operon mates. A head that was not trained gives NaN.

  Args:
    contig: contig with its genes.
    prediction: tracks of the whole contig.
    operon_names: name of the predicted operon of each gene that is in one, by the gene's number.
    store: source of observed values, operons and splits, which are left out without one.
    members: names of an ensemble's members, for who predicted the gene.
    annotated: log_tpm of all genes by the expression models, in columns of their own.
    has_spread: whether the deviations over an ensemble's members follow, NaN without members.
  """
  log_tpm = prediction.in_units("log_tpm")
  logs, origin = log_tpm.gene_expression, prediction.origin
  rows = []
  for number, gene in enumerate(contig.genes):
    bases = gene.bases(len(logs))
    row: Row = {
      "id": gene.id,
      "locus_tag": gene.locus_tag,
      "name": gene.name,
      "type": gene.type,
      "contig": contig.label,
      "start": gene.start + 1,
      "end": gene.end,
      "strand": STRANDS[gene.strand],
    }
    values = _gene_values(logs, prediction, bases)
    row |= values
    if annotated is not None:
      for track, value in zip(prediction.tracks, annotated[number].tolist(), strict=True):
        row[f"log_tpm_annotated:{track}"] = value
    row["operon"] = operon_names.get(number, "")
    each = [_gene_values(m.gene_expression, m, bases) for m in log_tpm.members]
    row |= _spreads(values, each) if has_spread else {}
    if origin is not None:
      used = np.flatnonzero(origin.by[:, bases].any(axis=1))
      row["members"] = ",".join(members[number] for number in used.tolist())
      row["seen"] = float(origin.seen[bases].mean())
    if store is not None:
      row |= _observed(gene, prediction.tracks, store)
    rows.append(row)
  return rows


def _gene_values(
  logs: Float32[np.ndarray, "L T"], prediction: Prediction, bases: Int[np.ndarray, " n"]
) -> dict[str, float]:
  """Computes the predicted columns of a gene."""
  row: dict[str, float] = {}
  means = logs[bases].mean(axis=0, dtype=np.float64)
  for track, value in zip(prediction.tracks, means.tolist(), strict=True):
    row |= {f"log_tpm:{track}": value, f"tpm:{track}": max(np.expm1(value), 0.0)}
  membership = prediction.operon_membership[bases]
  return {**row, "operon_probability": float(membership.mean(dtype=np.float64))}


def _spreads(values: Mapping[str, Any], members: Sequence[Mapping[str, float]]) -> Row:
  """Computes the deviations of columns over members, `log_tpm_spread:<track>`; NaN without."""
  row: Row = {}
  for name in values:
    kind, colon, track = name.partition(":")
    spread = float(spread_of([m[name] for m in members])) if members else np.nan
    row[f"{kind}_spread{colon}{track}"] = spread
  return row


def _observed(gene: Gene, tracks: Sequence[str], store: TrackStore) -> Row:
  """Makes the observed columns of a gene; empty where the store does not have it."""
  at = store.all_genes.row(gene)
  row: Row = {}
  for track in tracks:
    value = np.nan if at is None else store.log_tpm(at, track)
    row |= {f"observed_log_tpm:{track}": value, f"observed_tpm:{track}": np.expm1(value)}
  row["observed_operon"] = "" if at is None else str(store.all_genes.operon_id[at])
  row["split"] = "" if at is None else str(store.all_genes.split[at])
  return row


def pair_rows(
  contig: NamedContig,
  pairs: Sequence[GenePair],
  threshold: float,
  store: TrackStore | None = None,
  members: Sequence[Sequence[GenePair]] | None = None,
) -> list[Row]:
  """Makes one row a pair of neighbours on one strand, in the order of the contig.

  Args:
    contig: contig with its genes.
    pairs: pairs of these genes.
    threshold: probability from which a pair counts as of one operon.
    store: source of whether they share an observed operon, and of their split ("border" where they
      differ); these are left out without one.
    members: the same pairs by each member of an ensemble, for deviations; empty: these are NaN.
  """
  rows = []
  for number, pair in enumerate(pairs):
    left, right = contig.genes[pair.left], contig.genes[pair.right]
    row: Row = {"contig": contig.label, "strand": STRANDS[left.strand]}
    for side, gene in (("left", left), ("right", right)):
      row |= {f"{side}_id": gene.id, f"{side}_locus_tag": gene.locus_tag, f"{side}_name": gene.name}
    row |= {
      "distance_bp": pair.distance_bp,
      "probability": pair.probability,
      "same_operon": int(pair.best >= threshold),
    }
    probabilities = _probabilities(pair)
    row |= probabilities
    if members is not None:
      row |= _spreads(probabilities, [_probabilities(member[number]) for member in members])
    if store is not None:
      row |= _observed_pair(left, right, store)
    rows.append(row)
  return rows


def _probabilities(pair: GenePair) -> dict[str, float]:
  """Returns the predicted columns of a pair."""
  kinds = "probability", "probability_membership", "probability_annotated"
  values = ((kind, getattr(pair, kind)) for kind in kinds)
  return {kind: value for kind, value in values if value is not None}


def _observed_pair(left: Gene, right: Gene, store: TrackStore) -> Row:
  """Tells whether a store has both genes in one operon; None where it lacks one of them."""
  first, second = store.all_genes.row(left), store.all_genes.row(right)
  if first is None or second is None:
    return {"observed_same_operon": None, "split": ""}
  operons, splits = store.all_genes.operon_id, store.all_genes.split
  same = operons[first] == operons[second] and operons[first] != ""
  split = str(splits[first]) if splits[first] == splits[second] else "border"
  return {"observed_same_operon": int(same), "split": split}


def write_tsv(path: Path, rows: Sequence[Row]) -> None:
  """Writes rows (at least one), which have the same columns."""
  with tsv_writer(path, list(rows[0])) as add:
    for row in rows:
      add(row.values())


def write_parquet(path: Path, rows: Sequence[Row]) -> None:
  """Writes rows as columns with their types; NaN becomes null, units stand in the metadata."""
  pyarrow, parquet = optional("pyarrow", "formats"), optional("pyarrow.parquet", "formats")
  arrays, fields = [], []
  for name in rows[0]:
    array = pyarrow.array([row[name] for row in rows], from_pandas=True)
    if pyarrow.types.is_null(array.type):
      array = array.cast(pyarrow.float64())
    metadata = {"units": unit} if (unit := _unit(name)) else None
    arrays.append(array)
    fields.append(pyarrow.field(name, array.type, metadata=metadata))
  parquet.write_table(pyarrow.table(arrays, pyarrow.schema(fields)), path)


def _unit(column: str) -> str:
  """Returns the units of a column of the tables, "" where it has none."""
  kind = column.partition(":")[0].removeprefix("observed_").removesuffix("_spread")
  kind = kind.removesuffix("_annotated")
  words = {name: UNITS[name] for name in ("log_tpm", "tpm")}
  words |= {"start": "bp, 1-based", "end": "bp, 1-based, inclusive", "distance_bp": "bp"}
  return words.get(kind, "probability" if "probability" in column else "")


class CalledGeneFile:
  """The genes called from the sequence of a genome, gathered contig by contig: GFF3."""

  def __init__(self, contigs: Sequence[NamedContig]):
    """Starts with the directives."""
    self._gff = [gff3_header((c.label, len(c.codes), c.circular) for c in contigs)]
    self._count = 0

  def add(self, contig: NamedContig, calls: Iterable[CalledGene]) -> NamedContig:
    """Adds the genes of a contig, sorted by start; returns the contig with them, named."""
    genes: list[Gene] = []
    for call in calls:
      name = f"{contig.label}_{len(genes) + 1:04d}"
      kind = "ncRNA_gene" if call.rna else "gene"
      place = call.start, call.end, call.score, call.strand
      notes = {"ID": name, "locus_tag": name}
      self._gff.append(gff3_line(contig.label, kind, *place, notes))
      if not call.rna:
        notes = {"ID": f"{name}.cds", "Parent": name, "locus_tag": name, **_codons(contig, call)}
        self._gff.append(gff3_line(contig.label, "CDS", *place, notes, phase=0))
      gene = Gene(name, "", name, call.start, call.end, call.strand, kind, contig=contig.name)
      genes.append(gene)
    self._count += len(genes)
    return dataclasses.replace(contig, genes=tuple(genes))

  def write(self, folder: Path) -> list[Row]:
    """Writes the file; returns it for the manifest."""
    level = logging.INFO if self._count else logging.WARNING
    LOGGER.log(level, "no annotation: %d genes called from the sequence", self._count)
    write_text(folder / f"{GENES}.gff3", "".join(self._gff))
    return [{"file": f"{GENES}.gff3", "format": "gff3"}]


def _codons(contig: NamedContig, gene: CalledGene) -> dict[str, str]:
  """Returns the first and the last codon of a gene."""
  bases = contig.codes.take(np.arange(gene.start, gene.end), mode="wrap")
  text = decode(bases if gene.strand > 0 else reverse_complement(bases))
  return {"start_codon": text[:3], "stop_codon": text[-3:]}


class OperonFiles:
  """The operons of a genome, gathered contig by contig: GFF3 and BED."""

  def __init__(self, contigs: Sequence[NamedContig]):
    """Starts with the directives."""
    self._gff = [gff3_header((c.label, len(c.codes), c.circular) for c in contigs)]
    self._bed = ["#" + "\t".join(BED_COLUMNS) + "\n"]
    self._count = 0
    self._ids: set[str] = set()
    self.features: list[Feature] = []  # for browsers

  def add(self, contig: NamedContig, operons: Iterable[PredictedOperon]) -> dict[int, str]:
    """Adds the operons of a contig; returns the operon of each gene in one, by its number."""
    names: dict[int, str] = {}
    beds: list[tuple[int, int, str]] = []
    for operon in operons:
      self._count += 1
      name = self._unique(f"operon{self._count}")
      names |= dict.fromkeys(operon.genes, name)
      members = [contig.genes[number] for number in operon.genes]
      self._gff += self._gff_lines(contig, operon, name, members)
      beds += _bed_lines(contig, operon, name)
      self.features += _features(contig, operon, name)
    self._bed += [line for *_, line in sorted(beds)]
    return names

  def _gff_lines(
    self, contig: NamedContig, operon: PredictedOperon, name: str, genes: Sequence[Gene]
  ) -> list[str]:
    """Formats an operon and its genes, which name it as their parent."""
    called = "-".join(gene.name or gene.locus_tag or gene.id for gene in genes)
    notes = {
      "ID": name,
      "Name": called or name,
      "Ontology_term": "SO:0000178",
      "gene_count": str(len(genes)) if genes else "",
    }
    place = contig.label, "operon", operon.start, operon.end, operon.probability, operon.strand
    lines = [gff3_line(*place, notes)]
    for gene in genes:
      kind = gene.type if gene.type.lower().endswith("gene") else "gene"
      notes = {
        "ID": self._unique(gene.id or f"{name}.gene"),
        "Parent": name,
        "Name": gene.name,
        "locus_tag": gene.locus_tag,
      }
      lines.append(gff3_line(contig.label, kind, gene.start, gene.end, None, gene.strand, notes))
    return lines

  def _unique(self, name: str) -> str:
    """Makes a name that no other feature of the file has as its ID."""
    found, number = name, 1
    while found in self._ids:
      number += 1
      found = f"{name}.{number}"
    self._ids.add(found)
    return found

  def write(self, folder: Path) -> list[Row]:
    """Writes both files; returns them for the manifest."""
    write_text(folder / f"{OPERONS}.gff3", "".join(self._gff))
    write_text(folder / f"{OPERONS}.bed", "".join(self._bed))
    return [{"file": f"{OPERONS}.{kind}", "format": kind} for kind in ("gff3", "bed")]


def _bed_lines(
  contig: NamedContig, operon: PredictedOperon, name: str
) -> list[tuple[int, int, str]]:
  """Formats the BED line of an operon with its position; one that passes the origin has two."""
  parts = split_at_origin([(operon.start, operon.end)], len(contig.codes))
  score, strand = str(round(1000 * operon.probability)), STRANDS[operon.strand]
  tail = [name, score, strand, f"{operon.probability:.6g}", str(len(operon.genes))]
  return [(a, b, "\t".join([contig.label, str(a), str(b), *tail]) + "\n") for a, b in parts]


def _features(contig: NamedContig, operon: PredictedOperon, name: str) -> list[Feature]:
  """Makes the features that browsers show of an operon."""
  parts = split_at_origin([(operon.start, operon.end)], len(contig.codes))
  look = round(1000 * operon.probability), STRANDS[operon.strand], OPERON
  return [Feature(contig.label, a, b, name, *look) for a, b in parts]


def annotated(
  contig: NamedContig,
  rows: Sequence[Row],
  operons: Sequence[PredictedOperon],
  names: Mapping[int, str],
  pairs: Sequence[GenePair],
) -> AnnotatedContig:
  """Collects what GenBank says of a contig: its rows, operons, their names by gene, and pairs."""
  called = [(names[o.genes[0]] if o.genes else "", o) for o in operons]
  places = [(o.start, o.end, o.strand, name, o.probability) for name, o in called]
  links = {pair.left: (pair.right, pair.best) for pair in pairs}
  shape = contig.label, contig.codes, contig.circular
  return AnnotatedContig(*shape, contig.genes, rows, places, links)
