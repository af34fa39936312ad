"""The embedded data set: what biology says about coordinates, strands and base order."""

from collections import Counter

import numpy as np
import pytest

from alphaecoli.genomics.sequence import decode
from alphaecoli.tracks.process import process_data
from tests.stores import config_of

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
  before = process_data(config_of(unknown_expression_types=()), tmp_path)
  assert before.path.name == "d7e0d6237deb5125"  # of versions without the key: stores are found
  ribosomal = store.genes.type == "rRNA"
  assert ribosomal.sum() == 22
  assert not np.isnan(before.genes.log_tpm[ribosomal]).any()
  assert np.isnan(store.genes.log_tpm[ribosomal]).all()
  np.testing.assert_array_equal(  # the same to the last bit: conversion to TPM still has them
    store.genes.log_tpm[~ribosomal], before.genes.log_tpm[~ribosomal]
  )
  (now,), (then,) = store.table.expression, before.table.expression
  assert (then.mean, then.std) == pytest.approx((3.46149, 1.91136), abs=1e-5)
  assert (now.mean, now.std) == pytest.approx((3.47697, 1.90153), abs=1e-5)
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
