"""Ensembles: mean and spread against numpy, who predicts which base out of fold, files on disk."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pandas as pd
import pyBigWig
import pytest

import alphaecoli
import alphaecoli.cli
from alphaecoli import predict, score
from alphaecoli.api import EnsemblePredictor, Predictor
from alphaecoli.checkpoints.read import find_checkpoint
from alphaecoli.checkpoints.write import write_ensemble
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.genomics.sequence import decode
from alphaecoli.inference import tiling
from alphaecoli.inference.margins import at_margin
from alphaecoli.inference.output import read_prediction
from alphaecoli.inference.prediction import TRACK_HEADS, Request
from alphaecoli.tracks.splits import TRAIN, hash_genome, split_regions
from tests.inference.runs import WINDOW_BP as RUN_WINDOW_BP
from tests.inference.runs import save_run, tiny_model
from tests.inference.standin import TABLE, WINDOW_BP, StandIn, random_codes, whole_contig

LENGTH = 9000
CODES = np.random.default_rng(3).integers(0, 4, LENGTH).astype(np.uint8)
GAINS = (1.0, 0.5, 2.0)


def table_of(shift: float):
  """The stand-in's tracks with other statistics."""
  tracks = [dataclasses.replace(t, mean=t.mean + shift, std=t.std / 2) for t in TABLE.expression]
  return dataclasses.replace(TABLE, expression=tuple(tracks))


class Scaled(StandIn):
  """The stand-in times a number, with windows of any length."""

  def __init__(self, gain: float, window_bp: int = WINDOW_BP):
    super().__init__(2)
    self.gain, self.shape = gain, (2, window_bp)

  def __call__(self, windows, both):
    return {name: v * np.float32(self.gain) for name, v in super().__call__(windows, both).items()}


