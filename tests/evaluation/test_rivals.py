"""The rivals: fitted without held-out labels, on the model's values, and worked out by hand."""

import dataclasses
import functools
import importlib.util
import json
import sys

import numpy as np
import pytest

from alphaecoli import evaluate as command
from alphaecoli.errors import ConfigError
from alphaecoli.evaluation import called_genes, rivals
from alphaecoli.evaluation.called_genes import CalledGenes
from alphaecoli.evaluation.evaluator import evaluate
from alphaecoli.evaluation.gene_values import GenomeGenes, contig_genes
from alphaecoli.genomics import gene_features
from alphaecoli.genomics.sequence import encode, read_fasta, reverse_complement
from alphaecoli.regulondb.dump import builtin_genome
from alphaecoli.schema import LossWeights
from alphaecoli.tracks.gene_table import GeneTable
from alphaecoli.tracks.process import process_data
from alphaecoli.tracks.store import TrackStore
from alphaecoli.tracks.track_table import ExpressionTrack, TrackTable
from tests.evaluation.test_evaluator import (
  LENGTH_BP,
  SPLITS,
  TEST_ROWS,
  WINDOW_BP,
  make_store,
  over_contigs,
  perfect,
)
from tests.stores import config_of

pytestmark = pytest.mark.filterwarnings("ignore:sequence should be at least")  # Prodigal's
needs_prodigal = pytest.mark.skipif(
  importlib.util.find_spec("pyrodigal") is None, reason="pyrodigal is not installed"
)


def small_store(codes, rows=(), *, circular=True, splits=None) -> TrackStore:
  """A chromosome with genes (start, end, strand, type); nothing on disk."""
  length_bp = len(codes)
  table = TrackTable((ExpressionTrack("mean", ".", (), 0.0, 1.0),), 1.0, 0.5, False, False)
  manifest = {
    "tracks": table.to_json(),
    "contig": {"name": "small", "length_bp": length_bp, "circular": circular},
    "fingerprint": "0",
    "splits": splits or {"train": [[0, length_bp]], "validation": [], "test": [[0, length_bp]]},
  }
  start, end, strand, kind = zip(*rows, strict=True) if rows else ((), (), (), ())
  text = np.array([f"G{i}" for i in range(len(rows))], np.str_)
  genes = GeneTable(
    gene_id=text, name=text, locus_tag=text, split=text, operon_id=text,
    start=np.array(start, np.int64), end=np.array(end, np.int64),
    strand=np.array(strand, np.int8), type=np.array(kind, np.str_),
    fragments=tuple(((a, b),) for a, b in zip(start, end, strict=True)),
    log_tpm=np.full((len(rows), 1), np.nan),
  )  # fmt: skip
  store = TrackStore("nowhere", manifest)
  vars(store).update(sequence=np.asarray(codes, np.uint8), genes=genes)
  return store


def called(*rows) -> CalledGenes:
  return CalledGenes(*np.array(rows, np.int64).reshape(-1, 3).T)


@functools.cache
def chromosome() -> np.ndarray:
  """The first bases of the embedded genome, where there are genes to call."""
  return np.asarray(read_fasta(builtin_genome())[0].codes[:LENGTH_BP])


def made_up_store(**options) -> TrackStore:
  """Made-up genes on a real sequence."""
  store = make_store(**options)
  vars(store).update(sequence=chromosome())
  return store


@pytest.fixture(scope="module")
def store() -> TrackStore:
  return made_up_store()


@pytest.fixture(scope="module")
def found(store):
  return rivals.measure(store, "test", WINDOW_BP)


