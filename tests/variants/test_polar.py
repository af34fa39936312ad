"""Edits of a genome: what they mean as sequence, which genes they touch, and the rule of blocks."""

import dataclasses

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from alphaecoli import score
from alphaecoli.api import EnsemblePredictor
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.genomics.genes import ContigFeatures, Gene
from alphaecoli.genomics.intervals import Interval
from alphaecoli.genomics.sequence import Contig, decode, encode, reverse_complement
from alphaecoli.inference.arguments import AnnotatedGenome
from alphaecoli.variants.polar import (
  RRNB_T1,
  GenomeEdit,
  as_variant,
  operons_of,
  polar_effects,
  read_edits,
)
from tests.inference.standin import TABLE, predictor

CODES = np.random.default_rng(11).integers(0, 4, 6000).astype(np.uint8)
TEXT = decode(CODES)
BOUNDS = {  # start, end, strand
  "lone": (500, 900, 1),
  "aA": (2000, 2300, 1),
  "aB": (2310, 2500, 1),
  "aC": (2520, 2800, 1),
  "bY": (3000, 3200, -1),
  "bX": (3210, 3500, -1),
}
GENES = [Gene(n, n, f"t_{n}", *where, "gene", contig="c") for n, where in BOUNDS.items()]
OPERONS = [(2000, 2800), (3000, 3500)]
HEADER = "name\tcontig\tstart\tend\tkind\tsequence"


def genome(operons=OPERONS):
  return AnnotatedGenome([Contig("c", CODES)], {"c": ContigFeatures(GENES, operons)})


def edits(tmp_path, *lines, header=HEADER):
  path = tmp_path / "edits.tsv"
  path.write_text("\n".join([header, *(line.replace(" ", "\t") for line in lines)]) + "\n")
  return read_edits(path, genome())


@pytest.mark.parametrize(
  ("line", "changed"),
  [
    ("e c 101 110 deletion", TEXT[:100] + TEXT[110:]),
    ("e c 1 10 deletion", TEXT[10:]),
    ("e c 5991 6000 deletion", TEXT[:5990]),
    ("e c 101 101 insertion acgt", TEXT[:101] + "ACGT" + TEXT[101:]),
    ("e c 101 110 replacement GG", TEXT[:100] + "GG" + TEXT[110:]),
    ("e c 2305 2305 terminator", TEXT[:2305] + RRNB_T1 + TEXT[2305:]),
    ("e c 2305 2305 Terminator TTTT", TEXT[:2305] + "TTTT" + TEXT[2305:]),
  ],
)
def test_edits_as_variants(tmp_path, line, changed):
  (edit,) = edits(tmp_path, line)
  variant = as_variant(edit, genome()["c"], 1)
  start = variant.start
  assert TEXT[start : start + len(variant.ref)] == variant.ref and variant.fault == ""
  assert TEXT[:start] + variant.alt + TEXT[start + len(variant.ref) :] == changed


def test_terminator_is_read_on_the_strand_of_the_operon(tmp_path):
  (edit,) = edits(tmp_path, "e c 2305 2305 terminator")
  back = decode(reverse_complement(encode(RRNB_T1)))
  assert as_variant(edit, genome()["c"], -1).alt == TEXT[2304] + back


@pytest.mark.parametrize(
  ("line", "text"),
  [
    ("e d 1 9 deletion", "line 2: no contig 'd' in the genome"),
    ("e c 1 9 inversion", "line 2: kind 'inversion'; expected one of deletion, insertion"),
    ("e c 9 1 deletion", "line 2: interval 'c:9-1'; expected 1 <= start <= end"),
    ("e c x 1 deletion", "line 2: interval 'c:x-1'"),
    ("e c 1 6001 deletion", "line 2: bases 1-6001; c has 6000"),
    ("e c 1 9 insertion A", "line 2: insertion from 1 to 9; expected the base before it"),
    ("e c 1 1 insertion", "line 2: insertion with the sequence ''; expected letters A C G T"),
    ("e c 1 1 insertion AXG", "line 2: insertion with the sequence 'AXG'; expected letters"),
    ("e c 1 9 crispri ACG", "line 2: crispri with the sequence 'ACG'; expected none"),
    ("# nothing", "no edit in it"),
  ],
)
def test_what_is_no_edit_is_one_line(tmp_path, line, text):
  with pytest.raises(DataError, match=text):
    edits(tmp_path, line)


