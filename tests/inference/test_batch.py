"""Many genomes: shared batches, folders, resuming, broken files, several processes."""

import json
import logging
import re
import threading

import numpy as np
import pyBigWig
import pytest

from alphaecoli import predict
from alphaecoli.genomics.sequence import decode
from alphaecoli.inference.batch import prefetch
from tests.genomics.test_genbank import feature, record
from tests.inference.standin import predictor, random_codes, whole_contig

LENGTHS = {"a": {"a1": 3000, "a2": 200}, "b": {"b1": 700}, "c": {"same": 130}, "d": {"same": 260}}


def codes_of(file, contig):
  return random_codes(LENGTHS[file][contig], seed=sum(map(ord, file + contig)))


@pytest.fixture
def folder(tmp_path):
  """Four FASTA files."""
  path = tmp_path / "genomes"
  path.mkdir()
  for file, contigs in LENGTHS.items():
    text = "".join(f">{name}\n{decode(codes_of(file, name))}\n" for name in contigs)
    (path / f"{file}.fna").write_text(text)
  return path


@pytest.fixture
def run(monkeypatch, tmp_path, folder, caplog):
  """Runs the command; returns its status and the model."""
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  caplog.set_level(logging.INFO, "alphaecoli")

  def go(*flags, stop_after=None, inputs=(folder,), organism="coli"):
    model = predictor(batch_windows=4)
    forward = model._forward

    def limited(windows, both):
      if stop_after is not None and forward.calls >= stop_after:
        raise ZeroDivisionError
      return forward(windows, both)

    limited.n_devices = 1
    monkeypatch.setattr(model, "_forward", limited)
    model.about = {"checkpoint": "C", "organism": organism}
    monkeypatch.setattr("alphaecoli.api.load_predictor", lambda *a, **k: model)
    given = ["--checkpoint", "C", "--out", str(tmp_path / "out"), "--circular", "all"]
    if inputs:
      given += ["--fasta", *map(str, inputs)]
    return predict.main([*given, *flags]), forward

  return go


def summary(out):
  header, *rows = [r.split("\t") for r in (out / "genomes.tsv").read_text().splitlines()]
  assert header == ["genome", "folder", "status", "contigs", "bases", "reason"]
  return {row[1]: row[2:] for row in rows}


def operon_track(folder, contig, length):
  with pyBigWig.open(str(folder / "operon_membership.bw")) as tracks:
    return np.array(tracks.values(contig, 0, length), np.float32)


def check(out):
  for file, contigs in LENGTHS.items():
    for contig, length in contigs.items():
      expected = whole_contig(codes_of(file, contig), True)["operon_membership"][:, 0]
      np.testing.assert_allclose(operon_track(out / file, contig, length), expected, atol=2e-5)


def test_contigs_of_many_genomes_share_batches_and_keep_their_places(run, tmp_path):
  status, forward = run()
  out = tmp_path / "out"
  assert status == 0 and sorted(p.name for p in out.iterdir()) == [*"abcd", "genomes.tsv"]
  check(out)
  assert forward.calls == 2  # 3 + 1 + 1 + 1 + 1 windows
  assert summary(out)["a"] == ["done", "2", "3200", ""]


def test_interrupted_run_continues(run, tmp_path, caplog):
  out = tmp_path / "out"
  with pytest.raises(ZeroDivisionError):
    run(stop_after=1)
  finished = [f for f in "abcd" if (out / f / "predictions.json").exists()]
  assert len(finished) < 4
  status, _ = run()
  assert status == 0
  words = f", {len(finished)} done already" if finished else ""
  assert re.search(rf"{4 - len(finished)} genomes? predicted{words}: ", caplog.text)
  check(out)
  _, forward = run()
  assert forward.calls == 0 and "0 genomes predicted, 4 done already" in caplog.text