def relabelled(store, region_rows) -> TrackStore:
  """The same store with other expression and operons in some bases and their genes."""
  rng = np.random.default_rng(3)
  other = made_up_store()
  inside = np.isin(store.genes.start % store.length_bp, region_rows)
  log_tpm, operon_id = store.genes.log_tpm.copy(), store.genes.operon_id.astype("<U9")
  log_tpm[inside] = rng.gamma(2.0, 1.5, log_tpm[inside].shape)
  operon_id[inside] = rng.choice(["", "X", "Y"], inside.sum())
  expression, membership = store.gene_expression.copy(), store.operon_membership.copy()
  expression[region_rows] = rng.normal(size=expression[region_rows].shape)
  membership[region_rows] = rng.integers(0, 2, len(region_rows))
  vars(other).update(
    genes=dataclasses.replace(store.genes, log_tpm=log_tpm, operon_id=operon_id),
    gene_expression=expression,
    operon_membership=membership,
  )
  return other


@needs_prodigal
def test_test_labels_change_no_prediction(store, found):
  other = relabelled(store, TEST_ROWS)
  for split in ("train", "validation"):
    expected = rivals.measure(store, split, WINDOW_BP)
    assert str(rivals.measure(other, split, WINDOW_BP)) == str(expected)
  changed = rivals.measure(other, "test", WINDOW_BP)
  assert changed.chosen == found.chosen
  for rival in ("codon_ridge", "pair_model", "prodigal_gap_model"):
    assert str(changed.metrics[rival]) != str(found.metrics[rival])


@needs_prodigal
def test_training_labels_do_change_them(store, found):
  (start, end), *_ = store.regions("train")
  changed = rivals.measure(relabelled(store, np.arange(start, end)), "test", WINDOW_BP)
  for rival in ("codon_ridge", "prodigal_gap_model"):
    assert str(changed.metrics[rival]) != str(found.metrics[rival])
  for rival in ("pair_gap", "prodigal_gap", "prodigal_density", "prodigal_genes"):
    assert str(changed.metrics[rival]) == str(found.metrics[rival])


@needs_prodigal
def test_rivals_are_deterministic(store, found):
  assert str(rivals.measure(store, "test", WINDOW_BP)) == str(found)


@needs_prodigal
@pytest.mark.parametrize("split", ["test", "validation", "train"])
@pytest.mark.parametrize("known", ["all", "some"])
def test_rivals_are_measured_on_the_values_of_the_model(store, split, known):
  if known == "some":  # every other operon is known by experiment, and the others are not at all
    store = made_up_store()
    operon, membership = store.genes.operon_id, store.operon_membership.copy()
    several = np.array([sum(operon == o) > 1 and o != "" for o in operon])
    evidence = np.array([("experimental", "none")[int(o[1:] or 0) % 2] for o in operon])
    for row in np.flatnonzero(several & (evidence == "none")):
      membership[store.genes.start[row] : store.genes.end[row]] = 2
    genes = dataclasses.replace(store.genes, operon_evidence=np.where(several, evidence, ""))
    vars(store).update(genes=genes, operon_membership=membership, masks_operons=True)
  report = evaluate(perfect, store, split, window_bp=WINDOW_BP, batch_windows=3)
  counts = {f.name: (f.n, f.over) for f in report.metrics}
  measured = rivals.measure(store, split, WINDOW_BP)
  for values in measured.metrics.values():
    for name, value in values.items():
      n, over = counts[name]
      # Of how many calls precision is a share, each caller decides.
      assert (value.n, value.over) == (value.n if name.endswith("precision") else n, over), name
  shared = {name for values in measured.metrics.values() for name in values}
  assert len(shared) == 7 * 3 + 3 + 7 + (known == "some") + 4