def test_table_without_a_column_or_with_another_strand(tmp_path):
  with pytest.raises(DataError, match="no column start, end in its first line; expected"):
    edits(tmp_path, "e c deletion", header="name\tcontig\tkind")
  with pytest.raises(DataError, match="line 2: strand 'x'; expected"):
    edits(tmp_path, "e c 5 5 terminator . x", header=HEADER + "\tstrand")
  (edit,) = edits(tmp_path, "e c 5 5 terminator . -", header=HEADER + "\tstrand")
  assert edit.strand == -1 and edit.sequence == ""


def names(one):
  return [gene.effect.gene.name for gene in one.genes]


def test_genes_of_the_touched_operon_in_the_order_of_transcription(tmp_path):
  lines = ["up c 1950 1960 deletion", "in c 3205 3205 insertion ACG", "far c 1200 1300 deletion"]
  found = list(polar_effects(predictor(), genome(), edits(tmp_path, *lines)))
  assert [names(one) for one in found] == [["aA", "aB", "aC"], ["bX", "bY"], []]
  relations = [[np.sign(g.effect.distance_bp) for g in one.genes] for one in found[:2]]
  assert relations == [[-1, -1, -1], [1, -1]]
  assert all(gene.rule is None and gene.half is None for one in found for gene in one.genes)


def test_deletion_next_to_a_gene_is_not_in_it(tmp_path):
  """Although VCF writes it with the base before it, which is the gene's."""
  (found,) = polar_effects(predictor(), genome(), edits(tmp_path, "e c 3501 3510 deletion"))
  assert [gene.effect.distance_bp for gene in found.genes] == [-1, -301]


def test_changes_are_those_of_the_variant(tmp_path):
  (edit,) = edits(tmp_path, "del c 2290 2315 deletion")
  (found,) = polar_effects(predictor(), genome(), [edit], offsets=2)
  variant = as_variant(edit, genome()["c"], 1)
  (one,) = predictor().score_variants(variant, genome(), offsets=2).scores
  by_name = {effect.gene.name: effect for effect in one.genes}
  for gene in found.genes:
    expected = by_name[gene.effect.gene.name]
    np.testing.assert_array_equal(gene.effect.change, expected.change)
    np.testing.assert_array_equal(gene.effect.grid, expected.grid)
  assert found.genes[0].effect.share == pytest.approx(289 / 300)


@pytest.mark.parametrize("kind", ["terminator", "crispri"])
def test_block_leaves_its_part_of_the_tpm_downstream(tmp_path, kind):
  end = 2400 if kind == "terminator" else 2420
  (edit,) = edits(tmp_path, f"b c 2400 {end} {kind}")
  (found,) = polar_effects(predictor(), genome(), [edit], residual=0.25)
  assert names(found) == ["aA", "aB", "aC"]
  before, at, after = found.genes
  assert before.rule is None and at.effect.distance_bp == 0
  for gene in (at, after):
    tpm = np.expm1(np.maximum(gene.effect.reference, 0))
    left = np.expm1(np.maximum(gene.effect.reference, 0) + gene.rule)
    np.testing.assert_allclose(left, 0.25 * tpm, atol=1e-9)
  assert (after.effect.change == 0).all() == (kind == "crispri")


def test_terminator_leaves_the_other_strand_alone_and_a_crispri_site_does_not(tmp_path):
  lines = [f"{k} c 3205 {e} {k}" for k, e in (("terminator", 3205), ("crispri", 3206))]
  header = HEADER + "\tstrand"
  table = edits(tmp_path, *(f"{line} . +" for line in lines[:1]), header=header)
  (one,) = polar_effects(predictor(), genome(), table)
  assert names(one) == ["bX", "bY"] and all(gene.rule is None for gene in one.genes)
  (other,) = polar_effects(predictor(), genome(), edits(tmp_path, lines[1]))
  assert [gene.rule is None for gene in other.genes] == [True, False]


