"""Gene structure, operon junctions and gene weights: hand-worked genes of both strands."""

import dataclasses

import numpy as np
import pytest

from alphaecoli.schema import HEADS
from alphaecoli.tracks.gene_table import GeneTable
from alphaecoli.tracks.gene_targets import (
  JUNCTION_FLANK_BP,
  gene_targets,
  is_protein_coding,
  is_rna,
  junction_interval,
  unpack,
  wrapped,
)

LENGTH_BP = 600
GENES = (  # start, end, strand, type, operon, fragments, ln(1 + TPM)
  (10, 100, 1, "mRNA", "o1", None, 2.0),
  (110, 200, 1, "mRNA", "o1", None, np.nan),
  (260, 320, 1, "tRNA", "", None, 1.0),
  (330, 390, -1, "mRNA", "", None, 3.0),
  (400, 450, -1, "pseudo", "", None, 3.0),
  (590, 650, -1, "mRNA", "", None, 1.0),  # passes the origin, and overlaps the first gene
)


def table(genes=GENES) -> GeneTable:
  start, end, strand, kind, operon, fragments, log_tpm = zip(*genes, strict=True)
  text = {key: np.array([f"g{i}" for i in range(len(genes))]) for key in ("gene_id", "locus_tag")}
  return GeneTable(
    **text,
    name=text["gene_id"],
    split=np.array(["train"] * len(genes)),
    start=np.array(start, np.int64),
    end=np.array(end, np.int64),
    strand=np.array(strand, np.int8),
    type=np.array(kind, np.str_),
    operon_id=np.array(operon, np.str_),
    fragments=tuple(
      ((a, b),) if parts is None else parts
      for a, b, parts in zip(start, end, fragments, strict=True)
    ),
    log_tpm=np.array(log_tpm, np.float64)[:, None],
  )


@pytest.fixture(scope="module")
def targets():
  return gene_targets(table(), LENGTH_BP, circular=True, operons=True)


def test_codon_positions_count_from_the_start_codon_on_either_strand(targets):
  bits = unpack(targets.structure)
  np.testing.assert_array_equal(np.flatnonzero(bits[100:240, 0]), np.arange(10, 100, 3))
  np.testing.assert_array_equal(np.flatnonzero(bits[100:240, 2]), np.arange(12, 100, 3))
  # the reverse gene reads from 389 down: its first codon is 389, 388, 387
  assert [int(np.flatnonzero(bits[p, 4:7])[0]) for p in (389, 388, 387, 386)] == [0, 1, 2, 0]
  assert [int(np.flatnonzero(bits[p % LENGTH_BP, 4:7])[0]) for p in (649, 600, 599, 590)] == [
    0, 1, 2, 2,
  ]  # fmt: skip
  assert bits[260:320, 3].all() and not bits[260:320, :3].any()


def test_pseudogenes_are_unknown_on_their_strand_alone(targets):
  known = unpack(targets.structure_known)
  assert not known[400:450, 4:].any() and known[400:450, :4].all()
  assert known[:400].all() and known[450:].all()


def test_interrupted_genes_and_broken_frames_are_no_protein():
  genes = table(
    [
      (0, 90, 1, "CDS", "", None, 1.0),
      (100, 191, 1, "protein_coding", "", None, 1.0),
      (200, 290, 1, "mRNA", "", ((200, 230), (260, 290)), 1.0),
      (300, 390, 1, "rRNA_gene", "", None, 1.0),
    ]
  )
  assert is_protein_coding(genes).tolist() == [True, False, False, False]
  assert is_rna(genes).tolist() == [False, False, False, True]
  known = unpack(gene_targets(genes, 400, circular=False, operons=False).structure_known)
  assert not known[100:191, :4].any() and not known[200:290, :4].any() and known[0:90].all()


def test_each_junction_has_its_label_and_counts_once(targets):
  label, weight = (
    wrapped(p, 0, LENGTH_BP, LENGTH_BP) for p in (targets.junction, targets.junction_weight)
  )
  first, last = junction_interval((10, 100), (110, 200))
  assert (first, last) == (100 - JUNCTION_FLANK_BP, 110 + JUNCTION_FLANK_BP)
  assert (label[first:last, 0] == 1).all() and np.isnan(label[first:last, 1]).all()
  first, last = junction_interval((110, 200), (260, 320))
  assert (label[first:last, 0] == 0).all()
  first, last = junction_interval((330, 390), (400, 450))
  assert (label[first:last, 1] == 0).all()
  known = ~np.isnan(label)
  assert weight[known].min() > 0 and not weight[~known].any()
  # forward: two pairs; reverse: the pseudogene's two, one with the gene across the origin
  np.testing.assert_allclose(weight.sum(axis=0), [2, 2], rtol=1e-5)


def test_overlapping_genes_still_have_a_junction():
  assert junction_interval((0, 100), (96, 300)) == (96 - JUNCTION_FLANK_BP, 100 + JUNCTION_FLANK_BP)
  assert junction_interval((0, 20), (40, 60)) == (0, 60)


def test_genes_with_a_value_count_once_whatever_their_length(targets):
  weight = wrapped(targets.expression_weight, 0, LENGTH_BP, LENGTH_BP)[:, 0]
  assert weight.sum() == pytest.approx(5, rel=1e-5)
  assert weight[150] == 0 and weight[60] == pytest.approx(1 / 90)
  assert weight[20] == pytest.approx(1 / 90 + 1 / 60)  # two genes cover it


def test_without_operons_no_junction_is_known():
  targets = gene_targets(table(), LENGTH_BP, circular=True, operons=False)
  assert np.isnan(wrapped(targets.junction, 0, LENGTH_BP, LENGTH_BP)).all()


def test_pairs_in_and_between_unknown_operons_have_no_label():
  genes = table(
    [
      (0, 90, 1, "mRNA", "o1", None, 1.0),
      (110, 200, 1, "mRNA", "o1", None, 1.0),  # at the border of two operons: known
      (220, 310, 1, "mRNA", "o2", None, 1.0),
      (330, 420, 1, "mRNA", "o2", None, 1.0),
      (440, 530, 1, "mRNA", "", None, 1.0),  # at the border of an unknown operon: unknown
      (550, 590, 1, "mRNA", "", None, 1.0),
    ]
  )
  evidence = np.array(["experimental"] * 2 + ["other"] * 2 + [""] * 2)
  genes = dataclasses.replace(genes, operon_evidence=evidence)
  between = (100, 210, 320, 430, 540)
  for masks, expected in ((False, [1, 0, 1, 0, 0]), (True, [1, 0, np.nan, np.nan, 0])):
    targets = gene_targets(genes, LENGTH_BP, circular=False, operons=True, masks_operons=masks)
    label, weight = (
      wrapped(p, 0, LENGTH_BP, LENGTH_BP)[list(between), 0]
      for p in (targets.junction, targets.junction_weight)
    )
    np.testing.assert_array_equal(label, expected)
    np.testing.assert_array_equal(weight > 0, ~np.isnan(expected))


def test_the_other_strand_swaps_the_channels():
  swap = HEADS["gene_structure"].swap
  assert [swap[i] for i in swap] == list(range(8))
