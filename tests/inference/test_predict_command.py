"""The command from flags to files, with the stand-in model in place of a checkpoint."""

import json
import logging
import sys

import numpy as np
import pyBigWig
import pytest

from alphaecoli import cli, predict
from alphaecoli.errors import ConfigError, DataError, UserError
from alphaecoli.genomics.sequence import decode
from alphaecoli.inference.output import read_prediction
from tests.inference.standin import predictor, random_codes, whole_contig

LENGTHS = {"chr.1": 5000, "p2": 130, "p10": 2500}
CODES = {name: random_codes(n, seed=n) for name, n in LENGTHS.items()}


@pytest.fixture
def fasta(tmp_path):
  path = tmp_path / "x.fasta"
  notes = {"chr.1": " Toy, complete genome", "p2": "", "p10": " plasmid"}
  path.write_text("".join(f">{n}{notes[n]}\n{decode(c).lower()}\n" for n, c in CODES.items()))
  return path


@pytest.fixture
def run(monkeypatch, tmp_path, fasta, caplog):
  asked = {}

  def load(checkpoint, **options):
    asked.update(options, checkpoint=checkpoint)
    return predictor(about={"checkpoint": checkpoint})

  monkeypatch.setattr("alphaecoli.api.load_predictor", load)
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  caplog.set_level(logging.INFO, "alphaecoli")

  def go(*flags, fasta=fasta, out=tmp_path / "out"):
    code = predict.main(["--checkpoint", "C", "--fasta", str(fasta), "--out", str(out), *flags])
    assert code == 0
    return out, asked

  return go


def values(folder, file, contig):
  with pyBigWig.open(str(folder / file)) as tracks:
    return np.array(tracks.values(contig, 0, LENGTHS[contig]), np.float32)


def test_every_contig_gets_its_tracks_in_its_topology(run):
  folder, _ = run("--circular", "chr.1,p2", "--units", "z")
  for name, codes in CODES.items():
    expected = whole_contig(codes, circular=name != "p10")
    for file, track in (
      ("gene_expression.heat_-.bw", expected["gene_expression"][:, 1]),
      ("operon_membership.bw", expected["operon_membership"][:, 0]),
      ("gene_density.bw", np.repeat(expected["gene_density"][:, 0], 128)[: len(codes)]),
    ):
      np.testing.assert_allclose(values(folder, file, name), track, atol=2e-5)


def test_manifest_describes_the_run(run, fasta):
  folder, asked = run("--margin-bp", "512", "--batch-windows", "4", "--units", "tpm")
  manifest = json.loads((folder / "predictions.json").read_text())
  assert manifest["model"] == {"checkpoint": "C"} and manifest["sequence"]["path"] == str(fasta)
  assert manifest["units"] == {"gene_expression": "TPM"}
  assert [(c["name"], c["length_bp"], c["circular"]) for c in manifest["contigs"]] == [
    ("chr.1", 5000, False),
    ("p10", 2500, False),
    ("p2", 130, False),
  ]
  assert manifest["window_bp"] == 2048 and manifest["margin_bp"] == 512
  assert {t["file"] for t in manifest["tracks"]} == {p.name for p in folder.glob("*.bw")}
  assert manifest["versions"].keys() >= {"alphaecoli", "jax", "numpy"}
  assert (asked["margin_bp"], asked["batch_windows"]) == (512, 4)


def test_topology_that_is_assumed_is_said_aloud(run, caplog):
  run()
  assert (
    "taken as linear, since nothing says otherwise: chr.1, p2, p10; chr.1 may be" in caplog.text
  )
  caplog.clear()
  run("--circular", "all")
  assert "circular (--circular): chr.1, p2, p10" in caplog.text
  assert "linear" not in caplog.text


def test_annotation_gives_a_gene_table_and_the_topology(run, tmp_path, caplog):
  gff = tmp_path / "g.gff3"
  gff.write_text(
    "chr.1\t.\tregion\t1\t5000\t.\t+\t.\tID=r;Is_circular=true\n"
    "p2\t.\tgene\t3\t90\t.\t-\t.\tID=g2;Name=two\n"
    "chr.1\t.\tgene\t4901\t5100\t.\t+\t.\tID=g1;locus_tag=b1\n"
    "other\t.\tgene\t1\t9\t.\t+\t.\tID=g3\n"
  )
  folder, _ = run("--annotation", str(gff))
  assert "circular (annotation): chr.1" in caplog.text and "p2, p10" in caplog.text
  assert "1 genes skipped: on other, which is not in the FASTA" in caplog.text
  header, *rows = [r.split("\t") for r in (folder / "genes.tsv").read_text().splitlines()]
  table = [dict(zip(header, row, strict=True)) for row in rows]
  assert [(g["id"], g["contig"], g["start"], g["end"], g["strand"]) for g in table] == [
    ("g1", "chr.1", "4901", "5100", "+"),
    ("g2", "p2", "3", "90", "-"),
  ]
  track = values(folder, "gene_expression.heat_+.bw", "chr.1")
  mean = np.concatenate([track[4900:], track[:100]]).mean()
  assert float(table[0]["log_tpm:heat/+"]) == pytest.approx(mean, rel=1e-5)
  assert float(table[0]["tpm:heat/+"]) == pytest.approx(np.expm1(mean), rel=1e-5)


