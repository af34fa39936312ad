"""Effects of sequence changes: `python -m alphaecoli.score --help`."""

import argparse
import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphaecoli import __version__, cli
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.files import DEFAULT_MODEL, tsv_writer, write_json
from alphaecoli.genomics.genes import Gene
from alphaecoli.genomics.intervals import Interval
from alphaecoli.genomics.quality import shown
from alphaecoli.variants.edits import UPSTREAM_BP, grid_offsets

# What computes is imported where it is used: --help and a wrong flag answer at once.
if TYPE_CHECKING:
  from alphaecoli.api import Predictor
  from alphaecoli.inference.arguments import AnnotatedGenome

DESCRIPTION = """What the model says of a changed sequence minus what it says of the unchanged one:
for the variants of a VCF file (--vcf), for every substitution in a region (--ism, --ism-gene), or
gene by gene for two versions of a construct (--compare), or for edits and the genes of the operons
that they touch (--edits). --agreement compares the estimates of
--method with these substitutions."""


def main(arguments: Sequence[str]) -> int:
  """Reads flags, scores, writes."""
  options = _options(arguments)
  from alphaecoli.api import load_predictor
  from alphaecoli.inference.arguments import read_genome
  from alphaecoli.inference.genomes import read_topology
  from alphaecoli.parallel.hardware import use_user_cache

  use_user_cache()
  genome = read_genome(
    options.fasta,
    annotation=options.annotation,
    operons=options.operons,
    circular=read_topology(options.circular),
  )
  predictor = load_predictor(
    options.checkpoint,
    device=options.device,
    batch_windows=options.batch_windows,
    window_bp=options.window_bp,
    organism=options.organism,
    members=options.members,
  )
  if options.edits:
    done = _edits(options, predictor, genome)
  elif options.agreement:
    done = _agreement(options, predictor, genome)
  elif options.vcf:
    done = _variants(options, predictor, genome)
  elif options.compare:
    done = _compare(options, predictor, genome)
  else:
    done = _ism(options, predictor, genome)
  metadata = {
    "model": predictor.about,
    "window_bp": predictor.window_bp,
    "options": {k: str(v) for k, v in sorted(vars(options).items()) if v not in (None, False)},
    "circular": [contig.name for contig in genome.values() if contig.circular],
    "alphaecoli": __version__,
    **done,
  }
  write_json(options.out.with_suffix(".json"), metadata)
  return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
  """Parses the command line."""
  parser = cli.parser("score", DESCRIPTION)
  add = parser.add_argument
  add(
    "--checkpoint",
    default=DEFAULT_MODEL,
    help="a shipped model (alphaecoli.models lists them; default %(default)s), a checkpoint, the "
    "directory of a run, or an ensemble",
  )
  add(
    "--members",
    metavar="N|all",
    help="how many members of an ensemble score; default: 2 of the shipped model's, else all",
  )
  add("--fasta", required=True, type=Path, help="the genome: FASTA or GenBank")
  add("--out", required=True, type=Path, help="table to write, such as scores.tsv")
  what = parser.add_mutually_exclusive_group(required=True)
  what.add_argument("--vcf", type=Path, help="variants, VCF 4.x")
  what.add_argument("--ism", metavar="CONTIG:FIRST-LAST", help="mutate a region (1-based)")
  what.add_argument("--ism-gene", metavar="GENE", help="mutate what lies upstream of a gene")
  what.add_argument(
    "--edits", type=Path, help="table of edits: name contig start end kind sequence"
  )
  what.add_argument("--agreement", type=int, metavar="N", help="compare methods at N promoters")
  what.add_argument("--compare", type=Path, help="another version of the construct in --fasta")
  add("--annotation", type=Path, help="genes: GFF3, GTF or GenBank; default: those in --fasta")
  add("--compare-annotation", type=Path, help="genes of --compare; default: those in the file")
  add("--operons", type=Path, help="operons: GFF3 or BED; default: what the model predicts")
  add(
    "--circular",
    metavar="all|none|NAME,NAME|@FILE",
    help="circular contigs; default: as the files say",
  )
  add("--upstream", type=int, default=UPSTREAM_BP, help="bp before a gene (default %(default)s)")
  methods = ("substitutions", "gradient", "integrated")
  add("--method", choices=methods, default=methods[0], help="of --ism (default %(default)s)")
  add("--residual", type=float, default=0.1, help="of --edits: part that passes a block (0.1)")
  add("--target", help="of --ism: a gene, or CONTIG:FIRST-LAST; default: the region itself")
  add(
    "--show", metavar="CHANNEL", help="what the picture shows; default: the first expression track"
  )
  add("--elements", type=Path, help="promoter elements for the picture: GFF3 or BED")
  add("--picture", type=Path, help="default: --out, ending in .png")
  add("--offsets", type=int, default=1, help="of --vcf, --edits: places of windows to average")
  add("--background", type=int, default=0, help="of --vcf: random variants a kind, for `quantile`")
  add("--seed", type=int, default=0, help="of --background (default %(default)s)")
  add("--reverse-complement-average", action="store_true", help="average strands: twice the work")
  add("--batch-windows", type=int, help="windows at once, over all devices; default: fill them")
  add("--window-bp", type=int, help="bases the model sees; default: as trained")
  add("--organism", help="name or row, where the model was trained on several organisms")
  add("--device", help="platform such as cpu or gpu; default: what JAX finds")
  options = parser.parse_args(list(arguments))
  if options.target and not options.ism and not options.ism_gene:
    raise ConfigError("--target goes with --ism or --ism-gene")
  grid_offsets(options.offsets)
  for name in ("background", "seed"):
    if getattr(options, name) < 0:
      raise ConfigError(f"--{name}={getattr(options, name)}; expected at least 0")
  if not 0 <= options.residual <= 1:
    raise ConfigError(f"--residual={options.residual}; expected 0 to 1")
  if options.agreement is not None and options.agreement < 1:
    raise ConfigError(f"--agreement={options.agreement}; expected at least 1")
  if options.upstream < 1:
    raise ConfigError(f"--upstream={options.upstream}; expected at least 1")
  return options


