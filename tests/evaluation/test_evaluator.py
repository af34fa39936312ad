"""Figures of a split, against scikit-learn and scipy over plain slices of a made-up chromosome."""

import dataclasses
import itertools
import json
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from sklearn import metrics as sk

from alphaecoli.data.pipeline import evaluation_batches
from alphaecoli.evaluation import evaluator as evaluation
from alphaecoli.evaluation.evaluator import assemble, evaluate, summarise
from alphaecoli.evaluation.gene_values import split_genes, split_pairs
from alphaecoli.evaluation.results import Report
from alphaecoli.evaluation.run import gene_table
from alphaecoli.evaluation.split_arrays import Layout
from alphaecoli.genomics.sequence import encode, reverse_complement
from alphaecoli.schema import HEADS, LossWeights
from alphaecoli.tracks.gene_table import GeneTable
from alphaecoli.tracks.store import TrackStore
from alphaecoli.tracks.track_table import ExpressionTrack, TrackTable
from alphaecoli.training.losses import losses
from tests.evaluation.test_split_arrays import merged

LENGTH_BP = 60_007
WINDOW_BP = 2_048
SPLITS = {  # the second test region crosses the origin
  "train": [[11_000, 30_000], [40_100, 56_000]],
  "validation": [[2_100, 11_000]],
  "test": [[30_000, 40_100], [56_000, LENGTH_BP + 2_100]],
}
TEST_ROWS = np.concatenate([np.arange(a, b) % LENGTH_BP for a, b in SPLITS["test"]])
TRACKS = (
  ExpressionTrack("warm", ".", ("A",), 3.0, 2.0),
  ExpressionTrack("cold", ".", ("B",), 1.0, 0.5),
)
CLOSE = {"rel": 1e-6, "abs": 1e-6}
# Of no start or stop codon.
CODONS = [
  "".join(c)
  for c in itertools.product("ACGT", repeat=3)
  if "".join(c) not in ("TAA", "TAG", "TGA", "ATG", "GTG", "TTG")
]


