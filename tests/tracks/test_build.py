"""Tracks of the hand-worked chromosome, against plain loops over its truth."""

import dataclasses
import math

import numpy as np
import pytest

from alphaecoli.errors import ConfigError
from alphaecoli.genomics.expression import ExpressionTable
from alphaecoli.genomics.genes import Dataset, Gene, GenomeRecords
from alphaecoli.genomics.quality import QualityReport
from alphaecoli.genomics.sequence import random_genome
from alphaecoli.tracks.build import expression_groups, expression_tracks, unmeasured
from alphaecoli.tracks.process import process_data
from tests import toy
from tests.stores import config_of, hand_worked_store, random_store, toy_config

LENGTH_BP = 6144
TRAINING = ("T13", "T14")  # the genes of the last third; T01 passes the origin
GENES = {gene.id: gene for gene in toy.kept_genes(LENGTH_BP)}


def mean_log_tpm(gene_id, datasets=tuple(toy.TPM)):
  values = [toy.TPM[d][gene_id] for d in datasets if gene_id in toy.TPM[d]]
  logs = [math.log1p(v) for v in values if not math.isnan(v)]
  return sum(logs) / len(logs) if logs else math.nan


@pytest.fixture(scope="module")
def store(tmp_path_factory):
  return hand_worked_store(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def stranded(tmp_path_factory):
  return random_store(tmp_path_factory.mktemp("stranded"), length_bp=60_000, stranded=True)


def test_genes_keep_their_order_coordinates_and_split(store):
  genes = store.genes
  assert list(genes.gene_id) == list(GENES)
  for i, gene in enumerate(GENES.values()):
    found = genes.name[i], genes.locus_tag[i], genes.start[i], genes.end[i], genes.strand[i]
    assert found == (gene.name, gene.locus_tag, gene.start, gene.end, gene.strand)
    assert genes.fragments[i] == (gene.fragments or ((gene.start, gene.end),))
  split = dict(zip(genes.gene_id, genes.split, strict=True))
  assert [g for g in GENES if split[g] == "train"] == list(TRAINING)
  assert [g for g in GENES if split[g] == "border"] == ["T01", "T09"]
  assert [g for g in GENES if split[g] == "test"] == ["T10", "T11"]


def test_genes_know_their_operon(store):
  operons = {o.id: o.gene_ids for o in toy.kept_operons(LENGTH_BP)}
  for gene_id, operon_id in zip(store.genes.gene_id, store.genes.operon_id, strict=True):
    holders = [o for o, gene_ids in operons.items() if gene_id in gene_ids]
    assert ([operon_id] if operon_id else []) == holders


def test_log_tpm_is_the_mean_over_data_sets_of_log_one_plus_tpm(store):
  expected = [mean_log_tpm(gene_id) for gene_id in GENES]
  np.testing.assert_allclose(store.genes.log_tpm[:, 0], expected, rtol=1e-8)


def test_statistics_come_from_training_genes_alone(store):
  (track,) = store.table.expression
  values = [mean_log_tpm(gene_id) for gene_id in TRAINING]
  assert track.mean == pytest.approx(np.mean(values), rel=1e-12)
  assert track.std == pytest.approx(np.std(values), rel=1e-12)


def test_expression_is_the_mean_z_score_of_the_genes_over_a_base(store):
  (track,) = store.table.expression
  found = np.full(LENGTH_BP, np.nan)
  for base in range(LENGTH_BP):
    over = []
    for gene in GENES.values():
      spans = gene.fragments or ((gene.start, gene.end),)
      if any(a <= p < b for a, b in spans for p in (base, base + LENGTH_BP)):
        over.append((mean_log_tpm(gene.id) - track.mean) / track.std)
    known = [z for z in over if not math.isnan(z)]
    found[base] = np.mean(known) if known else np.nan
  np.testing.assert_allclose(store.gene_expression[:, 0], found, rtol=1e-6)
  assert np.isnan(store.gene_expression[2200:2400]).all()  # between the fragments of T09
  assert np.isnan(store.gene_expression[2700:3000]).all()  # never measured


@pytest.mark.parametrize("min_genes", [1, 2])
def test_operon_membership_covers_operons_of_enough_genes(tmp_path, min_genes):
  store = hand_worked_store(tmp_path, min_operon_genes=min_genes)
  expected = np.zeros(LENGTH_BP, np.uint8)
  for operon in toy.kept_operons(LENGTH_BP):
    if len(operon.gene_ids) >= min_genes:
      expected[np.arange(operon.start, operon.end) % LENGTH_BP] = 1
  np.testing.assert_array_equal(store.operon_membership, expected)
  training = expected[4096:]
  assert store.table.operon_prevalence == pytest.approx(training.mean(), rel=1e-12)


EVIDENCE = {"O1": "EXP-IMP-POLAR-MUTATION", "O3": "COMP-AINF"}  # O6 has none; the rest: one gene


def test_genes_know_the_evidence_of_their_operon(tmp_path):
  store = hand_worked_store(tmp_path, EVIDENCE)
  found = dict(zip(store.genes.gene_id, store.genes.operon_evidence, strict=True))
  expected = {"T02": "experimental", "T03": "experimental", "T14": "other", "T01": "other"}
  assert {gene: evidence for gene, evidence in found.items() if evidence} == {
    **expected, "T08": "none", "T09": "none",
  }  # fmt: skip
  assert store.manifest["format_version"] == 1 and not store.masks_operons
  assert store.operon_known.all()


def test_operons_without_experimental_evidence_can_be_unknown(tmp_path):
  store = hand_worked_store(tmp_path, EVIDENCE, operon_evidence="experimental")
  assert store.manifest["format_version"] == 2 and store.masks_operons
  bases = np.arange(LENGTH_BP)
  operons = {o.id: o for o in toy.kept_operons(LENGTH_BP)}
  label, unknown = np.zeros(LENGTH_BP), np.zeros(LENGTH_BP, bool)
  label[operons["O1"].start : operons["O1"].end] = 1
  for name in ("O3", "O6"):
    unknown[np.arange(operons[name].start, operons[name].end) % LENGTH_BP] = True
  unknown &= label == 0
  np.testing.assert_array_equal(store.operon_known, ~unknown)
  for start, reverse in ((0, False), (5120, True)):
    window = store.window(start, 2048, reverse)
    at = bases.take(np.arange(start, start + 2048), mode="wrap")[:: -1 if reverse else 1]
    np.testing.assert_array_equal(window["operon_membership_known"][:, 0], ~unknown[at])
    np.testing.assert_array_equal(window["operon_membership"][:, 0], label[at])
  assert store.table.operon_prevalence == pytest.approx(
    max(label[4096:][~unknown[4096:]].mean(), 1e-4)
  )
  assert store.quality["problems"]["operon without experimental evidence: unknown"]["count"] == 2
  # T14 and T01 share O3, across the origin; T02 and T03 share O1; T01 and T02 are at its border.
  junction = store.window(6016, 2048)
  start = dict(zip(store.genes.gene_id, store.genes.start, strict=True))
  for left, known in (("T01", False), ("T02", True), ("T03", True)):
    first = (start[left] - 6016) % LENGTH_BP
    assert junction["operon_junction_known"][first - 2 : first + 2, 0].any() == known, left


def test_asking_for_evidence_that_no_operon_has_is_refused(tmp_path):
  with pytest.raises(ConfigError, match="none of 3 operons of several genes has such evidence"):
    hand_worked_store(tmp_path, operon_evidence="experimental")


def test_gene_types_match_in_any_case_and_with_gene_at_the_end():
  kinds = ("rRNA", "rrna", "rRNA_gene", "tRNA", "gene")
  genes = [Gene(k, k, k, i * 10, i * 10 + 5, 1, k) for i, k in enumerate(kinds)]
  values, report = np.ones((5, 2)), QualityReport()
  values[1] = np.nan
  found = unmeasured(genes, ("RRNA",), values, report)
  assert found.tolist() == [True, True, True, False, False]
  assert report.reasons == {
    "gene of type rRNA: expression unknown": 1,
    "gene of type rRNA_gene: expression unknown": 1,
  }


def test_density_mean_is_over_the_bins_of_the_training_regions(store):
  counts = []
  for first in range(4096, 6144, 128):
    spans = [g.fragments or ((g.start, g.end),) for g in GENES.values()]
    counts.append(sum(any(a < first + 128 and b > first for a, b in gene) for gene in spans))
  assert store.table.density_mean == pytest.approx(np.mean(counts), rel=1e-12)


def test_strands_have_tracks_of_their_own_with_shared_statistics(stranded):
  plus, minus = stranded.table.expression
  assert (plus.name, plus.strand, minus.name, minus.strand) == ("mean+", "+", "mean-", "-")
  assert (plus.mean, plus.std) == (minus.mean, minus.std)
  genes = stranded.genes
  known = ~np.isnan(genes.log_tpm)
  np.testing.assert_array_equal(known[:, 0] & (genes.strand != 1), False)
  np.testing.assert_array_equal(known[:, 1] & (genes.strand != -1), False)
  training = genes.log_tpm[genes.split == "train"]
  assert plus.mean == pytest.approx(np.nanmean(training), rel=1e-8)
  assert plus.std == pytest.approx(np.nanstd(training), rel=1e-8)


TABLE = ExpressionTable(("G1",), ("SRR1", "SRR2", "SRR3"), np.ones((1, 3)))
DATASETS = [
  Dataset("SRR1", {"medium": "M9", "temperature": "37"}),
  Dataset("SRR2", {"medium": "LB\tbroth"}),
  Dataset("SRR3", {"medium": "M9"}),
  Dataset("SRR9", {"medium": "never measured"}),
]


def settings_of(tracks="mean", groups=None):
  return config_of(expression_tracks=tracks, expression_groups=groups or {}).data


@pytest.mark.parametrize(
  ("settings", "expected"),
  [
    (settings_of(), [("mean", ("SRR1", "SRR2", "SRR3"))]),
    (settings_of("dataset"), [("SRR1", ("SRR1",)), ("SRR2", ("SRR2",)), ("SRR3", ("SRR3",))]),
    (settings_of("group:medium"), [("M9", ("SRR1", "SRR3")), ("LB broth", ("SRR2",))]),
    (settings_of("group:temperature"), [("37", ("SRR1",))]),
    (
      settings_of("mean", {"b": ("SRR2",), "a": ("SRR3", "GENE_EXPRESSION_SRR1", "SRR1")}),
      [("a", ("SRR3", "SRR1")), ("b", ("SRR2",))],
    ),
  ],
  ids=["mean", "dataset", "condition", "condition-of-some", "named"],
)
def test_groups_of_data_sets_follow_the_configuration(settings, expected):
  assert expression_groups(TABLE, DATASETS, settings) == expected


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    (settings_of("mean", {"a": ("SRX1",)}), r"data\.expression_groups\.a.*'SRX1'.*mean 'SRR1'\?"),
    (settings_of("mean", {"a": ()}), "names no data set"),
    (settings_of("group:mediun"), "did you mean 'medium'"),
    (settings_of("group:zzz"), "fields: medium, temperature"),
  ],
  ids=["data-set", "empty", "field", "far-field"],
)
def test_unknown_groups_are_refused_with_the_nearest_name(settings, message):
  with pytest.raises(ConfigError, match=message):
    expression_groups(TABLE, DATASETS, settings)


