"""The embedded data set: what biology says about coordinates, strands and base order."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from alphaecoli.genomics.sequence import decode
from alphaecoli.tracks.process import process_data
from alphaecoli.tracks.splits import configured_regions
from tests.stores import config_of

MARKED_BEFORE = 2_675_611  # bases in operons when genes that are left out counted
STOPS = {"TAA", "TAG", "TGA"}
STARTS = {"ATG", "GTG", "TTG"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
  return process_data(config_of(), tmp_path_factory.mktemp("real"))


def test_coding_genes_read_from_start_to_stop_codon_on_their_strand(store):
  genes = store.genes
  whole = [len(spans) == 1 for spans in genes.fragments]
  coding = np.flatnonzero((genes.type == "mRNA") & whole)
  assert len(coding) > 4000
  first, last = Counter(), Counter()
  for i in coding:
    start, end, length_bp = int(genes.start[i]), int(genes.end[i]), store.length_bp
    window_bp = -(-(end - start) // 128) * 128
    if genes.strand[i] > 0:
      codes = store.window(start, window_bp)["sequence"]
    else:
      codes = store.window((end - window_bp) % length_bp, window_bp, True)["sequence"]
    text = decode(codes[: end - start])
    first[text[:3] in STARTS] += 1
    last[text[-3:] in STOPS] += 1
  assert first[True] > 0.98 * len(coding)
  assert last[True] > 0.98 * len(coding)


def test_ribosomal_rna_alone_becomes_unknown_and_its_tpm_still_count(store, tmp_path):
  before = process_data(config_of(unknown_expression_types=(), block_offset=0.0), tmp_path)
  assert before.path.name == "d7e0d6237deb5125"  # of versions without these keys: stores are found
  ribosomal = store.genes.type == "rRNA"
  assert ribosomal.sum() == 22
  assert not np.isnan(before.genes.log_tpm[ribosomal]).any()
  assert np.isnan(store.genes.log_tpm[ribosomal]).all()
  np.testing.assert_array_equal(  # the same to the last bit: conversion to TPM still has them
    store.genes.log_tpm[~ribosomal], before.genes.log_tpm[~ribosomal]
  )
  (then,) = before.table.expression
  assert (then.mean, then.std) == pytest.approx((3.46149, 1.91136), abs=1e-5)
  reason = "gene of type rRNA: expression unknown"
  assert store.quality["problems"][reason]["count"] == 22
  assert reason not in before.quality["problems"]


def test_known_facts_of_the_chromosome(store):
  assert (store.contig, store.length_bp, store.circular) == ("NC_000913.3", 4_641_652, True)
  assert store.table.names == ("mean",)
  # RegulonDB's operons with several genes cover 58% of the chromosome; 4,600 genes of about 1 kb.
  assert store.operon_membership.mean() == pytest.approx(0.58, abs=0.01)
  assert 0.9 < store.table.density_mean < 1.1
  known = store.window(0, 4_641_536)["gene_expression_known"].mean()
  assert 0.8 < known < 0.95
  training = store.genes.log_tpm[store.genes.split == "train", 0]
  (track,) = store.table.expression
  assert track.mean == pytest.approx(np.nanmean(training), rel=1e-8)
  assert track.std == pytest.approx(np.nanstd(training), rel=1e-8)


def test_half_a_block_of_offset_brings_the_means_of_folds_closer(store):
  """Means of z-scored ln(1 + TPM) over the test genes of ten folds: docs/data.md states them."""
  genes = store.genes
  z = genes.log_tpm[:, 0] - np.nanmean(genes.log_tpm[:, 0])
  z /= np.nanstd(z)
  means = {}
  for offset in (0.0, 0.5):
    settings = {"n_blocks": 20, "n_folds": 10, "block_offset": offset}
    folds = [configured_regions(settings, store.length_bp, True, k)["test"] for k in range(10)]
    inside = [
      [any(region.offset(*ends, store.length_bp) is not None for region in regions)
       for ends in zip(genes.start.tolist(), genes.end.tolist(), strict=True)]
      for regions in folds
    ]  # fmt: skip
    means[offset] = [np.nanmean(z[of_fold]) for of_fold in inside]
  without = [-0.05, -0.19, 0.09, 0.26, 0.06, -0.20, 0.04, -0.05, -0.11, 0.15]
  half = [-0.05, -0.07, 0.17, 0.19, -0.08, -0.08, 0.12, -0.18, 0.04, -0.05]
  assert means[0.0] == pytest.approx(without, abs=0.006) and np.std(means[0.0]) > 0.135
  assert means[0.5] == pytest.approx(half, abs=0.006) and np.std(means[0.5]) < 0.12


def test_the_store_of_the_defaults_is_the_one_that_docs_name(store):
  """Update the name in docs/ where a default that decides a store's content changes."""
  docs = Path(__file__).parents[2] / "docs"
  for page in ("data.md", "organisms.md"):
    assert f"tracks/{store.path.name}" in (docs / page).read_text(encoding="utf-8")
  assert store.regions("validation")[0] == (116_041, 348_124)  # half of 232,082.6 bases further on


def test_genes_that_are_left_out_make_two_operons_single_genes(store):
  """insN has no position and lomR neither: insI1 and ynaA stand alone, and are no labels."""
  row = {str(name): i for i, name in enumerate(store.genes.name)}
  for name, operon in (("insI1", "OPERON-TU0-12862"), ("ynaA", "OPERON-TU0-13235")):
    gene = row[name]
    assert store.genes.operon_id[gene] == operon and store.genes.operon_evidence[gene] == ""
    assert not store.operon_membership[store.genes.start[gene] : store.genes.end[gene]].any()
  # 1,965 and 2,342 bases; others of the second lie in another operon, too.
  assert not store.operon_membership[270_225:272_190].any()
  assert not store.operon_membership[1_426_453:1_428_795].any()
  assert store.operon_membership[1_428_795]
  assert store.operon_membership.sum() == MARKED_BEFORE - 4_307
  assert store.quality["problems"]["operon gene without positions"]["count"] == 5
  assert "3'ETS-leuZ" in row  # RegulonDB has 3'ETS-<i>leuZ</i>


def test_every_operon_of_regulondb_can_be(store):
  assert not any(reason.startswith("operon left out") for reason in store.quality["problems"])
  assert store.quality["totals"]["genes in listed operons"] == 4511
