"""An organism's files as the records of its contigs, with one quality report."""

import dataclasses
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from alphaecoli.errors import ConfigError, DataError, nearest
from alphaecoli.genomics.expression import ExpressionTable
from alphaecoli.genomics.genes import Annotation, Dataset, Gene, GenomeRecords, past_ends
from alphaecoli.genomics.quality import QualityReport, shown
from alphaecoli.genomics.read import read_annotated
from alphaecoli.genomics.sequence import Contig
from alphaecoli.organism.expression import read_expression, read_samples
from alphaecoli.organism.genes import GeneNames, take_genes
from alphaecoli.organism.operons import read_operons
from alphaecoli.schema import UNKNOWN, DataConfig

LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Files:
  """Input files of an organism.

  Attributes:
    genome: FASTA or GenBank.
    annotation: GFF3, GTF or GenBank; None where the genome file holds the genes.
    expression: table of genes by samples; None where expression is unknown.
    more_expression: further tables, of other samples.
    values: unit of those tables: a key of `UNITS`; None: as their columns say, else TPM.
    samples: table of growth conditions; None where they are unknown.
    operons: table or GFF3; None where operons are unknown.
  """

  genome: Path
  annotation: Path | None = None
  expression: Path | None = None
  values: str | None = None
  samples: Path | None = None
  operons: Path | None = None
  more_expression: tuple[Path, ...] = ()

  def by_name(self) -> dict[str, Path]:
    """Returns the files that are given, by name."""
    given = {n: v for n, v in vars(self).items() if n not in ("values", "more_expression")}
    more = {f"expression {i}": path for i, path in enumerate(self.more_expression, start=2)}
    return {name: path for name, path in given.items() if path is not None} | more


def read_organism(
  files: Files, data: DataConfig, contig_name: str | None = None
) -> list[tuple[GenomeRecords, DataConfig]]:
  """Reads the contigs of a genome with their genes, expression and operons.

  Args:
    files: files to read.
    data: gene types, thresholds, the length of a window, and the contigs' topology unless a file
      declares it.
    contig_name: name of the one contig to read; by default every one that holds a window.

  Returns:
    Of each contig, the longest first, the records, and the configuration with the contig's topology
    as `circular`. Where some contigs have operons, genes of the others are `unlisted_genes` that
    are unknown.

  Raises:
    ConfigError: there is no such contig.
    DataError: a file is missing or broken, or they do not belong together.
  """
  for path in files.by_name().values():
    if not path.is_file():
      raise DataError(f"{path}: no such file")
  report = QualityReport()
  contigs, annotation = read_annotated(files.genome, files.annotation)
  if annotation is None:
    raise DataError(f"{files.genome} holds no genes; add --annotation with GFF3, GTF or GenBank")
  annotated = {gene.contig for gene in annotation.genes}
  chosen = choose_contigs(files.genome, contigs, annotated, contig_name, data.window_bp, report)
  others = [c.name for c in contigs if all(c is not own for own in chosen)]
  circular = {c.name: _is_circular(c, annotation, data.circular) for c in chosen}
  genes, names = take_genes(
    annotation,
    chosen,
    others,
    circular=circular,
    exclude_types=data.exclude_gene_types,
    report=report,
  )
  elsewhere = [
    gene
    for gene in annotation.genes
    if gene.contig in others and (gene.biotype or gene.type) not in data.exclude_gene_types
  ]
  operons = None
  expression, datasets = _measured(files, genes, elsewhere, names, data, report)
  if files.operons is None:
    LOGGER.warning("no operons: the operon head has no targets; add --operons TSV or GFF3")
    report.count("no operons: operons unknown")
  else:
    operons = read_operons(
      files.operons, genes, names, chosen, others, circular=circular, report=report
    )
  found = []
  for contig in chosen:
    rows = [row for row, gene in enumerate(genes) if gene.contig == contig.name]
    records = GenomeRecords(
      contig,
      [genes[row] for row in rows],
      None if operons is None else operons[contig.name],
      datasets,
      None if expression is None else expression.of_rows(rows),
      report,
      files.by_name(),
    )
    settings = dataclasses.replace(data, circular=circular[contig.name])
    if operons is not None and not operons[contig.name] and data.unlisted_genes != UNKNOWN:
      LOGGER.warning("no operon is listed on %s: those of its genes are unknown", contig.name)
      settings = dataclasses.replace(settings, unlisted_genes=UNKNOWN)
    found.append((records, settings))
  return found


