"""Genes that are called while predicting: files, topology, and when none are called."""

import json
import logging

import numpy as np
import pytest

from alphaecoli import predict
from alphaecoli.genomics import gene_calls, gene_models
from alphaecoli.genomics.gene_calls import MIN_SCORE
from alphaecoli.genomics.gene_models import GeneModels, PairModel
from alphaecoli.genomics.gff3 import read_features, read_gff3
from alphaecoli.genomics.sequence import decode
from alphaecoli.inference.prediction import TRACK_HEADS
from tests.genomics.test_gene_calls import coding, planted
from tests.inference.standin import KnowingStandIn, predictor

RNG = np.random.default_rng(0)
RING_BP, SHIFT = 7000, -700  # the first gene passes the origin
RING = [(500, 1, coding(RNG, 150)), (1000, 1, coding(RNG, 100, "GTG", "TGA")),
        (2500, -1, coding(RNG, 200)), (3200, -1, coding(RNG, 120, "TTG", "TAG"))]  # fmt: skip
LINE = [(600, 1, coding(RNG, 90))]
JUNCTION = 0.75


def contig(genes, length_bp, shift=0, seed=0):
  """Codes, and what the model knows of them: codon positions, and junctions of one value."""
  codes, logits = planted(genes, length_bp, seed=seed)
  known = np.hstack([1 / (1 + np.exp(-logits)), np.full((length_bp, 2), JUNCTION)])
  return np.roll(codes, shift), np.roll(known, shift, axis=0)


CONTIGS = {"ring": contig(RING, RING_BP, SHIFT), "line": contig(LINE, 3000, seed=1)}


def annotated(label, genes, length_bp, shift=0):
  """Start, end and strand of planted genes, in order, on their contig."""
  starts = [((start + shift) % length_bp, strand, text) for start, strand, text in genes]
  return sorted((label, start, start + len(text), strand) for start, strand, text in starts)


PLANTED = [*annotated("line", LINE, 3000), *annotated("ring", RING, RING_BP, SHIFT)]


@pytest.fixture
def run(monkeypatch, tmp_path, caplog):
  """Runs the command on two contigs; returns the folder of outputs."""
  fasta = tmp_path / "x.fna"
  fasta.write_text("".join(f">{n}\n{decode(codes)}\n" for n, (codes, _) in CONTIGS.items()))
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  caplog.set_level(logging.INFO, "alphaecoli")

  def go(*flags, heads=(*TRACK_HEADS, "gene_structure", "operon_junction"), pair_model=None):
    model = predictor(trained_heads=heads, gene_models=GeneModels(pairs=pair_model))
    monkeypatch.setattr(model, "_forward", KnowingStandIn(3, list(CONTIGS.values())))
    monkeypatch.setattr("alphaecoli.api.load_predictor", lambda *a, **k: model)
    given = ["--checkpoint", "C", "--fasta", str(fasta), "--circular", "ring"]
    assert predict.main([*given, "--out", str(tmp_path / "out"), *flags]) == 0
    return tmp_path / "out"

  return go


def table(path):
  header, *rows = [row.split("\t") for row in path.read_text().splitlines()]
  return [dict(zip(header, row, strict=True)) for row in rows]


def called(folder):
  return [(g.contig, g.start, g.end, g.strand) for g in read_gff3(folder / "genes.gff3").genes]


def test_planted_genes_are_called_on_both_strands_and_across_the_origin(run, caplog):
  folder = run()
  assert "no annotation: 5 genes called from the sequence" in caplog.text
  assert called(folder) == PLANTED
  assert PLANTED[-1][2] > RING_BP
  annotation = read_gff3(folder / "genes.gff3")
  assert annotation.circular == {"ring"}
  assert [g.locus_tag for g in annotation.genes] == [
    "line_0001", "ring_0001", "ring_0002", "ring_0003", "ring_0004",
  ]  # fmt: skip
  lines = [line.split("\t") for line in (folder / "genes.gff3").read_text().splitlines()]
  assert [(f[5] != ".", f[7]) for f in lines if f[2:3] == ["CDS"]] == [(True, "0")] * 5
  cds = {a["Parent"]: a for f, a in read_features(folder / "genes.gff3") if f.type == "CDS"}
  assert cds["ring_0004"]["ID"] == "ring_0004.cds"
  codons = [(cds[f"ring_000{i}"]["start_codon"], cds[f"ring_000{i}"]["stop_codon"]) for i in (1, 3)]
  assert codons == [("GTG", "TGA"), ("TTG", "TAG")]


