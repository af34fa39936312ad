"""Differences between tile phases, with a model whose reach is known."""

import json
import logging

import numpy as np
import pytest

from alphaecoli import phases, predict
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.genomics.sequence import decode
from alphaecoli.inference.arguments import read_genome
from alphaecoli.inference.margins import (
  at_margin,
  choose_margin,
  margins,
  phase_differences,
  read_tolerance,
)
from alphaecoli.inference.margins import phases as shifts_of
from alphaecoli.inference.tiling import plan_tiles
from tests.inference.standin import REACH_BP, WINDOW_BP, predictor, random_codes

CODES = random_codes(128 * 100)
HEADS = ("gene_expression", "gene_density", "operon_membership")


def largest(margin_bp, count=7):
  model = at_margin(predictor(), margin_bp)
  found = phase_differences(model, CODES, shifts_of(model, count))
  return {head: values[1.0] for head, values in found.items()}


def test_margin_wider_than_the_models_reach_leaves_no_difference():
  assert REACH_BP <= 512
  assert max(largest(512).values()) < 1e-4
  narrow = largest(128)
  assert min(narrow["gene_expression"], narrow["operon_membership"]) > 0.01


def test_difference_is_that_of_two_predictions_by_hand():
  model = at_margin(predictor(), 128)
  found = phase_differences(model, CODES, [256, 640])
  first = model.predict(CODES, circular=True)
  for head, bins in (("gene_expression", 1), ("gene_density", 128), ("operon_membership", 1)):
    values = []
    for shift in (256, 640):
      codes = np.concatenate([CODES[shift:], CODES[:shift]])
      other = getattr(model.predict(codes, circular=True), head)
      rows = np.arange(len(other)) - shift // bins
      values.append(np.abs(other[rows % len(other)] - getattr(first, head)))
    np.testing.assert_allclose(found[head][1.0], np.max(values), rtol=1e-6)
    np.testing.assert_allclose(found[head][0.5], np.median(values), rtol=1e-5, atol=1e-8)


def test_phases_are_other_places_of_windows_and_repeat_after_the_kept_part():
  model = at_margin(predictor(), 512)
  shifts = shifts_of(model, 3)
  assert shifts == [256, 512, 768]
  kept = WINDOW_BP - 2 * 512
  length = 4 * kept

  def windows(shift):
    tiles = plan_tiles(length, window_bp=WINDOW_BP, margin_bp=512, circular=True)
    return {(tile.window_start + shift) % length for tile in tiles}

  assert windows(0) == windows(kept)
  assert not windows(0) & set().union(*(windows(shift) for shift in shifts))
  assert shifts_of(model, 100) == list(range(128, kept, 128))
  assert shifts_of(at_margin(model, 896), 5) == [128]


def test_chosen_margin_is_the_smallest_that_holds(monkeypatch):
  model, measured = choose_margin(predictor(), CODES, {"gene_expression": 1e-3})
  # The filter reaches 190 bp to either side.
  assert model.margin_bp == 256 and margins(WINDOW_BP) == [0, 256, 512, 768, 896]
  assert measured["largest_difference"]["gene_expression"] <= 1e-3
  assert measured["bases"] == len(CODES)
  loose, _ = choose_margin(predictor(), CODES, {"gene_expression": 1e3})
  assert loose.margin_bp == 0
  monkeypatch.setattr("alphaecoli.inference.margins.SHARES", (0, 1))
  with pytest.raises(ConfigError, match=r"no margin holds .* 0 bp: .* 128 bp: gene_expression"):
    choose_margin(predictor(), CODES, {"operon_membership": 1e-3})
  with pytest.raises(DataError, match="too short"):
    choose_margin(predictor(), CODES[:100], {})


def test_tolerance_is_read_strictly():
  assert read_tolerance("gene_density=0.1,operon_membership=1") == {
    "gene_density": 0.1,
    "operon_membership": 1.0,
  }
  for text in ("operon=0.1", "gene_density", "gene_density=-1", "gene_density=a"):
    with pytest.raises(ConfigError, match="expected HEAD=VALUE"):
      read_tolerance(text)


@pytest.fixture
def fasta(tmp_path, monkeypatch):
  monkeypatch.setattr("alphaecoli.api.load_predictor", lambda *a, **k: predictor())
  path = tmp_path / "x.fna"
  path.write_text(f">small\nACGT\n>large\n{decode(CODES)}A\n")
  return path