def _variants(
  options: argparse.Namespace, predictor: "Predictor", genome: "AnnotatedGenome"
) -> dict[str, Any]:
  """Scores a VCF file.

  Raises:
    DataError: no variant in it could be scored.
  """
  from alphaecoli.genomics.read import read_variants
  from alphaecoli.variants.scores import gene_columns, gene_rows, score_columns, score_row
  from alphaecoli.variants.scoring import random_sizes, score_variants, with_quantile

  variants = read_variants(options.vcf, genome.values())
  if not variants:
    raise DataError(f"{options.vcf}: no variant in it")
  how = {"reverse_complement": options.reverse_complement_average, "offsets": options.offsets}
  sizes = random_sizes(predictor, variants, genome, options.background, seed=options.seed, **how)
  refused: Counter[str] = Counter()
  table, has_spread = predictor.table, predictor.has_spread
  paths = {options.out: score_columns(table, has_spread)}
  by_gene = options.out.with_suffix(f".genes{options.out.suffix}")
  if genome.genes():
    paths[by_gene] = gene_columns(table, has_spread)
  with contextlib.ExitStack() as stack:
    add = {path: stack.enter_context(tsv_writer(path, names)) for path, names in paths.items()}
    each_bp = options.offsets * predictor.window_bp
    total_bp = len(variants) * each_bp
    progress = stack.enter_context(cli.BaseProgress(total_bp, "score"))
    for score in score_variants(
      predictor, variants, genome, genome.features, upstream_bp=options.upstream, **how
    ):
      add[options.out](score_row(with_quantile(score, sizes), table, has_spread))
      for row in gene_rows(score) if by_gene in add else ():
        add[by_gene](row)
      if score.reason:
        refused[score.reason.partition(":")[0]] += 1
        progress.expect(-each_bp)
      else:
        progress(each_bp)
  scored = len(variants) - refused.total()
  if "unknown contig" in refused:
    cli.LOGGER.warning(
      "%s names contigs that %s has not: %s; give them the genome's names (bcftools annotate "
      "--rename-chrs), or let the header say their lengths (##contig=<ID=…,length=…>)",
      options.vcf,
      options.fasta,
      shown(v.contig for v in variants if v.contig not in genome),
    )
  reasons = ", ".join(f"{count} {kind}" for kind, count in refused.most_common())
  if not scored:
    raise DataError(
      f"{options.vcf}: none of its {len(variants)} alleles could be scored ({reasons}); the column "
      f"`reason` of {options.out} says why"
    )
  cli.LOGGER.info("scored %d of %d alleles", scored, len(variants))
  if refused:
    cli.LOGGER.warning("refused, see the column `reason`: %s", reasons)
  return {"alleles": len(variants), "scored": scored, "refused": dict(refused)}


def _ism(
  options: argparse.Namespace, predictor: "Predictor", genome: "AnnotatedGenome"
) -> dict[str, Any]:
  """Mutates a region or a gene's upstream; writes table and picture."""
  from alphaecoli.genomics.read import read_elements
  from alphaecoli.plotting.logo import draw_logo

  target = options.target
  if options.ism_gene:
    interval = upstream(genome.gene(options.ism_gene), genome, options.upstream)
    target = target or options.ism_gene
  else:
    interval = Interval.parse(options.ism)
  channel = options.show or f"expression:{predictor.table.names[0]}"
  elements = read_elements(options.elements) if options.elements else []
  result = predictor.ism(
    interval,
    genome,
    target=target,
    method=options.method,
    reverse_complement=options.reverse_complement_average,
  )
  result.channel(channel)
  with tsv_writer(options.out, result.columns()) as add:
    for row in result.rows():
      add(row)
  picture = options.picture or options.out.with_suffix(".png")
  draw_logo(result, picture, channel, elements)
  cli.LOGGER.info("wrote %s and %s: effects on %s", options.out, picture, result.target.name)
  if result.target_share < 1:
    cli.LOGGER.warning("%.0f%% of the target is in the window", 100 * result.target_share)
  baseline = dict(zip(result.channel_names, result.baseline.tolist(), strict=True))
  return {"target": result.target.name, "target_share": result.target_share, "baseline": baseline}


