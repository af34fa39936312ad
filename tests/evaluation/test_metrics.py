"""Metrics against scikit-learn and scipy, by hand, and where they have no meaning."""

import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import calibration
from sklearn import metrics as sk

from alphaecoli.evaluation import metrics

CLOSE = {"rel": 1e-9, "abs": 1e-9}


def regression_case(kind: str) -> tuple[np.ndarray, np.ndarray]:
  rng = np.random.default_rng(3)
  target = rng.normal(size=400)
  cases = {
    "float64": (target, target + rng.normal(size=400)),
    "float32": (target.astype(np.float32), rng.normal(size=400).astype(np.float32)),
    "ties": (rng.integers(0, 4, 400).astype(np.float32), rng.integers(0, 3, 400) / 2),
    "far from zero": (target + 1e6, target * 3 + 2e6 + rng.normal(size=400)),
    "anticorrelated": (target, -target),
    "two values": (np.array([0.0, 1.0]), np.array([5.0, 2.0])),
    "tiny": (target * 1e-200, target * 1e-200 + rng.normal(size=400) * 1e-201),
  }
  return cases[kind]


REGRESSION = ["float64", "float32", "ties", "far from zero", "anticorrelated", "two values", "tiny"]


@pytest.mark.parametrize("kind", REGRESSION)
def test_regression_metrics_equal_scikit_learn_and_scipy(kind):
  target, prediction = regression_case(kind)
  y, p = target.astype(np.float64), prediction.astype(np.float64)
  assert metrics.mse(target, prediction) == pytest.approx(sk.mean_squared_error(y, p), **CLOSE)
  if kind != "tiny":  # the squares underflow, in the oracle too
    assert metrics.r2(target, prediction) == pytest.approx(sk.r2_score(y, p), **CLOSE)
  assert metrics.pearson(target, prediction) == pytest.approx(stats.pearsonr(y, p)[0], **CLOSE)
  spearman = stats.spearmanr(y, p).statistic
  assert metrics.spearman(target, prediction) == pytest.approx(spearman, **CLOSE)


def label_case(kind: str) -> tuple[np.ndarray, np.ndarray]:
  rng = np.random.default_rng(5)
  label = (rng.random(500) < 0.3).astype(np.float32)
  cases = {
    "float64": (label, np.clip(label * 0.2 + rng.random(500) * 0.8, 0, 1)),
    "float32": (label, rng.random(500).astype(np.float32)),
    "ties": (label, rng.integers(0, 5, 500) / 4),
    "constant score": (label, np.full(500, 0.25)),
    "bool label": (label > 0, rng.random(500)),
    "perfect": (label, label.astype(np.float64)),
    "reversed": (label, 1.0 - label),
    "all positive": (np.ones(7), np.linspace(0, 1, 7)),
    "all negative": (np.zeros(7), np.linspace(0, 1, 7)),
    "all negative, none called": (np.zeros(7), np.zeros(7)),
    "on the edges of bins": (rng.integers(0, 2, 16), np.arange(16) / 15),
  }
  return cases[kind]


LABELS = [
  "float64",
  "float32",
  "ties",
  "constant score",
  "bool label",
  "perfect",
  "reversed",
  "all positive",
  "all negative",
  "all negative, none called",
  "on the edges of bins",
]