def make_store(tracks=TRACKS, has_expression=True, has_operons=True) -> TrackStore:
  """Genes of 300 to 900 bp around the circle with gaps, in operons of 1 to 4; nothing on disk.

  Every third operon of one gene is a tRNA; the gene across the origin has no whole codons.
  """
  rng = np.random.default_rng(1)
  start, end, operon = [], [], []
  at, left, number = 50, 0, 0
  while at < LENGTH_BP - 1_100:
    if left == 0:
      left, number = int(rng.integers(1, 5)), number + 1
      at += 150
    length = 3 * int(rng.integers(100, 300))
    start, end = [*start, at], [*end, at + length]
    operon.append(f"O{number}")
    at, left = at + length + int(rng.integers(5, 90)), left - 1
  start, end = [*start, LENGTH_BP - 100], [*end, LENGTH_BP + 40]  # across the origin, alone
  operon.append("")
  n = len(start)
  ids = np.array(operon, np.str_)
  log_tpm = rng.gamma(2.0, 1.5, (n, len(tracks)))
  log_tpm[rng.random(log_tpm.shape) < 0.1] = np.nan
  alone = [o for o in dict.fromkeys(operon) if o and operon.count(o) == 1]
  strands = {o: rng.choice([-1, 1]) for o in dict.fromkeys(operon)}
  genes = GeneTable(
    gene_id=np.array([f"G{i}" for i in range(n)]),
    name=np.array([f"g{i}" for i in range(n)]),
    locus_tag=np.array([""] * n),
    start=np.array(start, np.int64),
    end=np.array(end, np.int64),
    strand=np.array([strands[o] for o in operon], np.int8),
    type=np.array(["tRNA" if o in alone[::3] else "mRNA" for o in operon]),
    split=np.array(["unused"] * n),
    operon_id=ids,
    fragments=tuple(((a, b),) for a, b in zip(start, end, strict=True)),
    log_tpm=log_tpm if has_expression else np.full_like(log_tpm, np.nan),
  )
  expression = np.full((LENGTH_BP, len(tracks)), np.nan, np.float32)
  inside = np.zeros(LENGTH_BP, np.uint8)
  table = TrackTable(tracks, 1.1, 0.6, has_expression, has_operons)
  mean, std = np.array([t.mean for t in tracks]), np.array([t.std for t in tracks])
  for i in range(n):
    rows = np.arange(start[i], end[i]) % LENGTH_BP
    expression[rows] = (genes.log_tpm[i] - mean) / std
    members = np.flatnonzero(ids == ids[i])
    if ids[i] and len(members) > 1:
      inside[start[members[0]] : end[members[-1]]] = 1
  manifest = {
    "tracks": table.to_json(),
    "contig": {"name": "made up", "length_bp": LENGTH_BP, "circular": True},
    "fingerprint": "0",
    "splits": SPLITS,
  }
  store = TrackStore("nowhere", manifest)
  sequence = rng.integers(0, 4, LENGTH_BP).astype(np.uint8)
  for first, last, strand in zip(start[:-1], end[:-1], genes.strand, strict=False):
    gene = encode("ATG" + "".join(rng.choice(CODONS, (last - first) // 3 - 2)) + "TAA")
    sequence[first:last] = gene if strand > 0 else reverse_complement(gene)
  vars(store).update(
    sequence=sequence,
    gene_expression=expression,
    operon_membership=inside,
    genes=genes,
  )
  return store


@pytest.fixture(scope="module")
def store() -> TrackStore:
  return make_store()


@pytest.fixture(scope="module")
def one_track_store() -> TrackStore:
  return make_store(TRACKS[:1])


def perfect(batch):
  return {
    "gene_expression": batch["gene_expression"],
    "gene_density": batch["gene_density"],
    **{
      head: 20 * (2 * batch[head] - 1)
      for head in ("operon_membership", "gene_structure", "operon_junction")
    },
  }


class Noisy:
  """Noise for every base of the chromosome, added to a faded truth; the same for any tiling."""

  def __init__(self, store: TrackStore):
    rng = np.random.default_rng(7)
    shape = (LENGTH_BP, len(store.table.expression))
    self.expression = 0.5 * np.nan_to_num(store.gene_expression) + rng.normal(size=shape)
    self.density = rng.normal(size=(LENGTH_BP, 1))  # of the bin that starts here
    self.operon = store.operon_membership[:, None] + 2 * rng.normal(size=(LENGTH_BP, 1))
    self.auxiliary = {
      head: 2 * rng.normal(size=(LENGTH_BP, HEADS[head].channels))
      for head in ("gene_structure", "operon_junction")
    }

  def __call__(self, batch):
    rows = (batch["start"][:, None] + np.arange(WINDOW_BP)) % LENGTH_BP
    density = batch["gene_density"] + self.density[rows[:, ::128]]
    outputs = {"gene_expression": self.expression[rows], "gene_density": density}
    outputs["operon_membership"] = self.operon[rows]
    outputs |= {h: 2 * batch[h] - 1 + noise[rows] for h, noise in self.auxiliary.items()}
    return {head: value.astype(np.float32) for head, value in outputs.items()}


def run(store, predict, split="test", **options) -> Report:
  options = {"window_bp": WINDOW_BP, "batch_windows": 3, **options}
  return evaluate(predict, store, split, **options)


def test_a_perfect_predictor_reaches_the_best_of_every_figure(one_track_store):
  scalars = run(one_track_store, perfect).scalars()
  # Below 1 where a border of the split cuts an operon; of a whole one: test_structure.py.
  assert 0.8 < scalars.pop("operon_junction/bases_auroc") < 1
  best = dict.fromkeys(("r2", "pearson", "spearman", "auroc", "auprc", "accuracy", "f1"), 1)
  best |= {"sensitivity": 1, "precision": 1}
  worst = {"mse": 0, "brier": 0, "error": 0}
  for name, value in scalars.items():
    expected = 0 if name.startswith("loss/") else (best | worst)[name.split("_")[-1].split("/")[-1]]
    assert value == pytest.approx(expected, abs=1e-6), name
  assert len(scalars) == 7 + 3 + 7 + 2 + 4 + 1 + 6


def test_figures_equal_those_of_scikit_learn_and_scipy(one_track_store):
  store = one_track_store
  noisy = Noisy(store)
  found = run(store, noisy).scalars()
  genes = store.genes
  place = {row: i for i, row in enumerate(TEST_ROWS)}
  region = [0] * (SPLITS["test"][0][1] - SPLITS["test"][0][0])
  region += [1] * (len(TEST_ROWS) - len(region))
  target, prediction, coding, inside = [], [], [], []
  for i in range(len(genes)):
    rows = np.arange(genes.start[i], genes.end[i]) % LENGTH_BP
    if not all(row in place for row in rows) or region[place[rows[0]]] != region[place[rows[-1]]]:
      continue
    inside.append((place[rows[0]], place[rows[-1]] + 1, i))
    if not np.isnan(genes.log_tpm[i, 0]):
      target.append(genes.log_tpm[i, 0])
      prediction.append(2.0 * noisy.expression[rows, 0].astype(np.float32).mean() + 3.0)
      coding.append(genes.type[i] == "mRNA" and len(rows) % 3 == 0)
  assert 10 < sum(coding) < len(target) < len(inside) < len(genes)
  check = {}
  for name, rows in (("genes", slice(None)), ("coding_genes", coding)):
    y, p = np.array(target)[rows], np.array(prediction)[rows]
    check |= {
      f"gene_expression/{name}_r2": sk.r2_score(y, p),
      f"gene_expression/{name}_pearson": stats.pearsonr(y, p)[0],
      f"gene_expression/{name}_spearman": stats.spearmanr(y, p).statistic,
    }
  y, p = store.gene_expression[TEST_ROWS, 0], noisy.expression[TEST_ROWS, 0]
  known = ~np.isnan(y)
  check["gene_expression/bases_r2"] = sk.r2_score(y[known], p[known])
  length = np.zeros(LENGTH_BP)
  for start, end in zip(genes.start, genes.end, strict=True):  # none overlaps another
    length[np.arange(start, end) % LENGTH_BP] = end - start
  weight = 1 / length[TEST_ROWS][known]
  check["loss/gene_expression"] = sk.mean_squared_error(y[known], p[known], sample_weight=weight)
  by_base = run(store, noisy, expression_weighting="base").scalars()["loss/gene_expression"]
  assert by_base == pytest.approx(sk.mean_squared_error(y[known], p[known]), **CLOSE)
  label, logit = store.operon_membership[TEST_ROWS], noisy.operon[TEST_ROWS, 0]
  probability = special.expit(logit)
  check |= {
    "operon_membership/auroc": sk.roc_auc_score(label, probability),
    "operon_membership/auprc": sk.average_precision_score(label, probability),
    "operon_membership/accuracy": sk.accuracy_score(label, probability >= 0.5),
    "operon_membership/f1": sk.f1_score(label, probability >= 0.5),
    "operon_membership/brier": sk.brier_score_loss(label, probability),
    "loss/operon_membership": sk.log_loss(label, probability),
  }
  same, score = [], []
  for (a, b, i), (c, d, j) in zip(sorted(inside), sorted(inside)[1:], strict=False):
    if genes.strand[i] == genes.strand[j] and region[a] == region[c]:
      same.append(genes.operon_id[i] == genes.operon_id[j])
      score.append(probability[(a + b) // 2 : (c + d) // 2].mean())
  check["operon_membership/pairs_auroc"] = sk.roc_auc_score(same, score)
  for name, expected in check.items():
    assert found[name] == pytest.approx(expected, **CLOSE), name
  weights = LossWeights(2.0, 0.5, 3.0, 1.5, 0.25)
  total = run(store, noisy, weights=weights).scalars()["loss/total"]
  by_head = [found[f"loss/{head}"] for head in dataclasses.asdict(weights)]
  assert total == pytest.approx(np.dot([2.0, 0.5, 3.0, 1.5, 0.25], by_head))


def test_pairs_count_again_beside_operons_known_by_experiment(one_track_store):
  store = make_store(TRACKS[:1])
  noisy, plain, operon = Noisy(store), store.genes, store.genes.operon_id
  before = {m.name for m in run(store, noisy).metrics}
  evidence = np.array(["experimental" if o[1:] and int(o[1:]) % 3 == 0 else "" for o in operon])
  vars(store)["genes"] = dataclasses.replace(plain, operon_evidence=evidence)
  report = run(store, noisy)
  names = {"operon_membership/experimental_pairs_auroc", "operon_junction/experimental_pairs_auroc"}
  assert {m.name for m in report.metrics} - before == names
  pairs, genes = report.predictions.pairs, report.predictions.genes
  ids = np.array([genes["operon_id"][pairs[side]] for side in ("left", "right")])
  at = np.isin(ids, operon[evidence != ""]).any(axis=0)
  assert 0 < at.sum() < len(at)
  found = {m.name: m for m in report.metrics}
  for head, score in (("operon_membership", "probability"), ("operon_junction", "junction")):
    metric, same = found[f"{head}/experimental_pairs_auroc"], pairs["same_operon"][at]
    assert metric.n == at.sum()
    assert metric.model == pytest.approx(sk.roc_auc_score(same, pairs[score][at]), **CLOSE)
    expected = sk.roc_auc_score(same, -pairs["distance_bp"][at])
    assert metric.baseline == pytest.approx(expected, **CLOSE)


def test_pairs_of_operons_that_are_unknown_count_in_no_metric():
  store = make_store(TRACKS[:1])
  before = split_pairs_of(store)
  operon = store.genes.operon_id
  several = [sum(operon == o) > 1 for o in operon]
  states = np.array([["experimental", "other", "none"][int(o[1:] or 0) % 3] for o in operon])
  evidence = np.where(several, states, "")
  vars(store).update(genes=dataclasses.replace(store.genes, operon_evidence=evidence))
  store.masks_operons = True
  after = split_pairs_of(store)
  assert 0 < len(after) < len(before) and after < before
  for left, right in before:
    states = {evidence[left], evidence[right]}
    assert ((left, right) in after) == ("experimental" in states or states == {""})


def split_pairs_of(store) -> set[tuple[int, int]]:
  """Rows of the genes of the test split's pairs."""
  layout = Layout(tuple((a, b) for a, b in SPLITS["test"]), LENGTH_BP)
  genes = split_genes(layout, store)
  pairs = split_pairs(layout, genes)
  rows = (genes["row"][pairs[side]].tolist() for side in ("left", "right"))
  return set(zip(*rows, strict=True))


def test_figures_of_the_auxiliary_heads_equal_those_of_scikit_learn(one_track_store):
  store = one_track_store
  noisy, genes = Noisy(store), store.genes
  found = run(store, noisy).scalars()
  truth = np.zeros((LENGTH_BP, 8))
  for i in range(len(genes) - 1):
    channel = np.arange(genes.end[i] - genes.start[i]) % 3
    channel = channel if genes.type[i] == "mRNA" else np.full_like(channel, 3)
    channel = channel if genes.strand[i] > 0 else channel[::-1] + 4
    truth[np.arange(genes.start[i], genes.end[i]), channel] = 1
  logit = 2 * truth - 1 + noisy.auxiliary["gene_structure"]
  across, strand = np.arange(LENGTH_BP - 100, LENGTH_BP + 40) % LENGTH_BP, genes.strand[-1]
  truth[across[:, None], np.arange(4) + (0 if strand > 0 else 4)] = np.nan
  truth, logit = truth[TEST_ROWS], logit[TEST_ROWS]
  known = ~np.isnan(truth)
  by_channel = [
    sk.roc_auc_score(truth[known[:, c], c], logit[known[:, c], c])
    for c in range(8)
    if truth[known[:, c], c].any()
  ]
  weight = np.broadcast_to([1, 1, 1, 8, 1, 1, 1, 8], truth.shape)[known]
  is_codon = np.array([c % 4 < 3 for c in range(8) if truth[known[:, c], c].any()])
  expected = {
    "gene_structure/codon_auroc": np.mean(np.array(by_channel)[is_codon]),
    "gene_structure/rna_auroc": np.mean(np.array(by_channel)[~is_codon]),
    "loss/gene_structure": sk.log_loss(
      truth[known], special.expit(logit[known]), sample_weight=weight
    ),
  }
  position = {row: i for i, row in enumerate(TEST_ROWS)}
  border = SPLITS["test"][0][1] - SPLITS["test"][0][0]
  same, score, label, chance, weight = [], [], [], [], []
  for i, j in itertools.pairwise([*range(len(genes)), 0]):
    if genes.strand[i] != genes.strand[j]:
      continue
    lap = LENGTH_BP if j == 0 else 0
    rows = np.arange(genes.end[i] - 30, genes.start[j] + lap + 30) % LENGTH_BP
    value = float(genes.operon_id[i] == genes.operon_id[j] != "")
    x = 2 * value - 1 + noisy.auxiliary["operon_junction"][rows, 0 if genes.strand[i] > 0 else 1]
    mine = [row in position for row in rows.tolist()]
    label, chance = [*label, *[value] * sum(mine)], [*chance, *special.expit(x[mine])]
    weight += [1 / len(rows)] * sum(mine)
    ends = (genes.start[i] % LENGTH_BP, (genes.end[j] - 1) % LENGTH_BP)
    at = [position.get(row, -1) for row in ends]
    if min(at) >= 0 and (at[0] < border) == (at[1] < border) and at[0] < at[1]:
      same, score = [*same, value], [*score, x.mean()]
  expected["loss/operon_junction"] = sk.log_loss(label, chance, sample_weight=weight)
  expected["operon_junction/pairs_auroc"] = sk.roc_auc_score(same, score)
  for name, value in expected.items():
    assert found[name] == pytest.approx(value, **CLOSE), name


@pytest.mark.parametrize("weighting", ["gene", "base"])
def test_losses_of_a_split_are_those_of_training_on_its_windows(store, weighting):
  noisy, weights = Noisy(store), LossWeights(*(1.0 for _ in HEADS))
  with evaluation_batches(
    store, "test", window_bp=WINDOW_BP, batch_windows=16, process_index=0, process_count=1
  ) as batches:
    (batch,) = batches
  outputs, batch = jax.tree.map(jnp.asarray, (noisy(batch), dict(batch)))
  total, by_head = losses(outputs, batch, weights, expression_weighting=weighting)
  found = run(store, noisy, weights=weights, expression_weighting=weighting).scalars()
  for head, value in by_head.items():
    assert found[f"loss/{head}"] == pytest.approx(float(value), rel=1e-5), head
  assert found["loss/total"] == pytest.approx(float(total), rel=1e-5)


def test_density_figures_count_every_whole_new_bin(one_track_store):
  noisy = Noisy(one_track_store)
  report = run(one_track_store, noisy)
  target, noise = [], []
  for start, end in SPLITS["test"]:
    tiles = [*range(start, end - WINDOW_BP, WINDOW_BP), end - WINDOW_BP]
    for before, tile in zip([0, *tiles], tiles, strict=False):
      for at in range(tile, tile + WINDOW_BP, 128):
        if tile != tiles[-1] or at >= before + WINDOW_BP:
          rows = set(range(at, at + 128)) | set(range(at - LENGTH_BP, at + 128 - LENGTH_BP))
          spans = zip(one_track_store.genes.start, one_track_store.genes.end, strict=True)
          target.append(sum(not rows.isdisjoint(range(a, b)) for a, b in spans))
          noise.append(noisy.density[at % LENGTH_BP, 0])
  found = {f.name: f for f in report.metrics}
  prediction = np.add(target, noise)
  assert found["gene_density/mse"].n == len(target)
  assert found["gene_density/r2"].model == pytest.approx(sk.r2_score(target, prediction), **CLOSE)
  assert found["gene_density/mse"].baseline == pytest.approx(np.mean((np.array(target) - 1.1) ** 2))


def test_baselines_know_only_the_training_means(one_track_store):
  figures = {f.name: f for f in run(one_track_store, Noisy(one_track_store)).metrics}
  label = one_track_store.operon_membership[TEST_ROWS]
  assert np.isnan(figures["gene_expression/genes_pearson"].baseline)
  assert figures["gene_expression/genes_r2"].baseline <= 0
  assert figures["gene_density/r2"].baseline <= 0
  assert figures["operon_membership/auroc"].baseline == 0.5
  assert figures["operon_membership/auprc"].baseline == pytest.approx(label.mean())
  assert figures["operon_membership/brier"].baseline == pytest.approx(np.mean((label - 0.6) ** 2))
  assert figures["operon_membership/accuracy"].baseline == pytest.approx(label.mean())
  assert figures["loss/operon_membership"].baseline == pytest.approx(
    sk.log_loss(label, np.full(len(label), 0.6))
  )
  assert figures["operon_membership/pairs_auroc"].baseline > 0.8  # as the genes were laid out


def test_figures_do_not_depend_on_processes_or_batches(store):
  noisy = Noisy(store)
  expected = run(store, noisy).to_json()
  assert expected == run(store, noisy, batch_windows=1).to_json()
  for count in (2, 3):
    parts = [
      assemble(
        noisy, store, "test", window_bp=WINDOW_BP, batch_windows=2 * count,
        process_index=index, process_count=count,
      )
      for index in range(count)
    ]  # fmt: skip
    assert summarise(merged(parts), store, "test").to_json() == expected


def test_processes_gather_each_others_windows(store, monkeypatch):
  noisy, count = Noisy(store), 2
  options = {"window_bp": WINDOW_BP, "batch_windows": 4, "process_count": count}
  parts = [assemble(noisy, store, "test", process_index=i, **options) for i in range(count)]
  columns = [
    np.stack([part._column(head, track) for part in parts])
    for head in parts[0].targets
    for track in range(parts[0].targets[head].shape[1])
  ]
  gathered = iter(columns)

  def process_allgather(column):
    everyone = next(gathered)
    np.testing.assert_array_equal(column, everyone[1])
    return everyone

  monkeypatch.setattr("jax.experimental.multihost_utils.process_allgather", process_allgather)
  report = run(store, noisy, process_index=1, batch_windows=4, process_count=count)
  assert report.to_json() == run(store, noisy).to_json()


def test_outputs_may_lie_on_several_devices(store):
  noisy = Noisy(store)
  mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4])
  where = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))

  def predict(batch):
    return {head: jax.device_put(jnp.asarray(v), where) for head, v in noisy(batch).items()}

  assert run(store, predict, batch_windows=4).to_json() == run(store, noisy).to_json()


def test_several_tracks_are_reported_by_name_and_as_their_mean(store):
  found = run(store, Noisy(store)).scalars()
  over_genes = [
    f"{w}_{m}" for w in ("genes", "coding_genes") for m in ("r2", "pearson", "spearman")
  ]
  for figure in (*over_genes, "bases_r2"):
    each = [found[f"gene_expression/{figure}/{track.name}"] for track in TRACKS]
    assert found[f"gene_expression/{figure}"] == pytest.approx(np.mean(each))


def test_the_json_has_null_where_a_figure_is_undefined_and_no_arrays(store):
  def constant(batch):
    return {head: np.full_like(value, 0.25) for head, value in perfect(batch).items()}

  report = run(store, constant)
  value = json.loads(json.dumps(report.to_json(), allow_nan=False))
  pearson = value["metrics"]["gene_expression/genes_pearson"]
  assert pearson["model"] is None and pearson["n"] > 0 and pearson["over"] == "genes"
  assert "gene_expression/genes_pearson" not in report.scalars()
  assert value["metrics"]["operon_membership/auroc"]["model"] == 0.5
  assert value["n_bases"] == len(TEST_ROWS)


def test_the_json_holds_the_calibration_curve_behind_its_figure(store):
  value = json.loads(json.dumps(run(store, Noisy(store)).to_json(), allow_nan=False))
  curve, figure = value["calibration"], value["metrics"]["operon_membership/calibration_error"]
  assert sum(curve["n"]) == figure["n"]
  rows = [row for row in zip(*curve.values(), strict=True) if row[0]]
  error = sum(n * abs(p - label) for n, p, label in rows) / figure["n"]
  assert error == pytest.approx(figure["model"])
  assert all((n == 0) == (p is None) for n, p in zip(curve["n"], curve["label"], strict=True))


def test_the_table_is_aligned_and_shows_model_baseline_and_n(store):
  lines = run(store, Noisy(store)).table().splitlines()
  assert lines[0] == f"test split, {len(TEST_ROWS):,} bases"
  ends = {line.rindex(" ") for line in lines[2:-1]}
  assert len(ends) == 1  # n ends in one column, before its unit
  pearson = next(line for line in lines if line.startswith("gene_expression/genes_pearson "))
  assert pearson.split()[2] == "-"


@pytest.mark.parametrize(
  ("options", "weights", "missing"),
  [
    ({"has_expression": False}, (1.0,) * 5, ["gene_expression"]),
    ({"has_operons": False}, (1.0,) * 5, ["operon_membership", "operon_junction"]),
    ({}, (1.0, 0.0, 1.0, 1.0, 1.0), ["gene_density"]),
    ({}, (1.0, 1.0, 1.0), ["gene_structure", "operon_junction"]),
  ],
)
def test_heads_without_data_or_weight_are_skipped_and_named(options, weights, missing, caplog):
  evaluation._say_once.cache_clear()
  store = make_store(**options)
  with caplog.at_level("WARNING", "alphaecoli"):
    reports = [run(store, Noisy(store), weights=LossWeights(*weights)) for _ in range(2)]
  assert list(reports[0].skipped) == missing
  scalars = reports[0].scalars()
  assert not any(head in name for name in scalars for head in missing)
  assert ("gene_calls/stop_precision" in scalars) == ("gene_structure" not in missing)
  assert np.isfinite(scalars["loss/total"])
  assert len(caplog.records) == len(missing)


def test_predictions_are_kept_for_plots(one_track_store):
  noisy = Noisy(one_track_store)
  kept = run(one_track_store, noisy).predictions
  assert kept.layout.n_bases == len(TEST_ROWS)
  expected = noisy.expression[TEST_ROWS].astype(np.float32)
  np.testing.assert_array_equal(kept.bases["gene_expression"], expected)
  across = list(kept.genes["gene_id"]).index(one_track_store.genes.gene_id[-1])
  rows = np.arange(LENGTH_BP - 100, LENGTH_BP + 40) % LENGTH_BP
  assert kept.genes["predicted_z"][across, 0] == pytest.approx(
    noisy.expression[rows].astype(np.float32).mean(), abs=1e-6
  )


def test_two_processes_with_global_outputs_find_what_one_finds(store):
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  command = [sys.executable, "-m", "tests.evaluation.evaluation_process"]
  root = Path(__file__).parents[2]
  processes = [
    subprocess.Popen(
      [*command, str(index), "2", str(port)], cwd=root, stdout=subprocess.PIPE, text=True
    )
    for index in range(2)
  ]
  try:
    outputs = [process.communicate(timeout=300)[0] for process in processes]
  finally:
    for process in processes:
      process.kill()
      process.wait()
  expected = run(store, Noisy(store)).to_json()
  assert [json.loads(text.splitlines()[-1]) for text in outputs] == [expected, expected]


def over_contigs(store: TrackStore, *tests: list[list[int]]) -> TrackStore:
  """The same chromosome several times: each contig has some of the test regions."""
  nothing = {"train": [], "validation": []}
  each = [{**(nothing if i else SPLITS), "test": regions} for i, regions in enumerate(tests)]
  return with_splits(store, *each)


def with_splits(store: TrackStore, *each: dict[str, list[list[int]]]) -> TrackStore:
  """The same chromosome several times, each with splits of its own."""
  parts: list[TrackStore] = []
  for i, splits in enumerate(each):
    contig = {**store.manifest["contig"], "name": f"contig {i + 1}"}
    parts.append(TrackStore("nowhere", {**store.manifest, "contig": contig, "splits": splits}))
  whole = TrackStore("nowhere", parts[0].manifest, parts[1:])
  for part in whole.replicons:
    names = ("sequence", "gene_expression", "operon_membership", "genes")
    vars(part).update({name: getattr(store, name) for name in names})
  return whole


def test_figures_of_contigs_are_those_of_all_their_values_together(one_track_store):
  store, noisy = one_track_store, Noisy(one_track_store)
  two, one = run(over_contigs(store, *([r] for r in SPLITS["test"])), noisy), run(store, noisy)
  assert two.to_json() == one.to_json() and two.n_bases == one.n_bases
  assert two.scalars().keys() >= {"gene_calls/stop_precision", "operon_junction/bases_auroc"}
  columns, single = two.predictions.genes, one.predictions.genes
  for name in ("gene_id", "start", "end", "first", "last", "predicted_z"):
    np.testing.assert_array_equal(columns[name], single[name], err_msg=name)
  n = sum(last <= SPLITS["test"][0][1] - SPLITS["test"][0][0] for last in columns["last"])
  assert columns["contig"].tolist() == ["contig 1"] * n + ["contig 2"] * (len(columns["row"]) - n)
  assert (columns["row"][n:] == single["row"][n:] + len(store.genes)).all()
  table = gene_table(columns, store.table)
  assert list(table)[:2] == ["contig", "gene_id"] and "contig" not in gene_table(
    single, store.table
  )


def test_a_contig_for_training_alone_counts_in_no_figure(store):
  first, noisy = SPLITS["test"][:1], Noisy(store)
  alone = run(over_contigs(store, first), noisy)
  assert run(over_contigs(store, first, []), noisy).to_json() == alone.to_json()
