"""The command from flags to files, with the stand-in model in place of a checkpoint."""

import json
import logging

import numpy as np
import pandas as pd
import pytest

from alphaecoli import score
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.genomics.sequence import decode, encode
from alphaecoli.inference.arguments import read_genome
from tests.inference.standin import predictor

CODES = np.random.default_rng(8).integers(0, 4, 5000).astype(np.uint8)
TEXT = decode(CODES)
GFF = (
  "c\t.\tregion\t1\t5000\t.\t+\t.\tID=r;Is_circular=true\n"
  "c\t.\tgene\t2001\t2300\t.\t+\t.\tID=g1;locus_tag=b1;Name=toyA\n"
  "c\t.\tgene\t4801\t4990\t.\t-\t.\tID=g2;locus_tag=b2;Name=toyB\n"
)


ASKED = {}


def load(options):
  ASKED.update(options)
  return predictor()


@pytest.fixture
def run(monkeypatch, tmp_path, caplog):
  monkeypatch.setattr("alphaecoli.api.load_predictor", lambda checkpoint, **options: load(options))
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  caplog.set_level(logging.INFO, "alphaecoli")
  (tmp_path / "c.fa").write_text(f">c toy\n{TEXT}\n")
  (tmp_path / "c.gff3").write_text(GFF)

  def go(*flags, fasta="c.fa", annotation="c.gff3"):
    files = ["--fasta", str(tmp_path / fasta), "--out", str(tmp_path / "out.tsv")]
    files += ["--annotation", str(tmp_path / annotation)] if annotation else []
    assert score.main(["--checkpoint", "C", *files, *map(str, flags)]) == 0
    return pd.read_csv(tmp_path / "out.tsv", sep="\t")

  go.folder = tmp_path
  return go


def vcf_of(*records):
  return "##fileformat=VCFv4.2\n" + "".join(
    f"c\t{position}\t.\t{ref}\t{alt}\t.\t.\t.\n" for position, ref, alt in records
  )


def other(base):
  return "A" if base != "A" else "G"


def test_variants_of_a_file_and_their_genes(run, caplog):
  path = run.folder / "v.vcf"
  records = [
    (1950, TEXT[1949], f"{other(TEXT[1949])},{TEXT[1949]}TTT,<DEL>"),
    (2100, TEXT[2099:2103], TEXT[2099]),
    (3000, other(TEXT[2999]), TEXT[2999]),
    (4999, TEXT[4998], other(TEXT[4998])),
  ]
  path.write_text(vcf_of(*records))
  table = run("--vcf", path)
  assert list(table.pos) == [1950, 1950, 1950, 2100, 3000, 4999]
  assert list(table.status) == ["ok", "ok", "refused", "ok", "refused", "ok"]
  assert "reference mismatch: REF is" in table.reason[4]
  assert list(table.gene.fillna("")) == ["b1", "b1", "", "b1", "", "b2"]
  assert list(table.gene_distance_bp.dropna()) == [-51, -51, 0, -9]
  expected = predictor().score_variants(
    path, read_genome(run.folder / "c.fa", annotation=run.folder / "c.gff3")
  )
  pd.testing.assert_series_equal(
    table["expression_in_gene:heat/+"], expected.to_pandas()["expression_in_gene:heat/+"], rtol=1e-5
  )
  genes = pd.read_csv(run.folder / "out.genes.tsv", sep="\t")
  assert len(genes) == len(expected.genes_to_pandas()) >= 4
  about = json.loads((run.folder / "out.json").read_text())
  assert about["circular"] == ["c"] and about["scored"] == 4 and about["alleles"] == 6
  assert about["refused"] == {"symbolic allele or breakend": 1, "reference mismatch": 1}
  assert "refused, see the column `reason`: 1 symbolic allele or breakend, 1 ref" in caplog.text
  assert sorted(p.name for p in run.folder.iterdir()) == [
    "c.fa",
    "c.gff3",
    "out.genes.tsv",
    "out.json",
    "out.tsv",
    "v.vcf",
  ]


def test_offsets_and_background_of_the_command(run):
  path = run.folder / "v.vcf"
  path.write_text(vcf_of((1950, TEXT[1949], other(TEXT[1949])), (3000, "N", "A")))
  table = run("--vcf", path, "--offsets", 2, "--background", 3, "--seed", 1)
  known = read_genome(run.folder / "c.fa", annotation=run.folder / "c.gff3")
  (first, _) = predictor().score_variants(path, known, offsets=2, background=3, seed=1).scores
  assert table["quantile"][0] == pytest.approx(first.quantile, rel=1e-5)
  assert table.within_grid_shift[0] in (0, 1) and np.isnan(table["quantile"][1])
  assert table["expression_in_gene:heat/+"][0] == pytest.approx(
    first.changes["in_gene"][0], rel=1e-4
  )


def test_file_without_a_variant_that_fits_says_why(run, caplog):
  path = run.folder / "v.vcf"
  path.write_text(vcf_of((1, "A", "C")).replace("c\t", "chr\t"))
  with pytest.raises(
    DataError, match=r"none of its 1 alleles could be scored \(1 unknown contig\)"
  ):
    run("--vcf", path)
  assert "which has c" in (run.folder / "out.tsv").read_text()
  assert "has not: chr; give them the genome's names (bcftools" in caplog.text
  path.write_text("##fileformat=VCFv4.2\n")
  with pytest.raises(DataError, match="no variant in it"):
    run("--vcf", path)