@pytest.mark.parametrize("kind", LABELS)
def test_classification_metrics_equal_scikit_learn(kind):
  label, score = label_case(kind)
  y, called = label.astype(int), score >= 0.5
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # one class: the oracle warns and says nan
    auroc = sk.roc_auc_score(y, score)
  assert metrics.auroc(label, score) == pytest.approx(auroc, nan_ok=True, **CLOSE)
  precision = sk.average_precision_score(y, score) if y.any() else np.nan
  assert metrics.auprc(label, score) == pytest.approx(precision, nan_ok=True, **CLOSE)
  assert metrics.accuracy(label, score) == pytest.approx(sk.accuracy_score(y, called), **CLOSE)
  f1 = sk.f1_score(y, called, zero_division=np.nan)
  assert metrics.f1(label, score) == pytest.approx(f1, nan_ok=True, **CLOSE)
  brier = sk.brier_score_loss(y, score.astype(np.float64), pos_label=1)
  assert metrics.brier(label, score) == pytest.approx(brier, **CLOSE)


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("n_bins", [1, 10, 15])
def test_calibration_error_equals_the_curve_of_scikit_learn(kind, n_bins):
  label, score = label_case(kind)
  score = score.astype(np.float64)
  edges = np.linspace(0, 1, n_bins + 1)
  true, predicted = calibration.calibration_curve(
    label.astype(int), score, n_bins=n_bins, pos_label=1
  )
  counts = np.bincount(np.searchsorted(edges[1:-1], score), minlength=n_bins)
  expected = np.sum(counts[counts > 0] / len(score) * np.abs(true - predicted))
  assert metrics.calibration_error(label, score, n_bins) == pytest.approx(expected, **CLOSE)
  curve = metrics.reliability(label, score, n_bins)
  np.testing.assert_array_equal(curve.n, counts)
  np.testing.assert_allclose(curve.label[counts > 0], true)
  np.testing.assert_allclose(curve.probability[counts > 0], predicted)
  assert np.isnan(curve.label[counts == 0]).all() and np.isnan(curve.probability[counts == 0]).all()


def test_cross_entropy_equals_log_loss_and_stays_finite():
  rng = np.random.default_rng(0)
  label, logit = rng.integers(0, 2, 300), rng.normal(size=300) * 4
  expected = sk.log_loss(label, 1 / (1 + np.exp(-logit)))
  assert metrics.cross_entropy(label, logit) == pytest.approx(expected, **CLOSE)
  assert metrics.cross_entropy(np.array([0, 1]), np.array([1e4, 1e4])) == 5_000


def test_worked_by_hand():
  label = np.array([1, 0, 1, 0])
  score = np.array([0.9, 0.8, 0.8, 0.1])
  # Positive-negative pairs: 0.9 beats 0.8 and 0.1; 0.8 ties with 0.8 and beats 0.1: 3.5 of 4.
  assert metrics.auroc(label, score) == 3.5 / 4
  # Thresholds 0.9 (recall 1/2, precision 1) and 0.8 (recall 1, precision 2/3).
  assert metrics.auprc(label, score) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
  assert metrics.accuracy(label, score) == 0.75
  assert metrics.f1(label, score) == pytest.approx(2 * 2 / (2 * 2 + 1 + 0))
  assert metrics.brier(label, score) == pytest.approx((0.01 + 0.64 + 0.04 + 0.01) / 4)
  assert metrics.r2(np.array([1.0, 2, 3]), np.array([1.0, 2, 4])) == pytest.approx(1 - 1 / 2)


@pytest.mark.parametrize("metric", [metrics.pearson, metrics.spearman])
@pytest.mark.parametrize("n", [0, 1, 5])
def test_correlation_with_a_constant_is_undefined(metric, n):
  assert np.isnan(metric(np.arange(float(n)), np.full(n, 0.1)))
  assert np.isnan(metric(np.full(n, 0.1), np.arange(float(n))))


@pytest.mark.parametrize("metric", ["r2", "mse", "auroc", "auprc", "accuracy", "f1", "brier"])
def test_no_values_is_undefined(metric):
  assert np.isnan(getattr(metrics, metric)(np.zeros(0), np.zeros(0)))
  assert np.isnan(metrics.calibration_error(np.zeros(0), np.zeros(0)))
  assert np.isnan(metrics.cross_entropy(np.zeros(0), np.zeros(0)))


def test_r2_of_a_constant_target_is_undefined():
  assert np.isnan(metrics.r2(np.ones(4), np.arange(4.0)))