def test_command_prints_a_line_for_each_margin_and_head(fasta, tmp_path, capsys):
  flags = ["--checkpoint", "C", "--fasta", str(fasta), "--phases", "2", "--margins", "0,512"]
  assert phases.main([*flags, "--json", str(tmp_path / "x.json")]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert "large, 12,800 bp, window 2,048 bp" in lines[0] and len(lines) == 2 + 2 * 3
  report = json.loads((tmp_path / "x.json").read_text())
  assert [row["margin_bp"] for row in report["margins"]] == [0, 512]
  wide = report["margins"][1]["heads"]["operon_membership"]["1.0"]
  assert wide < 1e-4 < report["margins"][0]["heads"]["operon_membership"]["1.0"]
  with pytest.raises(ConfigError, match="margin_bp=100"):
    phases.main([*flags[:-1], "100"])


def test_predict_chooses_the_margin_and_puts_it_on_record(fasta, tmp_path, caplog, monkeypatch):
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  flags = ["--checkpoint", "C", "--fasta", str(fasta), "--out", str(tmp_path / "out")]
  tolerance = ["--phase-tolerance", "gene_expression=0.001,operon_membership=0.001"]
  assert predict.main([*flags, *tolerance]) == 0
  manifest = json.loads((tmp_path / "out" / "predictions.json").read_text())
  assert manifest["margin_bp"] == 256
  found = manifest["phase_difference"]
  assert found["tolerance"] == {"gene_expression": 0.001, "operon_membership": 0.001}
  assert set(found["largest_difference"]) == set(HEADS)
  with pytest.raises(ConfigError, match="give one of them"):
    predict.main([*flags, *tolerance, "--margin-bp", "512"])


GENES = (  # start, end (1-based), strand: gaps of 205, 99 and 1,299 bp between ends of genes
  (1, 1000, "+"), (1206, 2000, "-"), (2100, 3000, "+"), (3100, 4000, "-"), (4001, 5000, "-"),
  (5001, 6000, "+"), (5500, 5800, "-"), (7000, 7100, "-"), (8400, 9000, "+"), (9700, 9800, "+"),
  (9850, 9900, "+"), (11200, 12000, "-"),
)  # fmt: skip


def test_neutral_places_lie_in_the_middle_of_the_longest_gaps_between_ends_of_genes(fasta):
  annotation = fasta.with_name("g.gff3")
  annotation.write_text(
    "".join(f"large\t.\tgene\t{a}\t{b}\t.\t{s}\t.\tID=g{a}\n" for a, b, s in GENES)
  )
  genome = read_genome(fasta, annotation=annotation)
  insertions, substitutions = phases.neutral_variants(genome, 2)
  middles = [(9900 + 11199) // 2, (1000 + 1205) // 2, (3000 + 3099) // 2]
  known = [middle for middle in middles if CODES[middle] < 4]
  assert [v.position - 1 for v in insertions] == known[:2] and len(known) == 2
  for one, other in zip(insertions, substitutions, strict=True):
    assert one.ref == other.ref and one.alt == other.ref + other.alt and other.fault == ""
  assert len(phases.neutral_variants(genome, 9)[0]) == 2


def test_command_says_what_neutral_insertions_score(fasta, tmp_path, capsys):
  flags = ["--checkpoint", "C", "--fasta", str(fasta), "--insertions", "3"]
  with pytest.raises(DataError, match="no gap between two genes that end in it"):
    phases.main(flags)
  annotation = tmp_path / "g.gff3"
  annotation.write_text(
    "".join(f"large\t.\tgene\t{a}\t{b}\t.\t{s}\t.\tID=g{a}\n" for a, b, s in GENES)
  )
  flags += ["--annotation", str(annotation), "--offsets", "1,4", "--json", str(tmp_path / "x.json")]
  assert phases.main(flags) == 0
  lines = capsys.readouterr().out.splitlines()
  assert "2 neutral places" in lines[0] and len(lines) == 2 + 3
  rows = json.loads((tmp_path / "x.json").read_text())["neutral"]
  kinds = [("insertion", 1), ("insertion", 4), ("substitution", 1)]
  assert [(row["kind"], row["offsets"]) for row in rows] == kinds
  assert all(row["quantile_0.5"] <= row["quantile_1"] for row in rows)
  with pytest.raises(ConfigError, match="--insertions=0"):
    phases.main([*flags, "--insertions", "0"])