def test_called_genes_have_the_tables_and_operons_of_annotated_ones(run):
  folder = run()
  genes = table(folder / "genes.tsv")
  assert [(g["contig"], int(g["start"]) - 1, int(g["end"])) for g in genes] == [
    place[:3] for place in PLANTED
  ]
  assert {g["type"] for g in genes} == {"gene"} and float(genes[0]["log_tpm:heat/+"])
  pairs = table(folder / "pairs.tsv")
  assert [(p["left_id"], p["right_id"]) for p in pairs] == [
    ("ring_0002", "ring_0003"), ("ring_0004", "ring_0001"),
  ]  # fmt: skip
  assert {float(p["probability"]) for p in pairs} == {JUNCTION}
  assert all(0 < float(p["probability_membership"]) < 1 for p in pairs)
  operons = [f for f, _ in read_features(folder / "operons.gff3") if f.type == "operon"]
  assert sorted(o.strand for o in operons) == [-1, 1]
  assert genes[1]["operon"] == genes[4]["operon"] != genes[2]["operon"] == genes[3]["operon"]


def test_the_manifest_says_how_genes_were_called_and_tracks_are_the_three(run):
  folder = run()
  manifest = json.loads((folder / "predictions.json").read_text())
  assert manifest["gene_calls"]["min_score"] == MIN_SCORE
  assert {t["head"] for t in manifest["tracks"]} == set(TRACK_HEADS)
  assert {"file": "genes.gff3", "format": "gff3"} in manifest["files"]


def test_an_annotation_is_taken_as_it_is(run, tmp_path):
  gff = tmp_path / "g.gff3"
  gff.write_text("".join(f"ring\t.\tgene\t{a}\t{a + 99}\t.\t-\t.\tID=g{a}\n" for a in (1, 201)))
  folder = run("--annotation", str(gff))
  assert not (folder / "genes.gff3").exists()
  assert [g["id"] for g in table(folder / "genes.tsv")] == ["g1", "g201"]
  pairs = table(folder / "pairs.tsv")  # the second across the origin
  assert [(float(p["probability"]), p["same_operon"]) for p in pairs] == [(JUNCTION, "1")] * 2
  assert json.loads((folder / "predictions.json").read_text())["gene_calls"] is None


def test_never_and_a_model_that_has_not_learnt_to_call_no_gene(run, caplog):
  without = {path.name: path.read_bytes() for path in run(heads=TRACK_HEADS).iterdir()}
  assert "genes.gff3" not in without and "genes.tsv" not in without
  assert "not trained" not in caplog.text
  run()
  folder = run("--call-genes", "never")  # predicted anew, and what was called is gone
  assert "1 genome predicted: " in caplog.text and "1 done already" not in caplog.text
  for path in folder.iterdir():
    assert path.name == "predictions.json" or path.read_bytes() == without[path.name]
  assert {path.name for path in folder.iterdir()} == without.keys()
  run()
  run()
  assert "1 done already" in caplog.text


def test_few_called_genes_are_listed_and_make_no_operons(run, monkeypatch):
  monkeypatch.setattr(gene_calls, "MIN_COVERED", 0.5)  # those planted cover a fourth
  folder = run()
  assert called(folder) == PLANTED and len(table(folder / "genes.tsv")) == len(PLANTED)
  assert not (folder / "pairs.tsv").exists()
  operons = [f for f, _ in read_features(folder / "operons.gff3") if f.type == "operon"]
  bases = run("--call-genes", "never") / "operons.gff3"
  assert operons == [f for f, _ in read_features(bases) if f.type == "operon"] != []


def test_pairs_without_the_junction_head_are_as_they_were(run):
  (pair, _) = table(run(heads=(*TRACK_HEADS, "gene_structure")) / "pairs.tsv")
  assert "probability_membership" not in pair
  again = table(run("--units", "z") / "pairs.tsv")[0]
  assert again["probability_membership"] == pair["probability"]


def test_a_pair_model_decides_which_genes_share_an_operon(run):
  folder = run(pair_model=PairModel({"gap": -1.0}, 75.0))
  pairs = table(folder / "pairs.tsv")
  gaps = np.array([int(pair["distance_bp"]) for pair in pairs])
  assert gaps.tolist() == [100, 50]
  expected = 1 / (1 + np.exp(gaps - 75.0))
  np.testing.assert_allclose(
    [float(p["probability_annotated"]) for p in pairs], expected, rtol=1e-4
  )
  assert [(float(p["probability"]), p["same_operon"]) for p in pairs] == [
    (JUNCTION, "0"), (JUNCTION, "1"),
  ]  # fmt: skip
  genes = table(folder / "genes.tsv")
  assert genes[1]["operon"] == genes[4]["operon"] != "" == genes[2]["operon"] == genes[3]["operon"]


def test_the_junction_reaches_the_pair_model_as_log_odds(run):
  pairs = table(run(pair_model=PairModel({gene_models.JUNCTION: 1.0}, 0.0)) / "pairs.tsv")
  assert [float(p["probability_annotated"]) for p in pairs] == pytest.approx([JUNCTION] * 2)