@needs_prodigal
def test_rivals_stand_in_table_and_json(store, found):
  report = evaluate(perfect, store, "test", window_bp=WINDOW_BP, batch_windows=3)
  plain, with_rivals = report, dataclasses.replace(report, rivals=found)
  assert "rivals" not in plain.to_json()
  value = json.loads(json.dumps(with_rivals.to_json(), allow_nan=False))["rivals"]
  assert set(value) == set(rivals.DESCRIPTIONS)
  assert value["pair_model"]["chosen_on_validation"]["C"] > 0
  lines = with_rivals.table().splitlines()
  assert lines[1].split() == ["metric", "model", "baseline", "rule", "fitted", "trees", "n"]
  pairs = next(line for line in lines if line.startswith("operon_membership/pairs_auroc ")).split()
  name = "operon_membership/pairs_auroc"
  assert pairs[3] == pairs[2] == f"{value['pair_gap']['metrics'][name]['value']:.4f}"
  assert pairs[4] == f"{value['pair_model']['metrics'][name]['value']:.4f}"
  assert pairs[5] == f"{value['pair_trees']['metrics'][name]['value']:.4f}"

  def row(name):
    return next(line.split() for line in lines if line.split()[0] == name)

  assert row("operon_junction/pairs_auroc")[2:] == pairs[2:]
  assert row("operon_junction/bases_auroc")[3:] == row("operon_membership/auroc")[3:]
  name = "gene_expression/coding_genes_pearson"
  assert row(name)[4] == f"{value['codon_ridge']['metrics'][name]['value']:.4f}"
  assert row(name)[5] == f"{value['gene_trees']['metrics'][name]['value']:.4f}"
  rule = value["prodigal_genes"]["metrics"]["gene_calls/stop_precision"]["value"]
  calls = row("gene_calls/stop_precision")
  assert calls[1] != "-" and calls[2:5] == ["-", f"{rule:.4f}", "-"]
  without = evaluate(
    perfect, store, "test", window_bp=WINDOW_BP, batch_windows=3, weights=LossWeights(1.0, 1.0, 1.0)
  )
  lines = dataclasses.replace(without, rivals=found).table().splitlines()
  assert row("gene_calls/stop_precision")[1:4] == ["-", "-", f"{rule:.4f}"]
  assert not any(line.startswith("operon_junction/") for line in lines)


@needs_prodigal
def test_what_the_store_does_not_have_is_absent_and_says_so():
  store = made_up_store(has_expression=False, has_operons=False)
  measured = rivals.measure(store, "test", WINDOW_BP)
  missing = {"codon_ridge", "gene_trees", "pair_gap", "pair_model", "pair_trees"}
  missing |= {"prodigal_gap", "prodigal_gap_model"}
  assert set(measured.skipped) == missing
  assert set(measured.metrics) == set(rivals.DESCRIPTIONS) - missing
  assert "fitted: codon_ridge: absent, the track store has no such data" in measured.notes()
  assert measured.to_json()["pair_gap"]["skipped"] == "the track store has no such data"


@needs_prodigal
def test_a_chromosome_too_short_for_prodigal_has_no_rival_of_it():
  store = made_up_store()
  store._regions["train"] = store._regions["train"][:1]
  measured = rivals.measure(store, "test", WINDOW_BP)
  assert measured.skipped["prodigal_gap"] == "Prodigal needs 20000 bp of training regions"
  no_prodigal = {"codon_ridge", "gene_trees", "pair_gap", "pair_model", "pair_trees"}
  assert set(measured.metrics) == no_prodigal


def test_missing_pyrodigal_is_one_line(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "pyrodigal", None)
  with pytest.raises(ConfigError, match=r"pip install 'alphaecoli\[rivals\]'") as error:
    command.main(["--workdir", str(tmp_path), "--rivals"])
  assert "\n" not in str(error.value)


def test_gap_score_by_hand():
  store = small_store(np.zeros(1000))
  # 20 apart on one strand, 4 of overlap, the other strand; the last and the first wrap, 60 apart.
  genes = called((50, 200, 1), (220, 400, 1), (396, 500, 1), (600, 800, -1), (900, 990, 1))
  cut = called_genes.segments(genes, store)
  far = called_genes._FAR_BP
  np.testing.assert_array_equal(cut.gap_bp, [20, -4, -4, far, 60, 20, far, far, 60])
  spans = list(zip(cut.start.tolist(), cut.end.tolist(), strict=True))
  assert spans[5:] == [(200, 220), (500, 600), (800, 900), (990, 1050)]
  track = called_genes.paint(cut, -np.abs(cut.gap_bp), 5, 1000)
  expected = {0: -60, 49: -60, 50: -20, 210: -20, 396: -4, 550: -far, 700: -far, 950: -60, 995: -60}
  assert {at: track[at] for at in expected} == expected


