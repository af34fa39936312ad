"""Training on several organisms: shares, organism indices, tables, resume, commands."""

import dataclasses
import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import alphaecoli
from alphaecoli import evaluate, plot, predict, report, train
from alphaecoli.checkpoints.read import read_meta
from alphaecoli.data.pipeline import training_batches
from alphaecoli.data.windows import draw_source
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.inference.compiled import CompiledModel
from alphaecoli.prepare import prepare
from alphaecoli.schema import HEADS
from alphaecoli.tracks.organisms import Organisms, as_prepared, find_store, open_organisms
from alphaecoli.tracks.splits import configured_regions
from alphaecoli.tracks.track_table import choose_organism, organisms_of
from alphaecoli.training.resume import check_resumable
from alphaecoli.training.run import train_on
from tests import toy
from tests.organism.export import export, read_records
from tests.stores import toy_config
from tests.training.small import TINY, stand_in, tiny_config, with_mesh

WINDOW_BP = 2048
SIZES = {"model.channels": 4, "model.channel_step": 2, "model.n_heads": 1, "model.key_dim": 4}


def make_store(directory, name, length_bp, seed, operons=True, **data):
  dump = toy_config(toy.write_random(directory / f"{name}-dump", length_bp, seed), **data)
  files = export(directory / f"{name}-files", read_records(dump.data))
  settings = dataclasses.replace(dump.data, dump="builtin", genome="builtin")
  files = files if operons else dataclasses.replace(files, operons=None)
  return prepare(files, settings, directory / name, name=name)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
  """Two organisms of other length, genes and expression; the second has no operons."""
  directory = tmp_path_factory.mktemp("stores")
  return (
    make_store(directory, "coli", 80_000, 0),
    make_store(directory, "subtilis", 60_000, 1, operons=False),
  )


def batches(stores, n, shares=(0.75, 0.25), **options):
  settings = {"window_bp": WINDOW_BP, "batch_windows": 4, "seed": 7, **options}
  with training_batches(stores, shares=shares, **settings) as stream:
    return list(itertools.islice(stream, n))


def test_windows_are_those_of_the_organism_they_name(stores):
  seen = set()
  for batch in batches(stores, 12):
    for row, organism in enumerate(batch["organism"]):
      seen.add(int(organism))
      start, reverse = int(batch["start"][row]), bool(batch["reverse"][row])
      window = stores[organism].window(start, WINDOW_BP, reverse)
      for key in window.keys() - {"organism"}:
        np.testing.assert_array_equal(batch[key][row], window[key], err_msg=key)
  assert seen == {0, 1}


@pytest.mark.parametrize("weights", [(3, 1), (1, 1), (0.2, 0.3, 0.5)], ids=str)
def test_shares_of_the_stream_match_the_weights(weights):
  shares = [weight / sum(weights) for weight in weights]
  n = 20_000
  drawn = np.bincount([draw_source(5, i, shares) for i in range(n)], minlength=len(shares))
  for count, share in zip(drawn, shares, strict=True):
    assert abs(count - n * share) < 5 * math.sqrt(n * share * (1 - share))


def test_the_global_batch_is_the_same_for_any_processes_threads_and_start(stores):
  whole = batches(stores, 4, threads=0)
  for processes in (2, 4):
    parts = [batches(stores, 4, process_index=p, process_count=processes) for p in range(processes)]
    for step, expected in enumerate(whole):
      for key, value in expected.items():
        joined = np.concatenate([part[step][key] for part in parts])
        np.testing.assert_array_equal(joined, value, err_msg=key)
  later = batches(stores, 2, first_step=2, threads=3)
  np.testing.assert_array_equal(later[0]["organism"], whole[2]["organism"])
  np.testing.assert_array_equal(later[1]["sequence"], whole[3]["sequence"])


def test_one_store_gives_the_stream_it_always_gave(stores):
  alone, first = batches(stores[0], 3, shares=(1.0,)), batches(stores, 3, shares=(1.0, 0.0))
  for a, b in zip(alone, first, strict=True):
    np.testing.assert_array_equal(a["start"], b["start"])
    assert not a["organism"].any() and not b["organism"].any()


def test_heads_start_from_means_by_share_of_the_organisms_with_data(stores):
  mean, a, b = Organisms.of(stores, (3, 1)).table, *(store.table for store in stores)
  assert mean.density_mean == pytest.approx(0.75 * a.density_mean + 0.25 * b.density_mean)
  assert mean.operon_prevalence == pytest.approx(a.operon_prevalence)
  assert mean.expression[0].mean == pytest.approx(
    0.75 * a.expression[0].mean + 0.25 * b.expression[0].mean
  )
  assert mean.has_operons and mean.has_expression and mean.names == a.names
  assert Organisms.of(stores[:1]).table == a
  assert Organisms.of(stores[:1]).fingerprint == stores[0].fingerprint


def config_for(stores, **overrides):
  paths = tuple(str(store.path) for store in stores)
  return tiny_config(**{"data__stores": paths, "model__n_organisms": len(stores), **overrides})