def test_mutagenesis_of_what_lies_upstream_of_a_gene(run, caplog):
  (run.folder / "e.bed").write_text("c\t1960\t1966\t-10\n")
  table = run("--ism-gene", "toyA", "--upstream", 60, "--elements", run.folder / "e.bed")
  assert len(table) == 180 and table.pos.min() == 1941 and table.pos.max() == 2000
  assert (run.folder / "out.png").stat().st_size > 10_000
  assert "effects on toyA" in caplog.text
  about = json.loads((run.folder / "out.json").read_text())
  assert about["target"] == "toyA" and about["target_share"] == 1.0
  assert about["baseline"].keys() >= {"expression:heat/+", "density", "membership"}


def test_upstream_of_a_gene_on_the_minus_strand_passes_the_origin(run):
  flags = ["--organism", "K-12", "--window-bp", 4096, "--batch-windows", 3, "--device", "cpu"]
  table = run("--ism-gene", "b2", "--upstream", 30, "--show", "density", *flags)
  asked = {"organism": "K-12", "window_bp": 4096, "batch_windows": 3, "device": "cpu"}
  assert {**asked, "members": None} == ASKED
  assert set(table.pos) == {*range(4991, 5001), *range(1, 21)}


def test_region_with_another_target(run):
  table = run(
    "--ism", "c:1,990-1,999", "--target", "c:2001-2100", "--picture", run.folder / "p.svg"
  )
  assert len(table) == 30 and (run.folder / "p.svg").read_text().startswith("<?xml")
  known = read_genome(run.folder / "c.fa")
  expected = predictor().ism(
    "c:1990-1999",
    known,
    target=("c", 2000, 2100),
  )
  assert table.density_change[0] == pytest.approx(next(expected.rows())[-2], rel=1e-4)


@pytest.mark.parametrize(
  ("flags", "text"),
  [
    (["--ism", "c:5-9", "--show", "tpm"], "no channel 'tpm'"),
    (["--ism", "chr:5-9"], "no contig 'chr' in the genome"),
    (["--ism-gene", "toyC"], "no gene 'toyC' in the annotation; nearest: toyB"),
    (["--ism", "c:5-9", "--upstream", "0"], "--upstream=0"),
    (["--vcf", "v.vcf", "--offsets", "0"], "offsets=0; expected 1 to 128"),
    (["--vcf", "v.vcf", "--background", "-1"], "--background=-1"),
    (["--compare", "x.fa", "--target", "toyA"], "--target goes with --ism"),
    (["--ism", "c:5-9", "--circular", "d"], "--circular=d: no such contig"),
  ],
)
def test_bad_flags_are_one_line(run, flags, text):
  with pytest.raises(ConfigError, match=text):
    run(*flags)


GENBANK = """LOCUS       {name}        {length} bp    DNA     circular SYN 01-JAN-2020
DEFINITION  plasmid.
ACCESSION   {name}
VERSION     {name}
FEATURES             Location/Qualifiers
{features}ORIGIN
{sequence}
//
"""


def genbank(name, text, genes):
  features = "".join(
    f'     gene            {where}\n                     /gene="{gene}"\n' for gene, where in genes
  )
  lines = [
    f"{i + 1:>9} " + " ".join(text[j : j + 10] for j in range(i, min(i + 60, len(text)), 10))
    for i in range(0, len(text), 60)
  ]
  return GENBANK.format(
    name=name, length=len(text), features=features, sequence="\n".join(lines).lower()
  )


def test_two_versions_of_a_construct_gene_by_gene(run):
  plain, insert = TEXT[:3000], TEXT[4000:4100]
  changed = plain[:500] + insert + plain[500:]
  genes = [("bla", "100..400"), ("rep", "complement(1000..1500)"), ("gone", "2000..2100")]
  moved = [("new", "520..590"), ("rep", "complement(1100..1600)"), ("bla", "100..400")]
  (run.folder / "a.gb").write_text(genbank("pA", plain, genes))
  (run.folder / "b.gb").write_text(genbank("pB", changed, moved))
  table = run("--compare", run.folder / "b.gb", fasta="a.gb", annotation=None)
  assert list(table.gene) == ["bla", "rep", "gone", "new"]
  assert list(table["in"]) == ["both", "both", "a", "b"]
  assert table.start_a[1] == 1000 and table.start_b[1] == 1100 and table.strand_b[1] == "-"
  before = predictor().predict(encode(plain), circular=True)
  after = predictor().predict(encode(changed), circular=True)
  a, b = before.gene_expression[999:1500, 1].mean(), after.gene_expression[1099:1600, 1].mean()
  assert table.loc[1, "log_tpm_b:heat/-"] == pytest.approx(b, rel=1e-4)
  assert table.loc[1, "change:heat/-"] == pytest.approx(b - a, abs=1e-4)
  assert np.isnan(table.loc[3, "change:heat/-"]) and np.isnan(table.membership_b[2])
  with pytest.raises(DataError, match="the second construct has no gene"):
    run("--compare", run.folder / "c.fa", fasta="a.gb", annotation=None)