def test_changed_file_is_predicted_again_alone(run, tmp_path, folder, caplog):
  run()
  text = (folder / "b.fna").read_text()
  (folder / "b.fna").write_text(text[:-10])
  run()
  assert "1 genome predicted, 3 done already" in caplog.text
  assert summary(tmp_path / "out")["b"] == ["done", "1", str(700 - 9), ""]


def test_killed_run_leaves_parts_that_the_next_one_replaces(run, tmp_path):
  partial = tmp_path / "out" / "b" / ".partial"
  partial.mkdir(parents=True)
  (partial / "operon_membership.bw").write_text("half")
  run()
  assert not partial.exists()
  check(tmp_path / "out")


def test_another_organism_of_the_model_is_predicted_anew(run, caplog):
  run()
  run(organism="subtilis")
  assert "4 genomes predicted: " in caplog.text.splitlines()[-1]


def test_broken_genome_is_counted_with_its_reason_and_the_others_are_done(run, tmp_path, folder):
  (folder / "b.fna").write_text("no fasta\n")
  (folder / "e.gbk").write_text("LOCUS  broken\n")
  status, _ = run()
  out = tmp_path / "out"
  assert status == 1
  found = summary(out)
  assert [found[name][0] for name in "abcde"] == ["done", "failed", "done", "done", "failed"]
  assert "first line must start with '>'" in found["b"][3]
  assert "holds no record; expected GenBank" in found["e"][3]
  reason = json.loads((out / "b" / "failed.json").read_text())["reason"]
  assert reason == found["b"][3] and not (out / "b" / "predictions.json").exists()
  (folder / "b.fna").write_text(f">b1\n{decode(codes_of('b', 'b1'))}\n")
  (folder / "e.gbk").unlink()
  status, _ = run()
  assert status == 0
  check(out)
  assert not (out / "b" / "failed.json").exists()


def test_missing_file_of_a_list_is_counted(run, tmp_path, folder):
  listed = tmp_path / "list"
  listed.write_text(f"{folder / 'a.fna'}\n{folder / 'absent.fna'}\n")
  status, _ = run("--list", str(listed), inputs=())
  assert status == 1
  assert summary(tmp_path / "out")["absent"][0] == "failed"


def test_processes_share_the_genomes_without_talking(run, tmp_path, caplog):
  out = tmp_path / "out"
  run("--process-index", "1", "--process-count", "2")
  first = {name for name, row in summary(out).items() if row[0] == "done"}
  assert first and summary(out).keys() - first
  assert all(row[0] in ("done", "waiting") for row in summary(out).values())
  run("--process-index", "0", "--process-count", "2")
  assert {row[0] for row in summary(out).values()} == {"done"}
  check(out)
  run()
  assert "0 genomes predicted, 4 done already" in caplog.text


def test_genbank_brings_its_topology_and_genes(run, tmp_path, folder):
  from Bio import SeqIO

  genes = [
    feature("gene", (950, 1000, 1), (0, 40, 1), locus_tag="t1", gene="wrapped"),
    feature("gene", (60, 300, 1), locus_tag="t2"),
    feature("gene", (310, 700, -1), locus_tag="t3"),
  ]
  records = [record("NC_9.1", genes), record("p.1", [], "linear", "ACGT" * 90)]
  SeqIO.write(records, folder / "gb.gbk", "genbank")
  flags = ["--checkpoint", "C", "--out", str(tmp_path / "out"), "--fasta", str(folder)]
  run()
  predict.main([*flags, "--operon-threshold", "0", "--formats", "parquet"])
  out = tmp_path / "out" / "gb"
  contigs = json.loads((out / "predictions.json").read_text())["contigs"]
  assert [(c["name"], c["circular"]) for c in contigs] == [("NC_9.1", True), ("p.1", False)]
  pairs = [row.split("\t") for row in (out / "pairs.tsv").read_text().splitlines()]
  (pair,) = [dict(zip(pairs[0], row, strict=True)) for row in pairs[1:]]
  assert (pair["left_name"], pair["right_locus_tag"], pair["distance_bp"]) == (
    "wrapped",
    "t2",
    "20",
  )
  gff = (out / "operons.gff3").read_text()
  assert "NC_9.1\talphaecoli\toperon\t951\t1300\t" in gff  # passes the origin
  bed = [row.split("\t")[:4] for row in (out / "operons.bed").read_text().splitlines()[1:]]
  assert bed == [["NC_9.1", "0", "300", "operon1"], ["NC_9.1", "950", "1000", "operon1"]]
  assert (out / "genes.parquet").exists() and (out / "pairs.parquet").exists()
  assert summary(tmp_path / "out")["a"][0] == "failed"  # Parquet of a genome without genes