def test_linear_contigs_have_no_neighbours_across_the_end():
  store = small_store(np.zeros(1000), circular=False)
  cut = called_genes.segments(called((50, 200, 1), (900, 990, 1)), store)
  np.testing.assert_array_equal(cut.gap_bp[:2], [700, 700])
  assert list(zip(cut.start.tolist(), cut.end.tolist(), strict=True))[2:] == [
    (200, 900),
    (990, 1000),
  ]


def test_call_accuracy_by_hand():
  rows = [
    (100, 400, 1, "mRNA"),  # called exactly
    (500, 800, -1, "mRNA"),  # called with another start
    (900, 1200, 1, "mRNA"),  # missed
    (1300, 1600, 1, "pseudo"),  # a call on it does not count
    (1980, 2100, 1, "mRNA"),  # across the origin and the split's border
    (1700, 1775, 1, "tRNA"),  # a call on it is wrong
  ]
  whole = [[0, 2000]]
  store = small_store(np.zeros(2000), rows, splits={"train": [], "validation": [], "test": whole})
  genes = called((100, 400, 1), (500, 770, -1), (1330, 1600, 1), (1700, 1760, 1), (1980, 2100, 1))
  found = called_genes.call_accuracy([genes], store, "test")
  assert found == {
    "stop_sensitivity": (pytest.approx(2 / 3), 3),
    "stop_precision": (pytest.approx(2 / 3), 3),
    "exact_sensitivity": (pytest.approx(1 / 3), 3),
    "exact_precision": (pytest.approx(1 / 3), 3),
  }


@needs_prodigal
def test_rivals_over_contigs_are_those_of_all_their_values_together(store, found):
  two = over_contigs(store, *([region] for region in SPLITS["test"]))
  again = rivals.measure(two, "test", WINDOW_BP)
  assert again.chosen == found.chosen and again.skipped == found.skipped
  for rival, values in found.metrics.items():
    assert again.metrics[rival].keys() == values.keys()
    for name, value in values.items():
      ours = again.metrics[rival][name]
      assert ours == (pytest.approx(value.value, rel=1e-9), value.n, value.over), (rival, name)


def test_features_of_contigs_have_the_same_columns_whatever_types_of_genes_they_have():
  codes = chromosome()[:3000]
  first = small_store(codes, [(100, 400, 1, "mRNA"), (500, 800, 1, "tRNA")])
  second = small_store(codes, [(100, 400, 1, "mRNA"), (700, 900, -1, "ncRNA")])
  whole = TrackStore("nowhere", first.manifest, [second])
  vars(whole).update(sequence=first.sequence, genes=first.genes)
  features = GenomeGenes(whole).expression_features(50)
  assert len(features) == 4
  # Columns of types after codon use of the gene and its mates, in the order of the alphabet.
  assert features[:, 128:131].tolist() == [[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]]


@needs_prodigal
def test_prodigal_reads_across_the_origin():
  n, shift = LENGTH_BP, 1_000  # within thrA

  def call(by, circular=True):
    regions = {"train": [[shift - by, n - by]], "validation": [], "test": []}  # the same bases
    moved = small_store(np.roll(chromosome(), -by), circular=circular, splits=regions)
    return called_genes.call_genes(moved)[0]

  def places(genes, by):
    return {((a + by) % n, b - a, s) for a, b, s in zip(*genes, strict=True)}

  rotated = call(shift)
  assert (rotated.end > n).sum() == 1
  assert places(rotated, shift) == places(call(0), 0)
  assert not (call(shift, circular=False).end > n).any()