def test_stores_that_do_not_go_together_are_refused(stores, tmp_path):
  split = make_store(tmp_path, "split", 60_000, 2, expression_tracks="dataset")
  with pytest.raises(ConfigError, match=r"other expression tracks: coli mean; split RND00, RND01"):
    open_organisms(config_for([stores[0], split]), tmp_path)
  with pytest.raises(ConfigError, match="two organisms are called 'coli'"):
    open_organisms(config_for([stores[0], stores[0]]), tmp_path)
  with pytest.raises(ConfigError, match=r"2 organisms and model\.n_organisms=1"):
    open_organisms(config_for(stores, model__n_organisms=1), tmp_path)
  with pytest.raises(ConfigError, match=r"store_weights has 1 values for 2 data\.stores"):
    config_for(stores, data__store_weights=(1.0,))
  with pytest.raises(ConfigError, match=r"store_weights=\(1\.0, 0\.0\); expected values above 0"):
    config_for(stores, data__store_weights=(1.0, 0.0))


def test_what_a_store_was_prepared_with_wins_over_defaults_and_nothing_else(stores, tmp_path):
  assert stores[0].manifest["config"]["min_genes_per_unit"] == 10  # configs/base.py has 100
  assert len(open_organisms(config_for(stores), tmp_path).stores) == 2
  assert open_organisms(config_for(stores, data__min_genes_per_unit=10), tmp_path)
  with pytest.raises(ConfigError, match=r"data\.fold=3, and .*coli was prepared with 0; leave it"):
    open_organisms(config_for(stores, data__fold=3), tmp_path)
  with pytest.raises(ConfigError, match=r"operon_evidence='experimental', and .* with 'all'"):
    open_organisms(config_for(stores, data__operon_evidence="experimental"), tmp_path)


def test_a_run_on_stores_of_another_default_is_divided_as_they_are_and_goes_on(tmp_path):
  store = make_store(tmp_path, "old", 60_000, 3, block_offset=0.0, fold=2)
  assert "block_offset" not in store.manifest["config"]  # as in stores from before the key
  config = config_for([store])
  assert (config.data.block_offset, config.data.fold) == (0.5, 0)
  (opened,) = open_organisms(config, tmp_path).stores
  found = as_prepared(config, [opened])
  assert (found.data.block_offset, found.data.fold) == (0.0, 2)
  regions = configured_regions(found.to_dict()["data"], store.length_bp, True)
  assert regions["train"] == store.regions("train")
  # A run whose checkpoints say what was the default then, and nothing of what the store has.
  meta = {"config": config.to_dict(), "store_fingerprint": store.fingerprint}
  del meta["config"]["data"]["block_offset"]
  check_resumable(meta, found, store.fingerprint)
  with pytest.raises(ConfigError, match=r"window_bp was 2048 and is 4096"):
    check_resumable(meta, as_prepared(config_for([store], data__window_bp=4096), [opened]), "")
  other = make_store(tmp_path, "other", 60_000, 4, block_offset=0.0, fold=1)
  both = as_prepared(config_for([store, other]), [opened, other]).data
  assert (both.block_offset, both.fold) == (0.0, 0)  # folds differ: no one number says it


def test_a_run_measures_each_organism_resumes_and_refuses_other_stores(stores, tmp_path):
  config = with_mesh(config_for(stores, data__store_weights=(3.0, 1.0)), 4, 2)
  organisms = open_organisms(config, tmp_path)
  assert train_on(organisms, config, tmp_path, stand_in()) == 0
  assert train_on(organisms, config, tmp_path, stand_in()) == 0  # nothing is left to do
  lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  (again,) = [r for r in lines if r["kind"] == "validation" and r["step"] == 8]
  each = [again[f"{name}/loss/total"] for name in ("coli", "subtilis")]
  assert again["loss/total"] == pytest.approx(np.mean(each))
  assert again["operon_membership/auroc"] == again["coli/operon_membership/auroc"]
  assert "subtilis/operon_membership/auroc" not in again
  meta = read_meta(tmp_path / "checkpoints" / "8")
  assert [o["name"] for o in meta["organisms"]] == ["coli", "subtilis"]
  assert len(meta["trained_on"]) == 2
  with pytest.raises(ConfigError, match="a run on other tracks"):
    train_on(Organisms.of(stores[::-1], (3, 1)), config, tmp_path, stand_in())


def check_predictions(path, stores):
  """Each organism has its own embedding and units."""
  with pytest.raises(ConfigError, match=r"2 organisms: coli, subtilis; choose one"):
    alphaecoli.load_predictor(path)
  one = {"device": jax.devices()[:1]}
  by_name = [alphaecoli.load_predictor(path, organism=s.organism, **one) for s in stores]
  for predictor, store in zip(by_name, stores, strict=True):
    assert predictor.table == store.table
    assert predictor.about["organism"] == store.organism
  sequence = stores[0].sequence[:WINDOW_BP]
  z = [p.predict(sequence, units="z").gene_expression for p in by_name]
  assert np.abs(z[0] - z[1]).max() > 1e-5
  track, second = stores[1].table.expression[0], by_name[1]
  log_tpm = second.predict(sequence).gene_expression
  np.testing.assert_allclose(log_tpm, z[1] * track.std + track.mean, rtol=1e-5, atol=1e-5)
  assert second.trained_heads == ("gene_expression", "gene_density")