def test_named_groups_and_conditions_reach_the_store(tmp_path):
  groups = {"rest": ("ERR_EXPL", "ERR_TPMS"), "warm": ("ERR_TPMS", "ERR_DROP")}
  store = hand_worked_store(tmp_path, expression_groups=groups)
  assert store.table.names == ("rest", "warm")
  assert store.gene_expression.shape == (LENGTH_BP, 2)
  for i, datasets in enumerate(groups.values()):
    expected = [mean_log_tpm(gene_id, datasets) for gene_id in GENES]
    np.testing.assert_allclose(store.genes.log_tpm[:, i], expected, rtol=1e-8)


def test_a_track_without_training_genes_is_refused_by_name(tmp_path):
  with pytest.raises(ConfigError, match="track 'ERR_DROP' has no training gene"):
    hand_worked_store(tmp_path, expression_groups={"ERR_DROP": ("ERR_DROP",)})


def test_a_track_of_equal_training_genes_is_refused_by_name():
  genes = [Gene(g, g, g, i * 10, i * 10 + 5, 1, "", ()) for i, g in enumerate("AB")]
  table = ExpressionTable(("A", "B"), ("D",), np.full((2, 1), 7.0))
  genome_records = GenomeRecords(random_genome(50, 0), genes, [], [], table, QualityReport(), {})
  with pytest.raises(ConfigError, match="'mean': its 2 training genes all have"):
    expression_tracks(genome_records, settings_of(), np.array([True, True]))


@pytest.mark.parametrize("missing", ["geneExpression", "operonDatamart"])
def test_a_missing_collection_leaves_its_target_unknown(tmp_path, missing):
  names = [c for c in toy.COLLECTIONS if c != missing]
  dump = toy.write(tmp_path / "dump", collections=names)
  store = process_data(toy_config(dump, n_blocks=3, n_folds=3), tmp_path)
  assert store.table.has_expression == (missing != "geneExpression")
  assert store.table.has_operons == (missing != "operonDatamart")
  window = store.window(0, 2048)
  assert window["gene_expression_known"].any() == store.table.has_expression
  assert window["operon_membership_known"].any() == store.table.has_operons
  assert np.isfinite(window["gene_expression"]).all()
  assert store.table.names == ("mean",)
  assert all(map(math.isfinite, dataclasses.astuple(store.table.expression[0])[-2:]))