@pytest.mark.parametrize("strand", [1, -1])
def test_promoters_and_terminators_are_found_on_their_strand(strand):
  rng = np.random.default_rng(0)
  codes = rng.integers(0, 4, 1200).astype(np.uint8)
  motif = encode("TTGACA" + "C" * 17 + "TATAAT")
  hairpin = encode("GCCGGCGC" + "TTAA" + "GCGCCGGC" + "TTTTTTTT")
  codes[560 : 560 + len(motif)] = motif
  codes[410 : 410 + len(hairpin)] = hairpin
  genes = [(100, 400, strand, "mRNA"), (600, 900, strand, "mRNA")]
  if strand < 0:
    codes, genes = reverse_complement(codes), [(1200 - b, 1200 - a, s, t) for a, b, s, t in genes]
  contig = contig_genes(small_store(codes, genes))
  rows, gap = np.array([1]), np.array([200.0])
  best = np.log2(np.array([shares for _, shares in gene_features.BOXES]) / 0.25).sum()
  np.testing.assert_allclose(gene_features.promoters(contig, rows, gap), [[best] * 3])
  beside = gene_features.promoters(contig, rows, np.array([10.0]))
  assert beside[0, 2] < beside[0, 1] == pytest.approx(best)
  expected = 8 * 3 / 2 + 1.5 * (8 - 3)
  assert gene_features.terminators(contig, np.array([0]), gap)[0] == expected
  assert gene_features.terminators(contig, np.array([0]), np.array([15.0]))[0] < 0


@pytest.mark.parametrize("strand", [1, -1])
def test_codons_are_counted_in_frame_across_the_origin(strand):
  gene = encode("ATGAAAAAATAA")
  codes = np.full(60, 2, np.uint8)
  at = np.arange(54, 66) % 60
  codes[at] = gene if strand > 0 else reverse_complement(gene)
  contig = contig_genes(small_store(codes, [(54, 66, strand, "mRNA"), (0, 12, 1, "tRNA")]))
  counts = gene_features.codon_counts(contig)
  words = {"ATG": 14, "AAA": 0, "TAA": 48}
  assert {w: counts[0, i] for w, i in words.items()} == {"ATG": 1, "AAA": 2, "TAA": 1}
  assert counts.sum() == 4


def test_chains_of_operon_mates_wrap_around():
  rows = [(10, 40, 1, "mRNA"), (45, 75, 1, "mRNA"), (200, 230, -1, "mRNA"), (280, 298, 1, "mRNA")]
  codons = np.zeros((4, 64))
  codons[np.arange(4), [0, 1, 2, 3]] = 10
  contig = contig_genes(small_store(np.zeros(300), rows))
  mates = gene_features.expression_features(contig, codons, 20)[:, 64:128]
  np.testing.assert_allclose(mates[0, [1, 3]], 0.5)  # wraps: the last gene is 12 before the first
  np.testing.assert_allclose(mates[3, [0, 1]], 0.5)
  apart = gene_features.expression_features(contig, codons, 5)[:, 64:128]
  assert apart[0, 1] == 1 and apart[0, 3] == 0


@needs_prodigal
@pytest.mark.slow
def test_rivals_reach_their_documented_values_on_the_embedded_data(tmp_path):
  """Those of docs/evaluation.md; update both together."""
  store = process_data(config_of(), tmp_path)
  measured = rivals.measure(store, "test", 16_384).metrics
  expected = {
    ("codon_ridge", "gene_expression/genes_r2"): 0.468,
    ("prodigal_gap", "operon_membership/auroc"): 0.916,
    ("prodigal_gap_model", "operon_membership/auroc"): 0.931,
    ("pair_gap", "operon_membership/pairs_auroc"): 0.868,
    ("pair_model", "operon_membership/pairs_auroc"): 0.905,
    ("prodigal_density", "gene_density/r2"): 0.513,
    ("prodigal_density_model", "gene_density/r2"): 0.592,
    ("prodigal_genes", "gene_calls/stop_sensitivity"): 0.947,
  }
  for (rival, name), value in expected.items():
    assert measured[rival][name].value == pytest.approx(value, abs=0.006), (rival, name)
