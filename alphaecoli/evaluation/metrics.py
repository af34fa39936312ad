"""Metrics over whole arrays, float64: scikit-learn's and scipy's, and numpy where that is one line.

Where a metric has no meaning (a correlation with a constant, an AUROC of one class, no values at
all) the result is NaN, which reports show as a dash and JSON as null; no warning is raised.
"""

import warnings
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64, Shaped
from scipy import stats
from sklearn.metrics import average_precision_score, r2_score

NAN = float("nan")
CALIBRATION_BINS = 15
THRESHOLD = 0.5


def _pair(
  target: Shaped[np.ndarray, "n"], prediction: Shaped[np.ndarray, "n"]
) -> tuple[Float64[np.ndarray, "n"], Float64[np.ndarray, "n"]]:
  """Returns both arrays in float64."""
  return np.asarray(target, np.float64), np.asarray(prediction, np.float64)


def _is_constant(values: Float64[np.ndarray, "n"]) -> bool:
  """Returns whether all values are equal; also of none and of one."""
  return len(values) == 0 or bool(np.all(values == values[0]))


def mse(
  target: Shaped[np.ndarray, "n"],
  prediction: Shaped[np.ndarray, "n"],
  weight: Shaped[np.ndarray, "n"] | None = None,
) -> float:
  """Computes the (weighted) mean squared error; NaN without values."""
  target, prediction = _pair(target, prediction)
  return float(np.average((prediction - target) ** 2, weights=weight)) if len(target) else NAN


def r2(target: Shaped[np.ndarray, "n"], prediction: Shaped[np.ndarray, "n"]) -> float:
  """Computes the coefficient of determination, 1 - Σ(y - ŷ)² / Σ(y - mean y)².

  1 is perfect, 0 is as good as the mean of these very targets, and it may be negative; NaN for a
  constant target.
  """
  target, prediction = _pair(target, prediction)
  return NAN if _is_constant(target) else float(r2_score(target, prediction))


def pearson(target: Shaped[np.ndarray, "n"], prediction: Shaped[np.ndarray, "n"]) -> float:
  """Computes Pearson's correlation; NaN where either side is constant."""
  target, prediction = _pair(target, prediction)
  if _is_constant(target) or _is_constant(prediction):
    return NAN
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", stats.NearConstantInputWarning)
    return float(stats.pearsonr(target, prediction).statistic)


def spearman(target: Shaped[np.ndarray, "n"], prediction: Shaped[np.ndarray, "n"]) -> float:
  """Computes Spearman's correlation, Pearson's of average ranks; NaN where a side is constant."""
  return pearson(_ranks(target), _ranks(prediction))