def test_unknown_contig_is_refused_with_the_nearest(run):
  with pytest.raises(ConfigError, match=r"--circular=chr1: no such contig.*nearest: chr.1"):
    run("--circular", "chr1")


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "sequence"),
    (">a\nACGT\n>a\nACGT\n", "twice"),
    ("ACGT\n", "not FASTA"),
    (">a\n", "no sequence"),
    (">a\nAC%T\n", "'%'"),
  ],
  ids=["empty", "duplicate", "no-header", "no-bases", "letter"],
)
def test_broken_fasta_is_one_line(run, tmp_path, text, message):
  path = tmp_path / "bad.fasta"
  path.write_text(text)
  with pytest.raises(UserError, match=message) as caught:
    run(fasta=path)
  assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_missing_fasta_and_blocked_output_are_one_line(run, tmp_path):
  with pytest.raises(UserError, match=r"absent\.fasta: can not be read: No such file"):
    run(fasta=tmp_path / "absent.fasta")
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="can not be written to"):
    run(out=tmp_path / "file" / "out")


PROTEIN = "MKRISTTITTTITITTGNGAGMEWFLLKPQRYVHD"


def test_proteins_are_one_line_and_unknown_bases_a_warning(run, tmp_path, caplog):
  path = tmp_path / "p.faa"
  path.write_text(f">chr.1\n{PROTEIN}\n")
  message = r"p\.faa: line 1: chr\.1 is a protein; expected nucleotides"
  with pytest.raises(UserError, match=message) as caught:
    run(fasta=path)
  assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
  path.write_text(">chr.1\n" + "ACGTRYSWKMBDHVNX" * 40 + "E" * 30 + "\n")  # 4.5% are no nucleotides
  run(fasta=path)
  assert "76% of the bases of chr.1 are unknown (not A C G T)" in caplog.text


@pytest.fixture
def break_model(monkeypatch):
  """Has the model fail from its n-th batch on."""

  def after(batches):
    broken = predictor()
    forward = broken._forward

    def fail(windows, both):
      if forward.calls >= batches:
        raise ZeroDivisionError
      return forward(windows, both)

    fail.n_devices = 1
    monkeypatch.setattr(broken, "_forward", fail)
    monkeypatch.setattr("alphaecoli.api.load_predictor", lambda *a, **k: broken)

  return after


def contents(folder):
  return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_interrupted_run_does_not_look_complete(run, tmp_path, break_model):
  break_model(2)
  with pytest.raises(ZeroDivisionError):
    run()
  assert contents(tmp_path / "out") == {}


def test_interrupted_rerun_leaves_the_older_outputs(run, break_model):
  folder, _ = run()
  before = contents(folder)
  break_model(2)
  with pytest.raises(ZeroDivisionError):
    run("--units", "tpm")
  assert contents(folder) == before


def test_values_that_are_not_finite_are_one_line(run, tmp_path, monkeypatch):
  broken = predictor()
  forward = broken._forward

  def nan(windows, both):
    outputs = forward(windows, both)
    outputs["operon_membership"][:, 77] = np.nan
    return outputs

  nan.n_devices = 1
  monkeypatch.setattr(broken, "_forward", nan)
  monkeypatch.setattr("alphaecoli.api.load_predictor", lambda *a, **k: broken)
  with pytest.raises(UserError, match=r"nan for operon_membership at base 77 of chr.1"):
    run()
  assert contents(tmp_path / "out") == {}


def test_same_command_again_does_nothing_and_another_writes_anew(run, caplog, break_model):
  folder, _ = run("--formats", "bigwig,zarr,npz")
  before = contents(folder)
  break_model(0)
  run("--formats", "bigwig,zarr,npz")
  assert "0 genomes predicted, 1 done already: " in caplog.text and contents(folder) == before
  (folder / "operons.bed").unlink()
  with pytest.raises(ZeroDivisionError):
    run("--formats", "bigwig,zarr,npz")  # a file is missing


def test_other_options_replace_the_older_outputs(run):
  folder, _ = run("--formats", "bedgraph,zarr,npz")
  (folder / "mine.png").write_text("kept")
  run("--formats", "bedgraph.gz", "--circular", "all")
  assert sorted(p.name for p in folder.iterdir()) == [
    "gene_density.bedgraph.gz",
    "gene_expression.heat_+.bedgraph.gz",
    "gene_expression.heat_-.bedgraph.gz",
    "mine.png",
    "operon_membership.bedgraph.gz",
    "operons.bed",
    "operons.gff3",
    "predictions.json",
  ]


