"""Edits of a genome, and what they do to every gene of the operons that they touch."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from alphaecoli.errors import ConfigError, DataError
from alphaecoli.genomics.genes import Gene
from alphaecoli.genomics.intervals import Interval
from alphaecoli.genomics.sequence import Contig, decode, encode, reverse_complement
from alphaecoli.genomics.text import open_text
from alphaecoli.genomics.vcf import NUCLEOTIDES, Variant
from alphaecoli.inference.arguments import AnnotatedGenome, find_contig
from alphaecoli.inference.operon_calls import PredictedGenes, in_order, operons_of_genes
from alphaecoli.inference.predictor import Predictor
from alphaecoli.inference.tables import STRANDS
from alphaecoli.tracks.track_table import TrackTable
from alphaecoli.variants.edits import UPSTREAM_BP, View, distance_bp
from alphaecoli.variants.scores import Effect, GeneEffect, gene_label, within_grid_shift
from alphaecoli.variants.scoring import score_variants

DELETION, INSERTION, REPLACEMENT = "deletion", "insertion", "replacement"
TERMINATOR, CRISPRI = BLOCKS = ("terminator", "crispri")
KINDS = (DELETION, INSERTION, REPLACEMENT, *BLOCKS)
REQUIRED = ("name", "contig", "start", "end", "kind")
RESIDUAL = 0.1  # of transcription that passes a block: an assumption
# T1 of rrnB, BBa_B0010 of the Registry of Standard Biological Parts.
RRNB_T1 = "CCAGGCATCAAATAAAACGAAAGGCTCAGTCGAAAGACTGGGCCTTTCGTTTTATCTGTTGTTTGTCGGTGAACGCTCTC"


class GenomeEdit(NamedTuple):
  """An edit; 0-based and half-open. What is inserted comes after the base from start to end."""

  name: str
  where: Interval
  kind: str
  sequence: str
  strand: int


class PolarGene(NamedTuple):
  """A gene of an operon that an edit touches.

  Attributes:
    effect: what the model says.
    operon: the operon's genes in the order of transcription.
    half: half of the 95% interval of the change over an ensemble's members; None for one model.
    rule: change of ln(1 + TPM) by the rule of blocks; None where none applies.
  """

  effect: GeneEffect
  operon: tuple[Gene, ...]
  half: Effect | None
  rule: Effect | None


@dataclasses.dataclass(frozen=True)
class EditEffect:
  """An edit, why it was refused ("" if it was scored), and the genes of the operons it touches."""

  edit: GenomeEdit
  reason: str
  genes: tuple[PolarGene, ...]


def read_edits(path: Path, genome: AnnotatedGenome) -> list[GenomeEdit]:
  """Reads a table of edits: name, contig, start, end, kind, and perhaps sequence and strand.

  Raises:
    DataError: it can not be read, has no edit, or an edit is not one; names the line.
  """
  with open_text(path, "a table of edits") as file:
    lines = [line.rstrip("\r\n") for line in file]
  header = [word.strip().lower() for word in lines[0].split("\t")] if lines else []
  if absent := [column for column in REQUIRED if column not in header]:
    raise DataError(
      f"{path}: no column {', '.join(absent)} in its first line; expected, separated by tabs, "
      f"{', '.join(REQUIRED)}, and perhaps sequence and strand"
    )
  edits = []
  for number, line in enumerate(lines[1:], start=2):
    if line.strip() and not line.startswith("#"):
      cells = dict(zip(header, (cell.strip() for cell in line.split("\t")), strict=False))
      try:
        edits.append(_edit(cells, genome))
      except ConfigError as error:
        raise DataError(f"{path}, line {number}: {error}") from error
  if not edits:
    raise DataError(f"{path}: no edit in it")
  return edits


def _edit(cells: dict[str, str], genome: AnnotatedGenome) -> GenomeEdit:
  """Checks one line.

  Raises:
    ConfigError: it is no edit of this genome.
  """
  cell = {**dict.fromkeys((*REQUIRED, "sequence", "strand"), ""), **cells}
  contig, kind = find_contig(genome, cell["contig"]), cell["kind"].lower()
  if kind not in KINDS:
    raise ConfigError(f"kind {cell['kind']!r}; expected one of {', '.join(KINDS)}")
  where = Interval.parse(f"{contig.name}:{cell['start']}-{cell['end']}")
  if where.end > contig.length_bp:
    raise ConfigError(f"bases {where.start + 1}-{where.end}; {contig.name} has {contig.length_bp}")
  if kind in (INSERTION, TERMINATOR) and where.end - where.start != 1:
    raise ConfigError(f"{kind} from {where.start + 1} to {where.end}; expected the base before it")
  sequence = cell["sequence"].upper().replace("-", "").removesuffix(".")
  needs, takes = kind in (INSERTION, REPLACEMENT), kind not in (DELETION, CRISPRI)
  if (needs and not sequence) or (sequence and not takes) or set(sequence) - NUCLEOTIDES:
    expected = "letters A C G T" if takes else "none"
    raise ConfigError(f"{kind} with the sequence {sequence[:20]!r}; expected {expected}")
  strands = {"": 0, ".": 0, "+": 1, "-": -1}
  if cell["strand"] not in strands:
    raise ConfigError(f"strand {cell['strand']!r}; expected + or -")
  return GenomeEdit(cell["name"], where, kind, sequence, strands[cell["strand"]])


def as_variant(edit: GenomeEdit, contig: Contig, strand: int) -> Variant:
  """Writes an edit as VCF does; a block without a sequence as other bases, for its place alone.

  Args:
    edit: the edit.
    contig: its contig.
    strand: in which a terminator is read that the edit does not spell out.
  """
  start, end = edit.where.start, edit.where.end
  ref, alt = decode(contig.codes[start:end]), edit.sequence
  if edit.kind == CRISPRI:
    alt = ref.translate(str.maketrans("ACGT", "CGTA"))
  elif edit.kind == DELETION and start:
    start -= 1
    alt = decode(contig.codes[start : start + 1])
    ref = alt + ref
  elif edit.kind == DELETION:  # nothing stands before it
    alt = decode(contig.codes[end : end + 1])
    ref += alt
  elif edit.kind != REPLACEMENT:
    forward = encode(RRNB_T1)
    alt = ref + (alt or decode(forward if strand >= 0 else reverse_complement(forward)))
  return Variant(contig.name, start + 1, ref, alt, edit.name)


def operons_of(
  predictor: Predictor, genome: AnnotatedGenome, name: str, reverse_complement: bool = False
) -> list[tuple[Gene, ...]]:
  """Lists the operons of a contig, single genes too, each in the order of transcription.

  They are those that the genome was read with, else those that `alphaecoli.predict` would call.
  """
  contig, features = genome[name], genome.features[name]
  genes = in_order(features.genes)
  chains: list[list[Gene]] = []
  if features.operons is not None:
    for start, end in features.operons:
      inside = [
        gene
        for gene in genes
        for first in (gene.start, gene.start + contig.length_bp)
        if start <= first and first + gene.end - gene.start <= end
      ]
      chains += [c for s in (1, -1, 0) if (c := [g for g in inside if g.strand == s])]
  elif genes:
    found = predictor.predict(contig, reverse_complement=reverse_complement)
    models = [one.gene_models for one in predictor.members or (predictor,)]
    pairs, _ = PredictedGenes(genes, contig.codes, found.circular).pairs(found, models)
    called = operons_of_genes(genes, pairs, found.operon_membership[:, 0])
    chains = [[genes[i] for i in operon.genes] for operon in called]
  placed = {id(gene) for chain in chains for gene in chain}
  chains += [[gene] for gene in genes if id(gene) not in placed]
  return [tuple(chain[::-1] if chain[0].strand < 0 else chain) for chain in chains]


def polar_effects(
  predictor: Predictor,
  genome: AnnotatedGenome,
  edits: Sequence[GenomeEdit],
  *,
  residual: float = RESIDUAL,
  upstream_bp: int = UPSTREAM_BP,
  reverse_complement: bool = False,
  offsets: int = 1,
) -> Iterator[EditEffect]:
  """Scores edits, and finds the genes of the operons that each of them touches.

  An operon is touched if the edit lies in it, or at most `upstream_bp` before one of its genes.
  The model says what a changed sequence does. Of a terminator and of a CRISPRi site a rule says
  more: of the transcription that comes from before the block, `residual` passes, so that genes of
  the operon that the block lies in or before keep that part of their TPM.

  Args:
    predictor: model to ask.
    genome: genome with genes.
    edits: edits of it.
    residual: part of transcription that passes a block.
    upstream_bp: distance before a gene from which on an edit affects it.
    reverse_complement: whether to average both strands.
    offsets: places of the windows, as for `score_variants`.

  Raises:
    DataError: a contig has no genes.
  """
  operons: dict[str, list[tuple[Gene, ...]]] = {}
  for name in dict.fromkeys(edit.where.contig for edit in edits):
    if name not in genome.features or not genome.features[name].genes:
      raise DataError(
        f"no gene is known on {name}: edits need an annotation (--annotation). Without one, "
        "alphaecoli.predict calls genes: its genome.gbk (--formats genbank) or genes.gff3 is one"
      )
    operons[name] = operons_of(predictor, genome, name, reverse_complement)
  strands = [edit.strand or _strand_at(edit.where, operons[edit.where.contig]) for edit in edits]
  variants = [
    as_variant(edit, genome[edit.where.contig], strand)
    for edit, strand in zip(edits, strands, strict=True)
  ]
  scores = score_variants(
    predictor,
    variants,
    genome,
    genome.features,
    upstream_bp=upstream_bp,
    reverse_complement=reverse_complement,
    offsets=offsets,
  )
  members = max(len(predictor.members), 2)
  width = float(special.stdtrit(members - 1, 0.975) / np.sqrt(members))
  for edit, strand, score in zip(edits, strands, scores, strict=True):
    seen = {id(effect.gene): effect for effect in score.genes}
    found: list[PolarGene] = []
    contig = genome[edit.where.contig]
    view = View(0, 0, contig.length_bp, bool(contig.circular), 0, 0)
    for operon in operons[edit.where.contig]:
      near = [seen[id(gene)] for gene in operon if id(gene) in seen]
      if not any(e.affected for e in near) and not _within(edit.where, operon):
        continue
      for effect in near:  # from the edit's own bases, not from the one that VCF puts before them
        distance = distance_bp(effect.gene, edit.where.start, edit.where.end, view)
        placed = dataclasses.replace(effect, distance_bp=distance)
        found.append(_polar_gene(placed, operon, edit, strand, residual, width))
    yield EditEffect(edit, score.reason, tuple(found))


def _polar_gene(
  effect: GeneEffect,
  operon: tuple[Gene, ...],
  edit: GenomeEdit,
  strand: int,
  residual: float,
  width: float,
) -> PolarGene:
  """Adds to what the model says the interval over members, and what the rule of blocks says."""
  if edit.kind == CRISPRI:  # the sequence stays as it is
    still = np.zeros_like(effect.change)
    effect = dataclasses.replace(effect, change=still, spread=None, grid=None)
  rule = None
  facing = edit.kind == CRISPRI or effect.gene.strand == strand
  if edit.kind in BLOCKS and facing and effect.distance_bp <= 0:
    tpm = np.expm1(np.maximum(effect.reference, 0))
    rule = np.log1p(residual * tpm) - np.log1p(tpm)
  half = None if effect.spread is None else width * effect.spread
  return PolarGene(effect, operon, half, rule)


def _within(where: Interval, operon: Sequence[Gene]) -> bool:
  """Tells whether an edit touches the bases from an operon's first gene to its last."""
  start, end = min(gene.start for gene in operon), max(gene.end for gene in operon)
  return where.start < end and where.end > start