def _ranks(values: Shaped[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
  """Ranks values from 1, ties by their average; from scipy 1.18 in the type of the values."""
  return np.asarray(stats.rankdata(np.asarray(values, np.float64)))


def auroc(label: Shaped[np.ndarray, "n"], score: Float[np.ndarray, "n"]) -> float:
  """Computes the probability that a positive scores above a negative, ties counting half.

  NaN unless both classes occur.
  """
  # From the rank sum (Mann and Whitney 1947): over the 4.6 million bases of a genome
  # sklearn.metrics.roc_auc_score takes 1.7 times as long.
  positive = np.asarray(label) > THRESHOLD
  n_positive, n_negative = int(positive.sum()), int((~positive).sum())
  if not n_positive or not n_negative:
    return NAN
  above = _ranks(score)[positive].sum() - n_positive * (n_positive + 1) / 2
  return float(above / n_positive / n_negative)


def auprc(label: Shaped[np.ndarray, "n"], score: Float[np.ndarray, "n"]) -> float:
  """Computes average precision, Σ (R_k - R_{k-1}) P_k over the distinct thresholds.

  No interpolation. The value of a constant score is the fraction of positives; NaN without them.
  """
  positive = np.asarray(label) > THRESHOLD
  return float(average_precision_score(positive, score)) if positive.any() else NAN


def accuracy(label: Shaped[np.ndarray, "n"], probability: Float[np.ndarray, "n"]) -> float:
  """Computes the share of values on the right side of 0.5 (0.5 itself counts as positive)."""
  if not len(label):
    return NAN
  return float(np.mean((np.asarray(label) > THRESHOLD) == (np.asarray(probability) >= THRESHOLD)))


def f1(label: Shaped[np.ndarray, "n"], probability: Float[np.ndarray, "n"]) -> float:
  """Computes 2 TP / (2 TP + FP + FN) at 0.5; NaN where neither side has a positive."""
  actual, called = np.asarray(label) > THRESHOLD, np.asarray(probability) >= THRESHOLD
  total = int(actual.sum()) + int(called.sum())
  return float(2 * np.sum(actual & called) / total) if total else NAN


def brier(label: Shaped[np.ndarray, "n"], probability: Float[np.ndarray, "n"]) -> float:
  """Computes Brier's score: mean squared difference of probability and label, 0 (best) to 1."""
  return mse(label, probability)


def mean_defined(values: Iterable[float]) -> float:
  """Averages those values that are finite; NaN where none is."""
  finite = [value for value in values if np.isfinite(value)]
  return float(np.mean(finite)) if finite else NAN


def finite_or_none(value: float) -> float | None:
  """Returns None in place of NaN, which JSON does not have."""
  return float(value) if np.isfinite(value) else None


class Reliability(NamedTuple):
  """A calibration curve: one row a bin of predicted probability; means of empty bins are NaN.

  Attributes:
    n: values in the bin.
    probability: their mean predicted probability.
    label: the fraction of them that is positive.
  """

  n: Int64[np.ndarray, "k"]
  probability: Float64[np.ndarray, "k"]
  label: Float64[np.ndarray, "k"]


def reliability(
  label: Shaped[np.ndarray, "n"],
  probability: Float[np.ndarray, "n"],
  n_bins: int = CALIBRATION_BINS,
) -> Reliability:
  """Compares predicted probabilities with the fractions of positives, by bins of probability.

  Bins are of equal width and closed on the right: bin k holds (k/K, (k+1)/K], and 0 belongs to the
  first, as `sklearn.calibration.calibration_curve(strategy="uniform")`.
  """
  label, probability = _pair(label, probability)
  # The inner edges alone; side "left", the default, closes bins on the right.
  bins = np.searchsorted(np.linspace(0, 1, n_bins + 1)[1:-1], probability)
  n = np.bincount(bins, minlength=n_bins)
  filled = np.where(n, n, 1)
  sums = (np.bincount(bins, values, n_bins) / filled for values in (probability, label))
  means = [np.where(n, mean, NAN) for mean in sums]
  return Reliability(n.astype(np.int64), *means)


def calibration_error(
  label: Shaped[np.ndarray, "n"],
  probability: Float[np.ndarray, "n"],
  n_bins: int = CALIBRATION_BINS,
) -> float:
  """Computes expected calibration error, Σ_k n_k/n · |mean label - mean probability|.

  Source: Guo et al. 2017, arXiv:1706.04599, equation 3, with their K = 15.
  """
  if not len(label):
    return NAN
  curve = reliability(label, probability, n_bins)
  return float(np.nansum(curve.n * np.abs(curve.label - curve.probability)) / len(label))


def cross_entropy(
  label: Shaped[np.ndarray, "n"],
  logit: Float[np.ndarray, "n"],
  weight: Shaped[np.ndarray, "n"] | None = None,
) -> float:
  """Computes the (weighted) mean binary cross-entropy of logits, in nats; finite where they are."""
  label, logit = _pair(label, logit)
  if not len(label):
    return NAN
  values = np.maximum(logit, 0) - logit * label + np.log1p(np.exp(-np.abs(logit)))
  return float(np.average(values, weights=weight))