def _measured(
  files: Files,
  genes: list[Gene],
  elsewhere: list[Gene],
  names: GeneNames,
  data: DataConfig,
  report: QualityReport,
) -> tuple[ExpressionTable | None, list[Dataset]]:
  """Reads expression and growth conditions; says which files and flags nothing uses."""
  expression = None
  if files.expression is None:
    LOGGER.warning("no expression: the expression head has no targets; add --expression TABLE")
    report.count("no expression table: expression unknown")
    for name in ("values", "samples"):
      if getattr(files, name):
        LOGGER.warning("--%s says nothing without --expression", name)
        report.count("flag that nothing uses", 1, f"--{name}")
  else:
    paths = (files.expression, *files.more_expression)
    expression = read_expression(paths, files.values, genes, elsewhere, names, data, report)
  if files.samples is None:
    return expression, []
  samples = () if expression is None else (*expression.datasets, *expression.left_out)
  datasets = read_samples(files.samples, samples, report)
  if expression and (data.expression_groups or not data.expression_tracks.startswith("group:")):
    fields = dict.fromkeys(field for dataset in datasets for field in dataset.conditions)
    LOGGER.warning(
      "--samples makes no track: give --config.data.expression_tracks=group:FIELD; fields: %s",
      ", ".join(fields)[:200],
    )
    report.count("flag that nothing uses", 1, "--samples")
  return expression, datasets


def choose_contigs(
  path: Path,
  contigs: Sequence[Contig],
  annotated: Collection[str],
  name: str | None,
  window_bp: int,
  report: QualityReport,
) -> list[Contig]:
  """Returns the contigs to prepare, the longest first; counts and logs the others.

  Args:
    path: file of the genome.
    contigs: all contigs.
    annotated: names of contigs with genes.
    name: name of the one contig to prepare; None for the longest, and every other one with genes
      that holds a window.
    window_bp: length of a window.
    report: counter of contigs that are left out.

  Raises:
    ConfigError: there is none of that name.
  """
  names = [contig.name for contig in contigs]
  if name is not None and name not in names:
    near = nearest(name, names)
    raise ConfigError(f"--contig={name}: no such contig in {path}; nearest: {near}")
  ordered = sorted(contigs, key=lambda contig: -contig.length_bp)
  if name is not None:
    chosen, hint = [contigs[names.index(name)]], "prepared is --contig alone"
  else:
    long = [c for c in ordered[1:] if c.length_bp >= window_bp and c.name in annotated]
    chosen = [ordered[0], *long]
    hint = (
      f"they are shorter than a window, or have no gene (data.window_bp={window_bp}: train with "
      "shorter windows, and prepare with that --config.data.window_bp, to keep more)"
    )
  left = [contig for contig in ordered if all(contig is not own for own in chosen)]
  for contig in left:
    if name is not None:
      reason = "not the contig of --contig"
    else:
      reason = "no gene" if contig.length_bp >= window_bp else "shorter than data.window_bp"
    report.count(f"contig left out: {reason}", 1, contig.name)
    report.count("base of a contig that is left out", contig.length_bp)
  if len(chosen) > 1:
    LOGGER.info("prepared as one organism: %s", shown([c.name for c in chosen], 10))
  if left:
    LOGGER.warning(
      "%d of %d contigs of %s are left out, %d bp: %s; %s",
      len(left),
      len(contigs),
      path,
      sum(contig.length_bp for contig in left),
      shown([c.name for c in left], 5),
      hint,
    )
  return chosen


def _is_circular(contig: Contig, annotation: Annotation, configured: bool) -> bool:
  """Returns False where the genome file or the configuration says linear, else True."""
  if contig.circular is False:
    LOGGER.info("%s is linear, as its file says", contig.name)
    return False
  declared = bool(contig.circular) or contig.name in annotation.circular
  if not declared and past_ends(annotation, {contig.name: contig.length_bp}):
    reason = "a gene of the annotation passes its end"
    LOGGER.info(
      "%s: %s%s", contig.name, reason, "" if configured else ", yet it is taken as linear"
    )
    declared = True
  if configured and not declared:
    LOGGER.warning(
      "%s is taken as circular (data.circular), which no file says; if it is linear, pass "
      "--config.data.circular=false",
      contig.name,
    )
  return configured