def test_ensemble_gives_intervals_of_the_mean(tmp_path):
  """Two members: half the interval is t (1 degree of freedom: 12.7062) times s over root 2."""
  members = [predictor(), predictor()]
  tracks = [dataclasses.replace(track, std=2 * track.std) for track in TABLE.expression]
  members[1].table = dataclasses.replace(TABLE, expression=tuple(tracks))
  together = EnsemblePredictor(members, about={"checkpoint": "E"})
  (edit,) = edits(tmp_path, "del c 2290 2315 deletion")
  (mean,), (one,), (two,) = (
    polar_effects(model, genome(), [edit]) for model in (together, *members)
  )
  for gene, a, b in zip(mean.genes, one.genes, two.genes, strict=True):
    half = 12.7062 * np.abs(a.effect.change - b.effect.change) / np.sqrt(2) / np.sqrt(2)
    np.testing.assert_allclose(gene.half, half, rtol=1e-3, atol=1e-4)


def test_operons_that_are_not_given_are_those_of_prediction():
  alone = operons_of(predictor(), genome(None), "c")
  flat = [gene.name for chain in alone for gene in chain]
  assert sorted(flat) == sorted(BOUNDS)
  for chain in alone:
    assert len({gene.strand for gene in chain}) == 1
    starts = [gene.start * gene.strand for gene in chain]
    assert starts == sorted(starts)
  with pytest.raises(DataError, match="no gene is known on c: edits need an annotation"):
    bare = AnnotatedGenome([Contig("c", CODES)], {"c": ContigFeatures()})
    next(
      polar_effects(predictor(), bare, [GenomeEdit("e", Interval("c", 5, 9), "deletion", "", 0)])
    )


def test_command_writes_a_row_an_edit_and_gene_and_a_picture(tmp_path, monkeypatch):
  monkeypatch.setattr("alphaecoli.api.load_predictor", lambda *a, **k: predictor())
  (tmp_path / "c.fa").write_text(f">c\n{TEXT}\n")
  strand = {1: "+", -1: "-"}
  gff = [
    f"c\t.\tgene\t{a + 1}\t{b}\t.\t{strand[s]}\t.\tID={n};Name={n}\n"
    for n, (a, b, s) in BOUNDS.items()
  ]
  (tmp_path / "c.gff3").write_text("".join(gff))
  (tmp_path / "o.bed").write_text("".join(f"c\t{a}\t{b}\n" for a, b in OPERONS))
  lines = ["del c 2290 2315 deletion", "ci c 3300 3320 crispri", "far c 1200 1300 deletion"]
  edits(tmp_path, *lines)
  flags = ["--checkpoint", "C", "--edits", str(tmp_path / "edits.tsv"), "--offsets", "2"]
  for flag, name in (("fasta", "c.fa"), ("annotation", "c.gff3"), ("operons", "o.bed")):
    flags += [f"--{flag}", str(tmp_path / name)]
  flags += ["--out", str(tmp_path / "out.tsv")]
  assert score.main(flags) == 0
  table = pd.read_csv(tmp_path / "out.tsv", sep="\t")
  assert list(table.name) == ["del"] * 3 + ["ci"] * 2 + ["far"]
  assert list(table.gene_name.fillna("")) == ["aA", "aB", "aC", "bX", "bY", ""]
  assert list(table.order.dropna()) == [1, 2, 3, 1, 2] and table.operon[3] == "bX,bY"
  assert list(table.relation.dropna()) == ["at", "at", "downstream", "at", "downstream"]
  difference = table["log_tpm_after:heat/+"] - table["log_tpm_before:heat/+"]
  np.testing.assert_allclose(difference[:5], table["change:heat/+"][:5], atol=1e-4)
  assert table["rule_change:heat/+"].notna().tolist() == [False] * 3 + [True] * 2 + [False]
  assert table.start[0] == 2290 and table.end[0] == 2315
  assert matplotlib.image.imread(tmp_path / "out.png").std() > 0.05
  with pytest.raises(ConfigError, match="--residual=2"):
    score.main([*flags, "--residual", "2"])
  edits(tmp_path, "far c 1200 1300 deletion")
  with pytest.raises(DataError, match="no edit could be scored, or touches a gene"):
    score.main(flags)
