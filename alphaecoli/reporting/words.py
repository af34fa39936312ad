"""What the page calls heads and figures, with units."""

from collections.abc import Mapping

HEADS = {
  "gene_expression": "gene expression",
  "gene_density": "gene density",
  "operon_membership": "operon membership",
}
LOSS_UNITS = {
  "gene_expression": "mean squared error (z²)",
  "gene_density": "mean squared error (genes²)",
  "operon_membership": "cross-entropy (nats)",
  "total": "weighted sum",
}
FIGURES = {
  "gene_expression/genes_r2": "expression of a gene, R²",
  "gene_expression/genes_pearson": "expression of a gene, Pearson’s r",
  "gene_expression/genes_spearman": "expression of a gene, Spearman’s ρ",
  "gene_expression/bases_r2": "expression of a base, R²",
  "gene_density/r2": "genes per 128 bp, R²",
  "gene_density/pearson": "genes per 128 bp, Pearson’s r",
  "gene_density/mse": "genes per 128 bp, mean squared error (genes²) ↓",
  "operon_membership/auroc": "base in an operon, AUROC",
  "operon_membership/auprc": "base in an operon, AUPRC",
  "operon_membership/accuracy": "base in an operon, accuracy at p ≥ 0.5",
  "operon_membership/f1": "base in an operon, F1 at p ≥ 0.5",
  "operon_membership/brier": "base in an operon, Brier score ↓",
  "operon_membership/calibration_error": "base in an operon, calibration error ↓",
  "operon_membership/pairs_auroc": "neighbouring genes share an operon, AUROC",
  "loss/gene_expression": "loss of expression (z²) ↓",
  "loss/gene_density": "loss of density (genes²) ↓",
  "loss/operon_membership": "loss of operon membership (nats) ↓",
  "loss/total": "loss, weighted sum ↓",
}
# The one figure of each kind that stands at the top.
HEADLINES = (
  "gene_expression/genes_r2",
  "gene_density/r2",
  "operon_membership/auroc",
  "operon_membership/pairs_auroc",
)


def lower_is_better(name: str) -> bool:
  """Whether a figure is an error."""
  return name.startswith("loss/") or name.endswith(("/mse", "/brier", "/calibration_error"))


def figure_words(name: str) -> str:
  """A figure in words; of one of several tracks with the track's name."""
  if name in FIGURES:
    return FIGURES[name]
  head, metric, *track = name.split("/", 2)
  words = FIGURES.get(f"{head}/{metric}", name)
  return f"{words}, track {track[0]}" if track else words


def baseline_words(name: str, baselines: Mapping[str, str]) -> str:
  """What a figure's baseline is; the losses have those of their heads."""
  head = name.removeprefix("loss/").split("/")[0]
  return baselines.get(name) or baselines.get(head, "")