class Constant(StandIn):
  """Gives one number everywhere, of auxiliary heads too."""

  def __init__(self, number: float):
    super().__init__(2)
    self.number = number

  def __call__(self, windows, both):
    self.calls += 1
    rows, length = windows.shape
    sizes = {name: (rows, length, 1) for name in ("operon_membership",)}
    sizes |= {"gene_expression": (rows, length, 2), "gene_density": (rows, length // 128, 1)}
    sizes |= {"gene_structure": (rows, length, 8), "operon_junction": (rows, length, 2)}
    return {name: np.full(size, self.number, np.float32) for name, size in sizes.items()}


def single(forward, table=TABLE, name="C", **options):
  options = {"margin_bp": 512, **options}
  return Predictor(
    forward,
    table,
    window_bp=forward.shape[1],
    batch_windows=2,
    about={"checkpoint": name},
    **options,
  )


def ensemble(tables=(TABLE, TABLE, TABLE), windows=(WINDOW_BP,) * 3, trained=None):
  members = [
    single(Scaled(gain, window_bp), table, f"C{n}")
    for n, (gain, table, window_bp) in enumerate(zip(GAINS, tables, windows, strict=True))
  ]
  return EnsemblePredictor(members, about={"checkpoint": "E"}, trained=trained)


def expected(tables=(TABLE, TABLE, TABLE)):
  """By head, what each member says of the whole contig: log TPM, genes, probabilities."""
  tracks = whole_contig(CODES, circular=True)
  each = [{name: v * gain for name, v in tracks.items()} for gain in GAINS]
  for values, table in zip(each, tables, strict=True):
    values["gene_expression"] = table.to_log_tpm(values["gene_expression"])
  return {head: np.stack([values[head] for values in each]) for head in TRACK_HEADS}


@pytest.mark.parametrize("windows", [(2048,) * 3, (2048, 4096, 2048)], ids=["alike", "others"])
def test_mean_and_spread_are_numpys_whatever_the_statistics_and_windows(windows):
  tables = (TABLE, table_of(1.0), table_of(-2.0))
  model, members = ensemble(tables, windows), expected(tables)
  found = model.predict(CODES, circular=True)
  assert found.table == TABLE and len(found.members) == 3
  for head, values in members.items():
    np.testing.assert_allclose(getattr(found, head), values.mean(axis=0), atol=2e-5)
    np.testing.assert_allclose(found.spread[head], values.std(axis=0, ddof=1), atol=2e-5)
  log_tpm = members["gene_expression"]
  in_tpm = model.predict(CODES, circular=True, units="tpm")
  mean = np.maximum(np.expm1(log_tpm.mean(axis=0)), 0)
  np.testing.assert_allclose(in_tpm.gene_expression, mean, rtol=1e-4, atol=1e-4)
  spread = np.maximum(np.expm1(log_tpm), 0).std(axis=0, ddof=1)
  np.testing.assert_allclose(in_tpm.spread["gene_expression"], spread, rtol=1e-3, atol=1e-3)
  in_z = found.in_units("z")
  z = TABLE.to_z(log_tpm)
  np.testing.assert_allclose(in_z.spread["gene_expression"], z.std(axis=0, ddof=1), atol=2e-5)


def test_intervals_and_many_contigs_keep_their_order_and_progress_counts_once():
  model, done = ensemble(), []
  requests = [
    Request(CODES, True, None, "a"),
    Request(random_codes(700), False, None, "b"),
    Request(CODES, True, (1000, 3000), "c"),
  ]
  found = list(model.predict_many(requests, progress=done.append))
  assert [f.contig for f in found] == ["a", "b", "c"] and (found[2].start, found[2].end) == (
    896,
    3072,
  )
  np.testing.assert_array_equal(
    found[2].spread["operon_membership"], found[0].spread["operon_membership"][896:3072]
  )
  assert sum(done) == LENGTH + 700 + 3072 - 896


def test_a_single_model_has_no_spread():
  found = single(StandIn(2)).predict(CODES)
  assert found.members == () and found.spread == {} and not single(StandIn(2)).has_spread


def test_another_margin_is_every_members():
  model = at_margin(ensemble(), 128)
  assert [m.margin_bp for m in (model, *model.members)] == [128] * 4


def test_members_that_do_not_fit_are_refused_in_one_line():
  names = dataclasses.replace(TABLE, expression=TABLE.expression[:1])
  with pytest.raises(ConfigError, match=r"the same tracks; C0 has heat/\+, heat/-, and C1 heat/\+"):
    ensemble((TABLE, names, TABLE))
  heads = [single(Scaled(1.0), trained_heads=TRACK_HEADS[:n]) for n in (3, 2)]
  with pytest.raises(ConfigError, match=r"the same heads; C has gene_expression, gene_density, op"):
    EnsemblePredictor(heads, about={})
  model = ensemble(windows=(2048, 4096, 2048))
  with pytest.raises(ConfigError, match=r"windows of 2048 and 4096 bp; choose one for all"):
    next(model.run_windows([(0, CODES[:2048])]))
  with pytest.raises(ConfigError, match=r"the embeddings .* load one member, such as C0"):
    ensemble().embed(CODES, (0, 100))


# Out of fold


def metas(folds, n_folds=3, codes=CODES, n_blocks=6):
  """What checkpoints of these folds say of their training."""
  found = []
  for fold in folds:
    arcs = split_regions(len(codes), n_blocks, n_folds, fold)[TRAIN]
    entry = {"genome_sha256": hash_genome(codes), "arcs": [list(arc) for arc in arcs]}
    data = {"n_blocks": n_blocks, "n_folds": n_folds, "fold": fold}
    found.append({"trained_on": [entry], "config": {"data": data}})
  return found


def out_of_fold(trained, heads=tuple(alphaecoli.schema.HEADS)):
  """Members that say their number everywhere."""
  members = [
    single(Constant(float(n)), TABLE, f"C{n}", trained_heads=heads) for n in range(len(trained))
  ]
  return EnsemblePredictor(members, about={"checkpoint": "E"}, trained=trained)


def test_each_base_is_predicted_by_the_model_whose_test_split_it_is(monkeypatch):
  model = out_of_fold(metas([0, 1, 2]))
  found = model.predict(CODES, circular=True)
  block = np.arange(LENGTH) * 6 // LENGTH  # of 1,500 bp: block i is the test split of fold i - 1
  fold = (block - 1) % 3
  np.testing.assert_array_equal(found.operon_membership[:, 0], fold)
  log_tpm = TABLE.to_log_tpm(np.stack([fold, fold], axis=1).astype(np.float32))
  np.testing.assert_allclose(found.gene_expression, log_tpm, rtol=1e-6)
  np.testing.assert_array_equal(found.gene_structure, np.repeat(fold[:, None], 8, axis=1))
  np.testing.assert_array_equal(found.operon_junction, np.repeat(fold[:, None], 2, axis=1))
  assert found.members == () and not model.has_spread
  # A bin over a border of blocks: the one fold that has seen neither, whose validation and test
  # splits they are.
  starts = np.arange(0, LENGTH, 128)
  first, last = block[starts], block[np.minimum(starts + 127, LENGTH - 1)]
  at_border = first != last
  assert at_border.sum() == 5
  bins = found.gene_density[:, 0]
  np.testing.assert_array_equal(bins[:-1], np.where(at_border, first, first - 1)[:-1] % 3)
  assert bins[-1] == 2  # its last bases are the chromosome's first ones, as it is circular
  part = model.predict(CODES, (2000, 4000), circular=True)
  np.testing.assert_array_equal(part.operon_membership, found.operon_membership[1920:4096])
  # Each member is asked for its own regions alone, which a stretch would reach beyond.
  monkeypatch.setattr("alphaecoli.inference.tiling.MOST_STRETCH_BP", 0)
  calls = sum(member._forward.calls for member in out_of_fold_after(model))
  assert calls < 3 * -(-LENGTH // 1024)


def test_contigs_out_of_fold_share_batches(monkeypatch):
  monkeypatch.setattr(
    tiling, "STRETCH_WINDOWS", 8
  )  # longer than the contig, which has windows then
  places = [(first, first + 500) for first in range(0, LENGTH, 500)]
  model, done = out_of_fold(metas([0, 1, 2])), []
  requests = [Request(CODES, True, place, str(place)) for place in places]
  together = list(model.predict_many(requests, progress=done.append))
  assert sum(done) == sum(len(found.operon_membership) for found in together)
  alone = out_of_fold(metas([0, 1, 2]))
  for place, found in zip(places, together, strict=True):
    expected = alone.predict(CODES, place, circular=True)
    assert (found.contig, found.start, found.circular) == (str(place), expected.start, True)
    for head in alphaecoli.schema.HEADS:
      np.testing.assert_array_equal(getattr(found, head), getattr(expected, head))
  calls = [sum(member._forward.calls for member in each.members) for each in (model, alone)]
  assert 1.5 * calls[0] < calls[1]


def out_of_fold_after(model):
  fresh = out_of_fold(metas([0, 1, 2]))
  fresh.predict(CODES, circular=True)
  return fresh.members


def test_where_two_runs_test_a_base_both_predict_it_and_validation_comes_last(caplog, monkeypatch):
  monkeypatch.setattr(alphaecoli.cli.LOGGER, "propagate", True)
  found = out_of_fold(metas([0, 1, 2, 0])).predict(CODES, circular=True)
  fold = (np.arange(LENGTH) * 6 // LENGTH - 1) % 3
  np.testing.assert_array_equal(found.operon_membership[:, 0], np.array([1.5, 1, 2])[fold])
  assert "validation" not in caplog.text
  codes = CODES[:7680]  # whole bins in each of six blocks
  found = out_of_fold(metas([1, 2], codes=codes)).predict(codes, circular=True)
  fold = (np.arange(7680) * 6 // 7680 - 1) % 3  # fold 0 is missing: its test blocks are 1 and 4,
  np.testing.assert_array_equal(found.operon_membership[:, 0], np.array([0, 0, 1])[fold])
  assert "the sequence: 2,560 bases are in no member's test split" in caplog.text


def test_what_a_start_had_seen_is_not_out_of_fold():
  codes = CODES[:7680]
  trained = metas([0, 1, 2, 0], codes=codes)
  trained[1]["trained_on"] += metas([0], codes=codes)[0]["trained_on"]
  found = out_of_fold(trained).predict(codes, circular=True)
  fold = (np.arange(7680) * 6 // 7680 - 1) % 3
  # Fold 1's test blocks were the start's too: what held them out for validation predicts them.
  np.testing.assert_array_equal(found.operon_membership[:, 0], np.array([1.5, 2, 2])[fold])


def test_out_of_fold_is_refused_where_nothing_is():
  with pytest.raises(DataError, match=r"the sequence: every member was trained on 3,000 of 9,000 "):
    out_of_fold(metas([0])).predict(CODES, circular=True)
  with pytest.raises(DataError, match=r"the sequence is not the genome that the ensemble was"):
    out_of_fold(metas([0, 1, 2])).predict(np.roll(CODES, 1), circular=True)
  with pytest.raises(DataError, match=r"C0 does not say what it was trained on"):
    out_of_fold([{}, {}])
  model = out_of_fold(metas([0, 1, 2]))
  with pytest.raises(ConfigError, match="one_window is not possible"):
    model.predict(CODES, (0, WINDOW_BP), one_window=True)
  with pytest.raises(ConfigError, match="only contigs are predicted"):
    next(model.run_windows([(0, CODES[:2048])]))


# Out of fold where members have seen a contig


def lenient(trained, most=None, heads=TRACK_HEADS):
  members = out_of_fold(trained, heads).members
  about = {"checkpoint": "E"}
  return EnsemblePredictor(members, about=about, trained=trained, strict=False, most=most)


def test_by_default_only_what_members_have_seen_is_out_of_fold(caplog, monkeypatch):
  monkeypatch.setattr(alphaecoli.cli.LOGGER, "propagate", True)
  caplog.set_level("INFO", "alphaecoli")
  model, done = lenient(metas([0, 1, 2])), []
  requests = [Request(random_codes(700), contig="a"), Request(CODES, True, contig="b")]
  requests += [Request(CODES, True, (2000, 4000), "c"), Request(random_codes(900), contig="d")]
  found = list(model.predict_many(requests, progress=done.append))
  strict = out_of_fold(metas([0, 1, 2]), TRACK_HEADS)
  for ours, request in zip(found[1:3], requests[1:3], strict=True):
    theirs = next(strict.predict_many([request]))
    np.testing.assert_array_equal(ours.gene_expression, theirs.gene_expression)
    assert ours.members == () and not ours.origin.seen.any()
    assert (ours.origin.by.sum(axis=0) == 1).all()
  for novel in (found[0], found[3]):
    assert (novel.operon_membership == 1).all() and len(novel.members) == 3  # mean of 0, 1, 2
    assert novel.origin.by.all() and not novel.origin.seen.any()
  assert sum(done) == pytest.approx(700 + LENGTH + 2176 + 900, abs=3)
  assert model.has_spread and model.is_out_of_fold(CODES) and not model.is_out_of_fold(CODES[:99])
  assert "predicted out of fold" in caplog.text and "members that saw" not in caplog.text
  window = model.predict(CODES, (0, WINDOW_BP), one_window=True)
  assert window.origin.by.any(axis=1).sum() == 1 and window.origin.by.all(axis=1).sum() == 1


def test_what_all_members_have_seen_is_predicted_by_all_and_said_once(caplog, monkeypatch):
  monkeypatch.setattr(alphaecoli.cli.LOGGER, "propagate", True)
  codes = CODES[:7680]
  model = lenient(metas([0, 1], n_folds=6, codes=codes))
  found = model.predict(codes, circular=True)
  block = np.arange(7680) * 6 // 7680  # block 0 is held out by fold 0, 1 tests it, 2 tests fold 1
  seen = block > 2
  np.testing.assert_array_equal(found.origin.seen, seen)
  value = np.where(seen, 0.5, np.where(block == 2, 1, 0))
  np.testing.assert_array_equal(found.operon_membership[:, 0], value)
  (line,) = [r for r in caplog.records if "predicted out of fold" in r.getMessage()]
  assert line.levelname == "WARNING" and "50.0% are predicted by members that saw" in line.message


def test_where_no_member_has_seen_less_than_others_all_predict_with_a_spread(caplog, monkeypatch):
  """As on the genome of another species, on which all of them were trained first."""
  monkeypatch.setattr(alphaecoli.cli.LOGGER, "propagate", True)
  codes = CODES[:7680]
  model = lenient(metas([0, 0, 0], n_folds=6, codes=codes))
  found = model.predict(codes, circular=True)
  assert len(found.members) == 3 and found.origin.by.all()
  np.testing.assert_array_equal(found.origin.seen, np.arange(7680) * 6 // 7680 > 1)
  np.testing.assert_array_equal(found.spread["operon_membership"], 1)  # of 0, 1, 2
  assert not model.is_out_of_fold(codes)
  (line,) = [r for r in caplog.records if "members that saw" in r.getMessage()]
  assert line.levelname == "WARNING" and "66.7%" in line.message


def test_fewer_members_a_base_are_the_first_that_may():
  model = lenient(metas([0, 1, 2, 0]), most=1)
  assert not model.has_spread
  found = model.predict(CODES, circular=True)
  fold = (np.arange(LENGTH) * 6 // LENGTH - 1) % 3
  np.testing.assert_array_equal(found.operon_membership[:, 0], fold)  # not member 3, of fold 0 too
  novel = model.predict(random_codes(700))
  assert (novel.operon_membership == 0).all() and novel.members == ()
  assert novel.origin.by.sum() == 700


# Files of predict and score


GFF = (
  "c\t.\tregion\t1\t9000\t.\t+\t.\tID=r;Is_circular=true\n"
  "c\t.\tgene\t2001\t2300\t.\t+\t.\tID=g1;locus_tag=b1;Name=toyA\n"
  "c\t.\tgene\t2351\t2700\t.\t+\t.\tID=g2;locus_tag=b2;Name=toyB\n"
)


@pytest.fixture
def run(monkeypatch, tmp_path):
  """Runs a command on the contig with an ensemble, or another predictor, as its checkpoint."""
  (tmp_path / "c.fa").write_text(f">c toy\n{decode(CODES)}\n")
  (tmp_path / "c.gff3").write_text(GFF)

  def go(command, out, *flags, model=None):
    monkeypatch.setattr("alphaecoli.api.load_predictor", lambda *_, **__: model or ensemble())
    files = ["--fasta", tmp_path / "c.fa", "--annotation", tmp_path / "c.gff3", "--out", out]
    assert command.main(["--checkpoint", "E", *map(str, (*files, *flags))]) == 0

  go.folder = tmp_path
  return go


@pytest.fixture(autouse=True)
def no_hashes(monkeypatch):
  """The stand-in's checkpoints are not on disk."""
  monkeypatch.setattr("alphaecoli.inference.batch.hash_checkpoint", lambda path: f"hash of {path}")


def test_predict_writes_spreads_beside_means(run):
  out, members = run.folder / "out", expected()
  run(predict, out, "--formats", "bigwig,npz,zarr,bedgraph,parquet")
  names = {path.name for path in out.glob("*.bw")}
  assert {name for name in names if "spread" in name} == {
    "gene_expression_spread.heat_+.bw", "gene_expression_spread.heat_-.bw",
    "gene_density_spread.bw", "operon_membership_spread.bw",
  }  # fmt: skip
  with np.load(out / "npz" / "c.npz") as file:
    for head, values in members.items():
      np.testing.assert_allclose(file[head], values.mean(axis=0), atol=2e-5)
      np.testing.assert_allclose(file[f"{head}_spread"], values.std(axis=0, ddof=1), atol=2e-5)
  back = read_prediction(out, "c", 0, LENGTH)
  np.testing.assert_allclose(
    back.gene_expression, members["gene_expression"].mean(axis=0), atol=2e-5
  )
  manifest = json.loads((out / "predictions.json").read_text())
  assert manifest["model_sha256"] == ["hash of C0", "hash of C1", "hash of C2"]
  assert [m["checkpoint"] for m in manifest["model"]["members"]] == ["C0", "C1", "C2"]
  row = next(r for r in manifest["tracks"] if r["file"] == "gene_expression_spread.heat_-.bw")
  assert (row["head"], row["track"], row["units"], row["resolution_bp"]) == (
    "gene_expression_spread", "heat/-", "ln(1 + TPM)", 1,
  )  # fmt: skip


def test_spreads_of_genes_and_pairs_are_over_the_members_values_of_each(run):
  out, members = run.folder / "out", expected()
  run(predict, out)
  gene = pd.read_csv(out / "genes.tsv", sep="\t").iloc[0]
  means = members["gene_expression"][:, 2000:2300, 0].mean(axis=1)
  assert gene["log_tpm:heat/+"] == pytest.approx(means.mean(), rel=1e-4)
  assert gene["log_tpm_spread:heat/+"] == pytest.approx(means.std(ddof=1), rel=1e-4)
  tpm = np.expm1(means).clip(0)
  assert gene["tpm_spread:heat/+"] == pytest.approx(tpm.std(ddof=1), rel=1e-3)
  probability = members["operon_membership"][:, 2000:2300, 0].mean(axis=1)
  assert gene["operon_probability_spread"] == pytest.approx(probability.std(ddof=1), rel=1e-4)
  pair = pd.read_csv(out / "pairs.tsv", sep="\t").iloc[0]
  probability = members["operon_membership"][:, 2150:2525, 0].mean(axis=1)
  assert pair["probability"] == pytest.approx(probability.mean(), rel=1e-4)
  assert pair["probability_spread"] == pytest.approx(probability.std(ddof=1), rel=1e-4)


def test_out_of_fold_files_have_no_spread_and_are_another_run(run):
  out, again = run.folder / "out", run.folder / "again"
  run(predict, out)
  model = out_of_fold(metas([0, 1, 2]), TRACK_HEADS)
  run(predict, again, "--out-of-fold", model=model)
  assert not [path for path in again.iterdir() if "spread" in path.name]
  assert "spread" not in (again / "genes.tsv").read_text()
  manifests = [json.loads((f / "predictions.json").read_text()) for f in (out, again)]
  assert [m["out_of_fold"] for m in manifests] == [False, True]
  with pytest.raises(ConfigError, match="--out-of-fold and --phase-tolerance: give one"):
    run(predict, out, "--out-of-fold", "--phase-tolerance", "gene_density=1")


def test_genes_say_who_predicted_them_and_who_had_seen_them(run):
  run(predict, run.folder / "out", model=lenient(metas([0, 1, 2])))
  table = pd.read_csv(run.folder / "out" / "genes.tsv", sep="\t")
  # Bases 2000 to 2700 are in block 1, of the test split of fold 0.
  assert table["members"].tolist() == ["C0", "C0"] and table["seen"].tolist() == [0, 0]
  assert not [column for column in table.columns if "spread" in column]
  assert not list((run.folder / "out").glob("*spread*"))
  manifest = json.loads((run.folder / "out" / "predictions.json").read_text())
  assert manifest["out_of_fold"] == "auto"
  run(predict, run.folder / "all", "--in-sample", model=ensemble())
  columns = pd.read_csv(run.folder / "all" / "genes.tsv", sep="\t").columns
  assert "seen" not in columns and "log_tpm_spread:heat/+" in columns


def test_a_contig_out_of_fold_costs_the_others_no_spread(run):
  """Contig n is new to all members, c is what they were trained on."""
  novel = decode(random_codes(3000))
  (run.folder / "c.fa").write_text(f">c toy\n{decode(CODES)}\n>n\n{novel}\n")
  with (run.folder / "c.gff3").open("a") as file:
    file.write("n\t.\tgene\t101\t400\t.\t+\t.\tID=g3;locus_tag=b3\n")
    file.write("n\t.\tgene\t451\t700\t.\t+\t.\tID=g4;locus_tag=b4\n")
  out, alone = run.folder / "out", run.folder / "alone"
  formats = "bigwig,browser,genbank,npz,zarr,bedgraph,parquet"
  run(predict, out, "--formats", formats, model=lenient(metas([0, 1, 2])))
  for name in ("pairs", "genes"):
    table = pd.read_csv(out / f"{name}.tsv", sep="\t").set_index("contig")
    columns = [column for column in table.columns if "spread" in column]
    assert columns and table.loc["c", columns].isna().all(axis=None)
    assert table.loc["n", columns].notna().all(axis=None)
  with pyBigWig.open(str(out / "gene_density_spread.bw")) as file:
    assert np.isnan(file.values("c", 0, LENGTH, numpy=True)).all()
    # The members give 0, 1 and 2 everywhere.
    np.testing.assert_allclose(file.values("n", 0, 3000, numpy=True), 1)
  with np.load(out / "npz" / "c.npz") as own, np.load(out / "npz" / "n.npz") as other:
    assert set(other) - set(own) == {f"{head}_spread" for head in TRACK_HEADS}
  text = (out / "gene_density_spread.bedgraph").read_text()
  assert text.splitlines() == ["n\t0\t3000\t1"]
  (run.folder / "c.fa").write_text(f">n\n{novel}\n")
  run(predict, alone, model=lenient(metas([0, 1, 2])))
  own, both = (pd.read_csv(f / "genes.tsv", sep="\t").set_index("id") for f in (alone, out))
  assert list(own.columns) == list(both.columns)
  np.testing.assert_array_equal(own[columns], both.loc[own.index, columns])


def test_scores_have_the_deviation_of_the_members_scores(run):
  base, other = decode(CODES[2099:2100]), "A" if CODES[2099] else "C"
  (run.folder / "v.vcf").write_text(
    f"##fileformat=VCFv4.2\nc\t2100\t.\t{base}\t{other}\t.\t.\t.\nc\t2100\t.\tN\tA\t.\t.\t.\n"
  )
  out = run.folder / "scores.tsv"
  run(score, out, "--vcf", run.folder / "v.vcf")
  table = pd.read_csv(out, sep="\t")
  genes = pd.read_csv(out.with_suffix(".genes.tsv"), sep="\t")
  alone = []
  for gain in GAINS:
    run(score, run.folder / "one.tsv", "--vcf", run.folder / "v.vcf", model=single(Scaled(gain)))
    alone.append([pd.read_csv(run.folder / f"one{s}.tsv", sep="\t") for s in ("", ".genes")])
  assert table.status.tolist() == ["ok", "refused"]
  for channel in ("expression_{}:heat/+", "density_{}", "membership_{}"):
    for where in ("at_variant", "in_gene", "mean_abs", "max_abs"):
      values = np.array([one[channel.format(where)][0] for one, _ in alone])
      spread = table[channel.format(f"{where}_spread")][0]
      assert spread == pytest.approx(values.std(ddof=1), rel=1e-3, abs=1e-6)
      if "abs" not in where:
        assert table[channel.format(where)][0] == pytest.approx(values.mean(), rel=1e-3, abs=1e-6)
    changes = np.array([genes[channel.format("change")] for _, genes in alone])
    np.testing.assert_allclose(
      genes[channel.format("change_spread")], changes.std(axis=0, ddof=1), rtol=1e-3, atol=1e-6
    )
  assert not [column for column in alone[0][0].columns if "spread" in column]


def test_mutagenesis_and_constructs_have_spreads_too(run):
  out = run.folder / "ism.tsv"
  run(score, out, "--ism", "c:2001-2003")
  table = pd.read_csv(out, sep="\t")
  each = [single(Scaled(gain)).ism(("c", 2000, 2003), run.folder / "c.fa") for gain in GAINS]
  rows = [pd.DataFrame(e.rows(), columns=e.columns()) for e in each]
  for name in ("expression_change:heat/-", "density_change", "membership_change"):
    values = np.array([row[name] for row in rows])
    spread = name.replace("change", "change_spread")
    np.testing.assert_allclose(table[name], values.mean(axis=0), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(table[spread], values.std(axis=0, ddof=1), rtol=1e-3, atol=1e-6)
  changed = CODES.copy()
  changed[2100:2110] = (changed[2100:2110] + 1) % 4
  (run.folder / "d.fa").write_text(f">c toy\n{decode(changed)}\n")
  files = ("--compare", run.folder / "d.fa", "--compare-annotation", run.folder / "c.gff3")
  run(score, out, *files)
  table = pd.read_csv(out, sep="\t")
  changes = []
  for gain in GAINS:
    run(score, run.folder / "one.tsv", *files, model=single(Scaled(gain)))
    changes.append(pd.read_csv(run.folder / "one.tsv", sep="\t")["change:heat/+"])
  np.testing.assert_allclose(table["change:heat/+"], np.mean(changes, axis=0), atol=1e-5)
  np.testing.assert_allclose(
    table["change_spread:heat/+"], np.std(changes, axis=0, ddof=1), atol=1e-5
  )


# Checkpoints


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Two runs of one architecture, untrained, and the file of their ensemble."""
  folder = tmp_path_factory.mktemp("runs")
  for seed in (1, 2):
    save_run(folder / f"fold_{seed}", tiny_model(seed))
  write_ensemble(folder, [folder / "fold_1", folder / "fold_2"])
  return folder


def test_members_of_one_architecture_are_compiled_once_and_give_what_they_give_alone(folder):
  one = jax.local_devices()[0]
  model = alphaecoli.load_predictor(folder, device=one)
  codes = CODES[:RUN_WINDOW_BP]
  found = model.predict(codes)
  first, second = (member._forward for member in model.members)
  assert first.programs is second.programs
  each = [
    alphaecoli.load_predictor(folder / f"fold_{n}", device=one).predict(codes) for n in (1, 2)
  ]
  for head in TRACK_HEADS:
    values = np.stack([getattr(prediction, head) for prediction in each])
    np.testing.assert_allclose(getattr(found, head), values.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.spread[head], values.std(axis=0, ddof=1), rtol=1e-4, atol=1e-6)
    assert values.std(axis=0).max() > 0


def test_the_file_of_an_ensemble_names_best_checkpoints_and_moves_with_its_folder(folder, tmp_path):
  assert json.loads((folder / "ensemble.json").read_text()) == {
    "format": "alphaecoli-ensemble",
    "format_version": 1,
    "members": ["fold_1/checkpoints/7", "fold_2/checkpoints/7"],
  }
  moved = shutil.copytree(folder, tmp_path / "moved")
  paths = [
    m.about["checkpoint"] for m in alphaecoli.load_predictor(moved / "ensemble.json").members
  ]
  assert paths == [str(moved / f"fold_{n}" / "checkpoints" / "7") for n in (1, 2)]
  shutil.rmtree(moved / "fold_2")
  with pytest.raises(
    DataError, match=r"ensemble\.json: member .*fold_2.*: no checkpoint"
  ) as caught:
    alphaecoli.load_predictor(moved)
  assert "\n" not in str(caught.value)


def test_commands_of_one_checkpoint_say_so_and_name_a_member(folder):
  for path in (folder, folder / "ensemble.json"):
    with pytest.raises(DataError, match=r"is an ensemble, and one .* such as .*fold_1/checkpoints"):
      find_checkpoint(path)
  with pytest.raises(ConfigError, match=r"fold_1 is no ensemble, and out of fold needs one"):
    alphaecoli.load_predictor(folder / "fold_1", out_of_fold=True)
  with pytest.raises(DataError, match=r"does not say what it was trained on"):
    alphaecoli.load_predictor(folder, out_of_fold=True)


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("{", "not JSON"),
    ("{}", "not an ensemble that this version reads"),
    ({"format_version": 2, "members": ["a", "b"]}, "'format_version': 2"),
    ({"members": ["fold_1"]}, "at least two paths"),
    ({"members": "fold_1"}, "at least two paths"),
    ({"members": ["fold_1", "fold_1/checkpoints/7"]}, "names a checkpoint twice"),
    ({"members": [".", "fold_1"]}, "is an ensemble, and one checkpoint is needed"),
  ],
  ids=["json", "format", "version", "one", "text", "twice", "itself"],
)
def test_broken_files_of_ensembles_are_one_line(folder, tmp_path, content, message):
  (tmp_path / "fold_1").symlink_to(folder / "fold_1")
  if isinstance(content, dict):
    content = json.dumps({"format": "alphaecoli-ensemble", "format_version": 1, **content})
  (tmp_path / "ensemble.json").write_text(content)
  with pytest.raises(DataError, match=message) as caught:
    alphaecoli.load_predictor(tmp_path)
  assert "\n" not in str(caught.value)


class AnyWindows(Scaled):
  """Takes windows of any number and length."""

  def __call__(self, windows, both):
    self.shape = windows.shape
    return super().__call__(windows, both)


def test_members_of_other_windows_predict_short_contigs_in_short_windows_of_their_own():
  sizes = {"first": 16_384, "second": 8_192}
  members = [
    single(AnyWindows(gain, window_bp), name=name, margin_bp=2048)
    for gain, (name, window_bp) in zip((1.0, 2.0), sizes.items(), strict=True)
  ]
  model = EnsemblePredictor(members, about={"checkpoint": "E"})
  lengths = [900, 5000, 20_000, 1, 1500, 9000, 700]
  contigs = [random_codes(n, seed=i) for i, n in enumerate(lengths)]
  requests, done = [Request(codes, False) for codes in contigs], []
  found = list(model.predict_many(requests, progress=done.append))
  each = [list(member.predict_many(requests)) for member in members]
  assert [len(result.gene_expression) for result in found] == lengths
  for result, *own in zip(found, *each, strict=True):
    mean = np.mean([prediction.gene_expression for prediction in own], axis=0)
    np.testing.assert_allclose(result.gene_expression, mean, atol=1e-5)
  assert sum(done) == pytest.approx(sum(lengths), abs=1)