class Rows(nnx.Module):
  """A model that knows nothing but the organism."""

  def __init__(self):
    self.table = nnx.Param(jnp.array([1.0, 2.0, 3.0]))

  def __call__(self, sequence, organism, tower_bp=None):
    value = self.table[...][organism][:, None, None]
    return {head: jnp.broadcast_to(value, (*sequence.shape, 1)) for head in HEADS}


@pytest.mark.parametrize("row", [0, 2])
@pytest.mark.parametrize("both", [False, True])
def test_prediction_reads_the_row_of_its_organism(stores, row, both):
  model = CompiledModel.of(Rows(), stores[0].table, jax.devices()[:1], row)
  found = model(np.zeros((1, WINDOW_BP), np.uint8), both)["gene_expression"]
  assert (np.asarray(found) == row + 1).all()


def test_organisms_are_chosen_by_name_or_row(stores):
  organisms = Organisms.of(stores).trained
  assert organisms_of({"organisms": [o.to_json() for o in organisms]}) == organisms
  assert choose_organism(organisms[:1], None) == 0
  assert choose_organism(organisms, "1") == choose_organism(organisms, "subtilis") == 1
  for wrong, message in (
    (None, r"2 organisms: coli, subtilis; choose one"),
    (2, r"organism=2; this checkpoint .*rows 0 to 1"),
    ("yeast", "organism=yeast; this checkpoint knows coli, subtilis"),
  ):
    with pytest.raises(ConfigError, match=message):
      choose_organism(organisms, wrong)


def test_a_checkpoint_from_before_organisms_has_one(stores):
  table = stores[0].table
  (alone,) = organisms_of({"table": table.to_json(), "store_fingerprint": "f"})
  assert (alone.table, alone.store_fingerprint) == (table, "f")


def test_a_store_that_was_prepared_again_is_refused(stores, tmp_path):
  trained = Organisms.of(stores).trained
  paths = [str(store.path) for store in stores]

  def find(paths, organism):
    organisms = [organism.to_json() for organism in trained]
    meta = {"config": {"data": {"stores": paths}}, "organisms": organisms}
    return str(find_store(meta, tmp_path, organism).path)

  gone = [paths[0], str(tmp_path / "gone")]
  assert [find(paths, "coli"), find(paths, 1), find(gone, "coli")] == [*paths, paths[0]]
  with pytest.raises(DataError, match="prepared again since the checkpoint was trained on coli"):
    find(paths[::-1], "coli")
  with pytest.raises(DataError, match="not a track store"):
    find(gone, "subtilis")


@pytest.mark.slow
def test_the_commands_train_evaluate_predict_plot_and_report_both(stores, tmp_path, capsys):
  sizes = {**TINY, **SIZES, "train.steps": 2, "evaluation.every_steps": 2, "mesh.data": 8}
  arguments = [f"--config.{key}={str(value).lower() if isinstance(value, bool) else value}"
               for key, value in sizes.items()]  # fmt: skip
  arguments += [f"--config.data.stores={store.path}" for store in stores]
  arguments += ["--config.data.store_weights=1", "--config.data.store_weights=2"]
  workdir = tmp_path / "run"
  assert train.main([*arguments, "--config.model.n_organisms=2", "--workdir", str(workdir)]) == 0
  capsys.readouterr()
  assert evaluate.main(["--workdir", str(workdir), "--split", "test"]) == 0
  printed = capsys.readouterr().out
  for store in stores:
    assert f"{store.organism}, step 2, test split" in printed
    found = json.loads((workdir / f"evaluation_test_{store.organism}.json").read_text())
    assert found["store_fingerprint"] == store.fingerprint
    assert found["n_bases"] == store.length_bp // 10
    rows = (workdir / f"evaluation_test_{store.organism}_genes.tsv").read_text().splitlines()
    inside = store.genes.split == "test"
    assert {row.split("\t")[0] for row in rows[1:]} == set(store.genes.gene_id[inside])
  assert found["skipped"] == {"operon_membership": "the track store has no such data"}
  check_predictions(workdir, stores)
  fasta, out = toy.write_fasta(tmp_path / "x.fna", "ACGT" * 1000, "x"), tmp_path / "out"
  chosen = ["--organism", "coli"]
  predicted = ["--checkpoint", str(workdir), "--fasta", str(fasta), "--out", str(out), *chosen]
  assert predict.main(predicted) == 0
  assert list(out.rglob("*.bw"))
  drawn = ["--workdir", str(workdir), "--region", "1000-9000", *chosen]
  assert plot.main([*drawn, "--out", str(tmp_path / "x.png")]) == 0
  page = tmp_path / "x.html"
  assert report.main(["--workdir", str(workdir), *chosen, "--out", str(page)]) == 0
  assert page.stat().st_size > 10_000
