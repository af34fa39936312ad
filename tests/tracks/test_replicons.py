"""A genome of several contigs in one store: each by itself, statistics over all."""

import json
import pickle
import shutil

import numpy as np
import pytest

from alphaecoli.data.pipeline import training_batches
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.organism.read import Files
from alphaecoli.prepare import prepare
from alphaecoli.tracks.replicons import alone, choose_contig, divided, refold
from alphaecoli.tracks.splits import SPLITS
from alphaecoli.tracks.store import open_store
from tests.stores import WINDOW_BP, config_of

LENGTHS = {"chr": 24_576, "big": 12_288, "small": 2_560, "tiny": 1_500}
SETTINGS = {
  "n_blocks": 6,
  "block_offset": 0.0,
  "n_folds": 3,
  "min_genes_per_unit": 2,
  "window_bp": WINDOW_BP,
  "unknown_expression_types": (),
}
RNG = np.random.default_rng(0)


def genes_of(contig, length_bp):
  """Genes of 250 bp every 300, as (name, first, last, strand), 1-based; the last one passes the
  origin of `big` and `small`."""
  step, size = 300, 250
  found = [
    (f"{contig}{i}", step * i + 20, step * i + 19 + size, "+-"[i % 7 == 3])
    for i in range((length_bp - size - 20) // step)
  ]
  if contig in ("big", "small"):
    found.append((f"{contig}_o", length_bp - 99, length_bp + 15, "+"))
  return found


GENES = {contig: genes_of(contig, n) for contig, n in LENGTHS.items()}
TPM = {
  name: (float(RNG.gamma(2, 4000)), float(RNG.gamma(2, 4000)))
  for contig, genes in GENES.items()
  for name, *_ in genes
}


def write(directory, contigs, operons=True):
  """Writes a genome's files."""
  directory.mkdir(exist_ok=True)
  bases = np.random.default_rng(1)
  every = {name: "".join(bases.choice(list("ACGT"), n)) for name, n in LENGTHS.items()}
  (directory / "genome.fna").write_text("".join(f">{c}\n{every[c]}\n" for c in contigs))
  lines = ["##gff-version 3"]
  for contig in contigs:
    region = f"{contig}\tx\tregion\t1\t{LENGTHS[contig]}\t.\t+\t.\tID={contig}"
    lines.append(f"{region};Is_circular=true")
    lines += [
      f"{contig}\tx\tgene\t{a}\t{b}\t.\t{strand}\t.\tID={name};locus_tag={name}"
      for name, a, b, strand in GENES[contig]
    ]
  (directory / "genes.gff3").write_text("\n".join(lines) + "\n")
  rows = [f"{name}\t{TPM[name][0]}\t{TPM[name][1]}" for c in contigs for name, *_ in GENES[c]]
  (directory / "tpm.tsv").write_text("\n".join(["gene\tS1\tS2", *rows]) + "\n")
  files = {"genome": "genome.fna", "annotation": "genes.gff3", "expression": "tpm.tsv"}
  if operons:
    files["operons"] = "operons.tsv"
    listed = [
      f"{contig}-{i}\t{contig}{i},{contig}{i + 1}"
      for contig in ("chr", "big")
      for i in range(8, 32, 7)
    ]
    text = "\n".join(["operon\tgenes", *listed, "mixed\tchr0,big0", "nowhere\tchrom9,big99"])
    (directory / "operons.tsv").write_text(text + "\n")
  return Files(**{key: directory / name for key, name in files.items()}, values="tpm")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  return write(tmp_path_factory.mktemp("genome"), LENGTHS)


@pytest.fixture(scope="module")
def store(files, tmp_path_factory):
  return prepare(files, config_of(**SETTINGS).data, tmp_path_factory.mktemp("s") / "it", name="it")


def test_long_contigs_have_splits_short_ones_train_and_shorter_ones_are_left_out(store):
  assert [own.contig for own in store.replicons] == ["chr", "big", "small"]
  assert store.manifest["replicons"] == {"big": "train, validation, test", "small": "train"}
  assert store.manifest["format_version"] == 3
  problems = store.manifest["quality"]["problems"]
  assert problems["contig left out: shorter than data.window_bp"] == 1
  assert problems["base of a contig that is left out"] == LENGTHS["tiny"]
  big, small = store.replicons[1:]
  assert big.regions("validation") == ((0, 2048), (6144, 8192))
  assert small.regions("train") == ((0, 2560),)
  assert small.regions("validation") == small.regions("test") == ()
  assert {own.organism for own in store.replicons} == {"it"}
  assert len({own.fingerprint for own in store.replicons}) == 3


def test_statistics_are_over_the_training_genes_and_bases_of_all_contigs(store):
  # Training: blocks 2 and 5 of chr (4,096 bp each) and of big (2,048 bp), and small.
  inside, bins, operon, bases = [], [], 0, 0
  for contig, block in (("chr", 4096), ("big", 2048), ("small", 2560)):
    blocks = [(2 * block, 3 * block), (5 * block, 6 * block)] if contig != "small" else [(0, block)]
    genes = GENES[contig]
    whole = contig == "small"  # a circle that is all training: no gene is at a border
    inside += [n for n, a, b, _ in genes if whole or any(x < a and b <= y for x, y in blocks)]
    size = LENGTHS[contig]
    around = [(a - 1 + n, b + n) for _, a, b, _ in genes for n in (0, -size)]
    for x, y in blocks:
      bases += y - x
      for at in range(x, y - 127, 128):
        bins.append(sum(a < at + 128 and b > at for a, b in around))
      for i in range(8, 32, 7) if contig != "small" else ():
        if i + 1 < len(genes) and genes[i][3] == genes[i + 1][3]:
          operon += max(0, min(genes[i + 1][2], y) - max(genes[i][1] - 1, x))
  unknown = sum(b - a + 1 for _, a, b, _ in GENES["small"])  # no operon is listed there: its genes
  following = [*GENES["small"][1:], ("", GENES["small"][0][1] + 2560, 0, "+")]  # around the circle
  gaps = zip(GENES["small"], following, strict=True)
  unknown += sum(q[1] - 1 - p[2] for p, q in gaps if p[3] == q[3])  # and gaps within a strand
  y = np.log1p([TPM[name] for name in inside]).mean(axis=1)
  (track,) = store.table.expression
  assert (track.mean, track.std) == pytest.approx((y.mean(), y.std()), rel=1e-9)
  assert store.table.density_mean == pytest.approx(np.mean(bins), rel=1e-9)
  assert store.table.operon_prevalence == pytest.approx(operon / (bases - unknown), rel=1e-9)
  assert all(own.table == store.table for own in store.replicons)


def test_operons_over_contigs_are_left_out_and_unlisted_contigs_are_unknown(store):
  problems = store.manifest["quality"]["problems"]
  assert problems["operon left out: its genes lie on several contigs"] == 1
  assert problems["operon left out: nothing says on which contig it lies"] == 1
  small = store.replicons[2]
  assert small.masks_unlisted and not store.masks_unlisted
  assert set(np.unique(small.operon_membership)) == {0, 2}
  assert not small.window(0, 2048)["operon_junction_known"].any()


@pytest.mark.parametrize("name", ["chr", "big"])
def test_a_contig_has_the_windows_that_it_has_alone(store, files, tmp_path, name):
  data = config_of(**SETTINGS).data
  expected = prepare(files, data, tmp_path / "one", name="one", contig=name)
  found = choose_contig(store, name)
  assert found.circular and expected.circular
  for start in (0, 1000, LENGTHS[name] - 700):
    for reverse in (False, True):
      ours, theirs = (s.window(start, 2048, reverse) for s in (found, expected))
      z = ours.pop("gene_expression"), theirs.pop("gene_expression")
      for key, value in theirs.items():
        np.testing.assert_array_equal(ours[key], value, err_msg=key)
      logs = [s.table.to_log_tpm(v) for s, v in zip((found, expected), z, strict=True)]
      known = ours["gene_expression_known"]
      np.testing.assert_allclose(logs[0][known], logs[1][known], rtol=1e-5)


def test_training_windows_are_uniform_over_all_contigs_and_reach_no_held_out_base(store):
  n, sizes = 3000, [4096, 2048]
  with training_batches(store, window_bp=WINDOW_BP, batch_windows=n, seed=1, threads=0) as stream:
    batch = next(stream)
  codes = [own.sequence for own in store.replicons]
  drawn = np.zeros(3, int)
  crossed = 0
  for start, reverse, sequence in zip(
    batch["start"], batch["reverse"], batch["sequence"], strict=True
  ):
    bases = (3 - sequence[::-1]) if reverse else sequence
    at = [np.arange(start, start + WINDOW_BP) % len(c) for c in codes]
    (row,) = [i for i, c in enumerate(codes) if np.array_equal(c[at[i]], bases)]
    drawn[row] += 1
    crossed += row == 2 and start + WINDOW_BP > LENGTHS["small"]
    if row < 2:
      assert set(at[row] // sizes[row] % 3) == {2}
  # Two blocks each of 4,096 and 2,048 bp, and every start of the small circle.
  possible = np.array([2 * 2049, 2 * 1, 2560])
  np.testing.assert_allclose(drawn / n, possible / possible.sum(), atol=0.03)
  assert crossed > 0.6 * drawn[2]
  assert set(batch["organism"]) == {0}


def test_a_store_of_one_contig_is_as_it_was(tmp_path):
  files = write(tmp_path / "f", ["chr"], operons=False)
  one = prepare(files, config_of(**SETTINGS).data, tmp_path / "s", name="s")
  assert "replicons" not in one.manifest and one.manifest["format_version"] == 1
  assert one.replicons == (one,) and one.all_genes is one.genes


def test_a_store_pickles_and_verifies_every_contig(store, tmp_path):
  again = pickle.loads(pickle.dumps(store))
  assert [own.contig for own in again.replicons] == ["chr", "big", "small"]
  store.verify()
  shutil.copytree(store.path, tmp_path / "copy")
  path = tmp_path / "copy" / "replicon_2" / "genes.tsv"
  path.write_text(path.read_text().replace("big0", "big!", 1))
  with pytest.raises(DataError, match=r"replicon_2/genes\.tsv: not what was written"):
    open_store(tmp_path / "copy").verify()
  path.unlink()
  with pytest.raises(DataError, match=r"replicon_2/genes\.tsv: missing"):
    open_store(tmp_path / "copy")


def test_genes_of_all_contigs_are_found(store):
  genes = store.all_genes
  assert len(genes) == sum(len(GENES[name]) for name in ("chr", "big", "small"))
  row = genes.gene_id.tolist().index("small2")
  assert store.log_tpm(row, "mean") == pytest.approx(np.log1p(TPM["small2"]).mean())


def test_another_fold_of_a_store_is_what_prepare_gives(store, files, tmp_path):
  found = refold(store, 1, tmp_path / "tracks")
  settings = {**SETTINGS, "fold": 1}
  expected = prepare(files, config_of(**settings).data, tmp_path / "store", name="it")
  assert found.manifest["config"] == expected.manifest["config"]
  assert found.manifest["replicons"] == expected.manifest["replicons"]
  assert found.quality["problems"].keys() >= {"operon left out: its genes lie on several contigs"}
  for ours, theirs in zip(found.replicons, expected.replicons, strict=True):
    assert [ours.regions(s) for s in SPLITS] == [theirs.regions(s) for s in SPLITS]
    np.testing.assert_array_equal(ours.genes.split, theirs.genes.split)
    np.testing.assert_array_equal(ours.operon_membership, theirs.operon_membership)
    np.testing.assert_allclose(ours.gene_expression, theirs.gene_expression, atol=1e-6)
    assert ours.circular == theirs.circular and ours.organism == theirs.organism
    for key in ("density_mean", "operon_prevalence"):
      assert getattr(ours.table, key) == pytest.approx(getattr(theirs.table, key), rel=1e-12)
    (a,), (b,) = ours.table.expression, theirs.table.expression
    assert (a.mean, a.std, a.datasets) == (pytest.approx(b.mean), pytest.approx(b.std), b.datasets)
  assert refold(store, 1, tmp_path / "tracks").path == found.path
  assert refold(store, 0, tmp_path / "tracks").path == store.path
  assert divided(store, 1).replicons[1].regions("test") == found.replicons[1].regions("test")


def test_what_can_not_be_trained_on_is_refused(files, tmp_path):
  data = config_of(**{**SETTINGS, "n_blocks": 15}).data
  with pytest.raises(ConfigError, match=r"chr \(24576 bp\) can not be trained on: .* 1638 bp"):
    prepare(files, data, tmp_path / "s", name="s")
  assert not (tmp_path / "s").exists()


def test_a_contig_is_chosen_by_name(store):
  assert choose_contig(store, None).contig == "chr" and len(alone(store).replicons) == 1
  with pytest.raises(ConfigError, match=r"--contig=bag: not in .*; nearest: big"):
    choose_contig(store, "bag")


def test_a_manifest_that_names_more_contigs_than_there_are_is_broken(store, tmp_path):
  shutil.copytree(store.path, tmp_path / "copy")
  path = tmp_path / "copy" / "manifest.json"
  manifest = json.loads(path.read_text())
  path.write_text(json.dumps({**manifest, "replicons": 3}))
  with pytest.raises(DataError, match="broken manifest"):
    open_store(path.parent)
  path.write_text(json.dumps({**manifest, "replicons": {"a": "", "b": "", "c": ""}}))
  with pytest.raises(DataError, match="replicon_4: not a track store"):
    open_store(path.parent)