def test_aliases_name_contigs_in_every_output_and_the_order_follows(run, tmp_path):
  alias = tmp_path / "alias.tsv"
  alias.write_text("p2\tA\nabsent\tB\n")
  folder, _ = run("--alias", str(alias), "--formats", "bigwig,npz", "--circular", "p2")
  with pyBigWig.open(str(folder / "operon_membership.bw")) as tracks:
    assert tracks.chroms() == {"A": 130, "chr.1": 5000, "p10": 2500}
    found = np.array(tracks.values("A", 0, 130), np.float32)
  expected = whole_contig(CODES["p2"], circular=True)["operon_membership"][:, 0]
  np.testing.assert_allclose(found, expected, atol=2e-5)
  manifest = json.loads((folder / "predictions.json").read_text())
  assert next((c["name"], c["label"]) for c in manifest["contigs"]) == ("p2", "A")
  assert "##sequence-region A 1 130" in (folder / "operons.gff3").read_text()
  for name in ("p2", "A"):
    part = read_prediction(folder, name, 0, 130)
    np.testing.assert_allclose(part.operon_membership[:, 0], expected, atol=2e-5)
  alias.write_text("p2\tp10\n")
  with pytest.raises(UserError, match="two contigs would be named p10"):
    run("--alias", str(alias))
  for line in ("p2 A", "p2\tA B", "p2\tA\tB"):
    alias.write_text(line)
    with pytest.raises(UserError, match="expected two columns"):
      run("--alias", str(alias))


def test_topology_from_a_file(run, tmp_path):
  path = tmp_path / "rings"
  path.write_text("# contig\nchr.1\np2\tlinear\n")
  folder, _ = run("--circular", f"@{path}")
  contigs = json.loads((folder / "predictions.json").read_text())["contigs"]
  assert {c["name"]: c["circular"] for c in contigs} == {"chr.1": True, "p10": False, "p2": False}
  path.write_text("chr.1\tround\n")
  with pytest.raises(UserError, match="circular or linear"):
    run("--circular", f"@{path}")


def test_bad_formats_and_thresholds_are_refused_before_any_work(run, tmp_path, monkeypatch):
  with pytest.raises(ConfigError, match="--formats=wig; expected some of bigwig"):
    run("--formats", "bigwig,wig")
  with pytest.raises(ConfigError, match="--operon-threshold=2"):
    run("--operon-threshold", "2")
  with pytest.raises(UserError, match="no genes for the format parquet"):
    run("--formats", "parquet")
  monkeypatch.setitem(sys.modules, "zarr", None)
  with pytest.raises(ConfigError, match=r"zarr is not installed .* 'alphaecoli\[formats\]'"):
    run("--formats", "zarr")


def test_a_store_is_named_by_itself_or_by_its_run(run, toy_store, tmp_path):
  (tmp_path / "run" / "tracks").mkdir(parents=True)
  link = tmp_path / "run" / "tracks" / "a"
  link.symlink_to(toy_store.path)
  for path in (toy_store.path, tmp_path / "run"):
    folder, _ = run("--store", str(path))
    manifest = json.loads((folder / "predictions.json").read_text())
    assert manifest["store"]["fingerprint"] == toy_store.fingerprint
  link.with_name("b").symlink_to(toy_store.path)
  with pytest.raises(DataError, match=r"expected one track store, .*; it has .*a, .*b"):
    run("--store", str(tmp_path / "run"))
  with pytest.raises(DataError, match=r"expected one track store, or a run with one$"):
    run("--store", str(tmp_path))


def test_bad_flag_ends_with_status_2():
  with pytest.raises(SystemExit) as caught:
    predict.main(["--fasta", "x"])
  assert caught.value.code == 2


@pytest.mark.parametrize("terminal", [False, True], ids=["log", "bar"])
def test_progress_counts_bases_per_second_without_the_first_batch(terminal, monkeypatch, caplog):
  now = [100.0]
  monkeypatch.setattr(cli.time, "monotonic", lambda: now[0])
  monkeypatch.setattr(cli.sys.stderr, "isatty", lambda: terminal, raising=False)
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  caplog.set_level(logging.INFO, "alphaecoli")
  with cli.BaseProgress(3000, "predict") as shown:
    for seconds in (60, 11, 9):  # the first batch waits for the compiler
      now[0] += seconds
      shown(1000)
  assert caplog.messages[-1] == "predict: 3,000 bp in 80.0 s, 100 bases/s"
  lines = {message for message in caplog.messages if "%" in message}
  assert len(lines) == (0 if terminal else 2)