def _agreement(
  options: argparse.Namespace, predictor: "Predictor", genome: "AnnotatedGenome"
) -> dict[str, Any]:
  """Correlates gradients with mutagenesis at promoters."""
  import numpy as np

  from alphaecoli.variants.attribution import agreement, promoters

  channel = options.show or f"expression:{predictor.table.names[0]}"
  regions = promoters(genome, options.upstream, options.agreement)
  both = options.reverse_complement_average
  rows = list(agreement(predictor, genome, regions, channel, both))
  with tsv_writer(options.out, list(rows[0])) as add:
    for row in rows:
      add(row.values())
  columns = [name for name, value in rows[0].items() if isinstance(value, float)]
  quartiles = {c: np.quantile([row[c] for row in rows], [0.25, 0.5, 0.75]) for c in columns}
  for name, (low, middle, high) in quartiles.items():
    cli.LOGGER.info("%s: median %.3f (quartiles %.3f, %.3f)", name, middle, low, high)
  return {"quartiles": {name: values.tolist() for name, values in quartiles.items()}}


def _edits(
  options: argparse.Namespace, predictor: "Predictor", genome: "AnnotatedGenome"
) -> dict[str, Any]:
  """Scores edits, gene by gene of the operons that they touch; writes table and picture.

  Raises:
    DataError: no edit could be scored.
  """
  from alphaecoli.plotting.region import plot_edits
  from alphaecoli.variants.polar import polar_columns, polar_effects, polar_rows, read_edits

  table, has_spread = predictor.table, predictor.has_spread
  track = (options.show or table.names[0]).removeprefix("expression:")
  if track not in table.names:
    raise ConfigError(f"--show={options.show}; expected one of {', '.join(table.names)}")
  found = list(
    polar_effects(
      predictor,
      genome,
      read_edits(options.edits, genome),
      residual=options.residual,
      upstream_bp=options.upstream,
      reverse_complement=options.reverse_complement_average,
      offsets=options.offsets,
    )
  )
  with tsv_writer(options.out, polar_columns(table, has_spread)) as add:
    for one in found:
      for row in polar_rows(one, table, has_spread):
        add(row)
  for one in found:
    if one.reason or not one.genes:
      cli.LOGGER.warning("%s: %s", one.edit.name, one.reason or "touches no operon")
  drawn = [one for one in found if one.genes]
  if not drawn:
    raise DataError(f"{options.edits}: no edit could be scored, or touches a gene; {options.out}")
  picture = options.picture or options.out.with_suffix(".png")
  plot_edits(drawn, track, table.names.index(track), picture)
  cli.LOGGER.info("wrote %s and %s: %d of %d edits", options.out, picture, len(drawn), len(found))
  return {"edits": len(found), "scored": len(drawn)}


def upstream(gene: Gene, genome: "AnnotatedGenome", bp: int) -> Interval:
  """Returns the bases before a gene, as it is read; fewer at the end of a linear contig.

  Raises:
    ConfigError: the gene's strand is unknown, or there is none before it.
  """
  contig = genome[gene.contig]
  if not gene.strand:
    raise ConfigError(f"gene {gene.name or gene.id} has no strand; use --ism {contig.name}:…")
  start, end = (gene.end, gene.end + bp) if gene.strand < 0 else (gene.start - bp, gene.start)
  if not contig.circular:
    start, end = max(start, 0), min(end, contig.length_bp)
  elif start >= contig.length_bp:
    start, end = start - contig.length_bp, end - contig.length_bp
  if start >= end:
    raise ConfigError(f"nothing lies upstream of {gene.name or gene.id} on {contig.name}")
  return Interval(contig.name, start, end)


def _compare(
  options: argparse.Namespace, predictor: "Predictor", genome: "AnnotatedGenome"
) -> dict[str, Any]:
  """Compares two versions of a construct."""
  from alphaecoli.inference.arguments import read_genome
  from alphaecoli.inference.genomes import read_topology
  from alphaecoli.variants.constructs import compare_constructs, pair_columns, pair_row

  other = read_genome(
    options.compare,
    annotation=options.compare_annotation,
    circular=read_topology(options.circular),
  )
  pairs = compare_constructs(
    predictor, genome, other, reverse_complement=options.reverse_complement_average
  )
  rows = [pair_row(pair) for pair in pairs]
  with tsv_writer(options.out, pair_columns(predictor.table, predictor.has_spread)) as add:
    for row in rows:
      add(row)
  counts = Counter(row[2] for row in rows)
  cli.LOGGER.info(
    "%d genes in both, %d only in %s, %d only in %s",
    *(counts["both"], counts["a"], options.fasta, counts["b"], options.compare),
  )
  return {"genes": dict(counts)}


if __name__ == "__main__":
  cli.run(main)
