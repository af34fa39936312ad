"""Expression of genes by data sets, in transcripts per million."""

import dataclasses

import numpy as np
from jaxtyping import Float64

from alphaecoli.genomics.quality import QualityReport

MILLION = 1e6


@dataclasses.dataclass(frozen=True)
class ExpressionTable:
  """Transcripts per million.

  Attributes:
    gene_ids: rows, in the order of the genes that were asked for.
    datasets: columns by name, in order of first appearance; only those with a usable unit.
    tpm: NaN where unknown.
  """

  gene_ids: tuple[str, ...]
  datasets: tuple[str, ...]
  tpm: Float64[np.ndarray, "G D"]


def to_tpm(
  unit: str,
  value: Float64[np.ndarray, "G"],
  name: str,
  lengths: Float64[np.ndarray, "G"],
  max_tpm_sum: float,
  report: QualityReport,
) -> Float64[np.ndarray, "G"] | None:
  """Converts one data set to TPM; None, and reported, where every value is 0.

  Args:
    unit: unit of the values: tpm, fpkm or count.
    value: values by gene, NaN where unknown; at least one is not NaN.
    name: name of the data set, for the report.
    lengths: lengths of the genes, in bp.
    max_tpm_sum: largest sum of TPM; a larger one is rescaled.
    report: counter of conversions.
  """
  if not np.nanmax(value) > 0:
    report.count("data set left out: every value is 0", dataset=name)
    return None
  if unit == "count":
    value = value / lengths
  if unit == "tpm":
    if np.nansum(value) <= max_tpm_sum:
      return value
    report.count("data set that can not be TPM: rescaled to a sum of 1e6", dataset=name)
  else:
    report.count(f"data set converted from {unit} to TPM", dataset=name)
  value = value / np.nanmax(value)
  return value * (MILLION / np.nansum(value))