def test_another_file_in_the_same_folder_is_said(run, tmp_path, folder, caplog):
  run(inputs=(folder / "a.fna", folder / "b.fna"))
  other = tmp_path / "other" / "b.fna"
  other.parent.mkdir()
  other.write_text(f">b1\n{'ACGT' * 40}\n")
  run(inputs=(folder / "a.fna", other))
  assert f"{tmp_path / 'out' / 'b'}: replaces the predictions of {folder / 'b.fna'}" in caplog.text
  assert caplog.text.count("replaces") == 1


def test_head_that_was_not_trained_is_not_written(tmp_path, folder, monkeypatch, caplog):
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  model = predictor(trained_heads=("gene_expression",))
  monkeypatch.setattr("alphaecoli.api.load_predictor", lambda *a, **k: model)
  gff = tmp_path / "a.gff"
  gff.write_text("a1\t.\tgene\t1\t90\t.\t+\t.\tID=g1\na1\t.\tgene\t95\t200\t.\t+\t.\tID=g2\n")
  out = tmp_path / "alone"
  flags = ["--checkpoint", "C", "--fasta", str(folder / "a.fna"), "--annotation", str(gff)]
  assert predict.main([*flags, "--out", str(out), "--formats", "bigwig,npz"]) == 0
  assert sorted(p.name for p in out.iterdir()) == [
    "gene_expression.heat_+.bw",
    "gene_expression.heat_-.bw",
    "genes.bed",
    "genes.tsv",
    "npz",
    "predictions.json",
  ]
  assert "not trained in this checkpoint" in caplog.text
  header, row, _ = [r.split("\t") for r in (out / "genes.tsv").read_text().splitlines()]
  found = dict(zip(header, row, strict=True))
  assert found["operon_probability"] == "" and float(found["log_tpm:heat/+"])


def test_prefetch_does_not_wait_for_what_nobody_wants():
  begun, release = threading.Event(), threading.Event()

  def items():
    yield 1
    begun.set()
    release.wait()
    yield 2

  source = prefetch(items())
  assert next(source) == 1
  begun.wait()
  source.close()  # returns although the second item is under way
  release.set()


def test_prefetch_keeps_order_and_raises_in_its_place():
  def numbers():
    yield from range(3)
    raise ZeroDivisionError

  seen = []
  with pytest.raises(ZeroDivisionError):
    for number in prefetch(numbers()):
      seen.append(number)
  assert seen == [0, 1, 2]
  assert list(prefetch([])) == [] and list(prefetch([None, None])) == [None, None]


def test_what_no_genome_uses_is_said_once(run, tmp_path, caplog, toy_store):
  alias = tmp_path / "alias"
  alias.write_text("a1\tx1\nabsent\tx2\n")
  rings = ("--circular", "a2,nowhere")
  run("--alias", str(alias), *rings, "--store", str(toy_store.path))
  messages = [record.getMessage() for record in caplog.records]
  assert "--alias: 1 names are of no contig: absent" in messages
  assert "--circular: 1 names are of no contig: nowhere" in messages
  said = [text for text in messages if "the store has no gene of 4 of 4 genomes" in text]
  assert len(said) == 1 and said[0].endswith(".fna, …")