def _strand_at(where: Interval, operons: Sequence[Sequence[Gene]]) -> int:
  """Finds the strand of the operon that an edit lies in; else of the nearest gene."""
  inside = [operon[0].strand for operon in operons if _within(where, operon)]
  genes = [gene for operon in operons for gene in operon]
  nearest = min(genes, key=lambda g: max(g.start - where.end, where.start - g.end))
  return inside[0] if inside else nearest.strand


def polar_columns(table: TrackTable, has_spread: bool) -> list[str]:
  """Names the columns of the table of edits and genes. Positions are 1-based and inclusive."""
  fixed = ["name", "kind", "contig", "start", "end", "status", "reason", "operon", "order"]
  fixed += ["gene", "gene_name", "strand", "relation", "distance_bp", "share", "within_grid_shift"]
  numbers = ["log_tpm_before", "log_tpm_after", "change", "rule_change"]
  numbers += ["change_low", "change_high"] if has_spread else []
  return [*fixed, *(f"{what}:{track}" for track in table.names for what in numbers)]


def polar_rows(found: EditEffect, table: TrackTable, has_spread: bool) -> Iterator[list[Any]]:
  """Yields a row for each gene; one with the reason for an edit that was refused or has no gene."""
  edit, where = found.edit, found.edit.where
  first = [edit.name, edit.kind, where.contig, where.start + 1, where.end]
  first += ["refused" if found.reason else "ok", found.reason]
  if not found.genes:
    yield first + [None] * (len(polar_columns(table, has_spread)) - len(first))
  for effect, operon, half, rule in found.genes:
    gene, distance = effect.gene, effect.distance_bp
    relation = "at" if distance == 0 else "downstream" if distance < 0 else "upstream"
    row = [*first, ",".join(g.name or gene_label(g) for g in operon), operon.index(gene) + 1]
    row += [gene_label(gene), gene.name, STRANDS[gene.strand], relation, distance, effect.share]
    row.append(within_grid_shift(effect.change, effect.grid))
    for track in range(len(table.names)):
      before, change = float(effect.reference[track]), float(effect.change[track])
      row += [before, before + change, change, None if rule is None else float(rule[track])]
      if has_spread:
        ends = (None, None) if half is None else (change - half[track], change + half[track])
        row += [None if end is None else float(end) for end in ends]
    yield row
