"""Tables of expression as tools and people write them give the numbers that they mean."""

import gzip
import logging

import numpy as np
import pytest

from alphaecoli.errors import DataError
from alphaecoli.genomics.genes import Gene
from alphaecoli.genomics.quality import QualityReport
from alphaecoli.organism.expression import read_expression, read_samples, sample_name
from alphaecoli.organism.expression_tables import _fact
from alphaecoli.organism.genes import GeneNames
from tests.stores import config_of

N = 12
VALUE = [30_000.25 + 9_000 * i for i in range(N)]  # TPM of g0, g1, …: no whole numbers
COUNT = [1_000 + 370 * i for i in range(N)]
PLAIN = "gene\tS1\tS2\n" + "".join(f"g{i}\t{VALUE[i]}\t{2 * VALUE[i] / 3}\n" for i in range(N))


def gene(i, name="", length_bp=300, contig="chr", prefix="g"):
  tag = f"{prefix}{i}"
  start = 400 * i + 7
  return Gene(f"gene-{tag}", name or f"nam{i}", tag, start, start + length_bp, 1, "gene",
              contig=contig)  # fmt: skip


GENES = [gene(i, length_bp=200 + 10 * i) for i in range(N)]


def read(path, text, values=None, genes=GENES, elsewhere=(), min_genes=3):
  """The table and the report of one file."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  report = QualityReport()
  data = config_of(min_genes_per_unit=min_genes).data
  names = GeneNames(genes, {g.locus_tag for g in elsewhere})
  return read_expression([path], values, genes, elsewhere, names, data, report), report


def only(table):
  assert len(table.datasets) == 1
  return table.tpm[:, 0]


def lines(header, *columns):
  rows = ["\t".join(map(str, row)) for row in zip(*columns, strict=True)]
  return "\n".join([header.replace(" ", "\t"), *rows]) + "\n"


TAGS = [gene.locus_tag for gene in GENES]
LENGTHS = [gene.transcript_bp for gene in GENES]
OTHER = [3 * c + 0.5 for c in COUNT]
# What each tool writes, and the columns that are no sample.
TOOLS = {
  "salmon": ("S7/quant.sf", lines("Name Length EffectiveLength TPM NumReads", TAGS, LENGTHS,
             LENGTHS, VALUE, OTHER), "S7"),
  "kallisto": ("S7/abundance.tsv", lines("target_id length eff_length est_counts tpm", TAGS,
               LENGTHS, LENGTHS, OTHER, VALUE), "S7"),
  "rsem-genes": ("S7.genes.results", lines("gene_id transcript_id(s) length effective_length "
                 "expected_count TPM FPKM pme_TPM TPM_ci_lower_bound", TAGS, TAGS, LENGTHS, LENGTHS,
                 OTHER, VALUE, OTHER, OTHER, OTHER), "S7"),
  "rsem-isoforms": ("S7.isoforms.results", lines("transcript_id gene_id length effective_length "
                    "expected_count TPM FPKM IsoPct", [f"tx{i}" for i in range(N)], TAGS, LENGTHS,
                    LENGTHS, OTHER, VALUE, OTHER, [100.0] * N), "S7"),
  "stringtie": ("S7.tab", "Gene ID\tGene Name\tReference\tStrand\tStart\tEnd\tCoverage\tFPKM\tTPM\n"
                + "".join(f"MSTRG.{i}\tg{i}\tchr\t+\t{400 * i + 8}\t{400 * i + 207}\t7.5"
                          f"\t{OTHER[i]}\t{VALUE[i]}\n" for i in range(N)), "S7"),
  "two-columns": ("S7.tsv", lines("gene TPM", TAGS, VALUE), "S7"),
}  # fmt: skip


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tools_file_is_one_sample_of_its_tpm(tmp_path, tool):
  name, text, sample = TOOLS[tool]
  table, report = read(tmp_path / name, text)
  assert table.datasets == (sample,)
  np.testing.assert_array_equal(only(table), VALUE)
  n = len(text.split("\n")[0].split("\t"))
  assert sum(c for r, c in report.reasons.items() if "that is no sample" in r) == n - 2


def test_values_choose_among_a_tools_columns(tmp_path):
  name, text, _ = TOOLS["salmon"]
  table, _ = read(tmp_path / name, text, "counts")
  rate = np.array(OTHER) / LENGTHS
  np.testing.assert_allclose(only(table), 1e6 * rate / rate.sum(), rtol=1e-12)
  with pytest.raises(
    DataError, match=r"--values fpkm, but its columns TPM, NumReads are tpm, coun"
  ):
    read(tmp_path / name, text, "fpkm")


def test_several_files_are_several_samples(tmp_path):
  paths = []
  for folder in ("A", "B"):
    path = tmp_path / folder / "quant.sf"
    path.parent.mkdir()
    path.write_text(TOOLS["salmon"][1])
    paths.append(path)
  data, names = config_of(min_genes_per_unit=3).data, GeneNames(GENES, set())
  table = read_expression(paths, None, GENES, (), names, data, QualityReport())
  assert table.datasets == ("A", "B")
  np.testing.assert_array_equal(table.tpm, np.stack([VALUE, VALUE], axis=1))
  with pytest.raises(DataError, match="an earlier file has a sample 'A' too"):
    read_expression([paths[0]] * 2, None, GENES, (), names, data, QualityReport())


LAYOUTS = {
  "commas": PLAIN.replace("\t", ","),
  "separator-for-excel": "sep=;\n" + PLAIN.replace("\t", ";"),
  "semicolons": PLAIN.replace("\t", ";"),
  "spaces-and-quotes": "".join(  # as R's write.table
    " ".join(f'"{cell}"' if i == 0 or j == 0 else cell for j, cell in enumerate(line.split("\t")))
    + "\n"
    for i, line in enumerate(PLAIN.removeprefix("gene\t").splitlines())
  ),
  "trailing-tab": PLAIN.replace("\n", "\t\n").replace("\t\n", "\n", 1),
  "trailing-tab-everywhere": PLAIN.replace("\n", "\t\n"),
  "trailing-tab-in-the-header": PLAIN.replace("\n", "\t\n", 1),
  "some-trailing-tabs": PLAIN.replace("\ng", "\t\ng", 3),
  "no-corner": PLAIN.replace("gene\t", "", 1),
  "empty-corner": PLAIN.replace("gene", "", 1),
  "comments": "# made by x, y; z\n#\n" + PLAIN,
  "header-with-hash": "#" + PLAIN,
  "cr-lf": PLAIN.replace("\n", "\r\n"),
  "decimal-commas": PLAIN.replace(".", ","),
  "decimal-commas-semicolons": PLAIN.replace(".", ",").replace("\t", ";"),
  "row-numbers": "".join(f"{'' if i == 0 else i - 1}\t{line}\n"
                         for i, line in enumerate(PLAIN.splitlines())),
  "information": "".join(
    f"{line}\t{'END strand Product' if i == 0 else f'{400 * i} 1 protein'}\n".replace(" ", "\t")
    for i, line in enumerate(PLAIN.splitlines())
  ),
  "lengths-by-another-name": "".join(
    line + ("\tbp_of_gene\n" if i == 0 else f"\t{LENGTHS[i - 1]}\n")
    for i, line in enumerate(PLAIN.splitlines())
  ),
  "starts-by-another-name": "".join(
    line + ("\twhere\n" if i == 0 else f"\t{400 * (i - 1) + 8}\n")
    for i, line in enumerate(PLAIN.splitlines())
  ),
  "lengths-of-proteins": "".join(
    line + ("\tresidues\n" if i == 0 else f"\t{LENGTHS[i - 1] // 3 - 1}\n")
    for i, line in enumerate(PLAIN.splitlines())
  ),
  "numbers-of-databases": "".join(
    line + ("\tGeneID\tPID\tMW (kDa)\n" if i == 0 else f"\t94{i:04d}\t161279{i:02d}\t{i}.5\n")
    for i, line in enumerate(PLAIN.splitlines())
  ),
  "yes-and-no": "".join(
    line + ("\tessential\n" if i == 0 else f"\t{i % 2}\n")
    for i, line in enumerate(PLAIN.splitlines())
  ),
  "mean-and-deviation": "".join(
    line + ("\tmean\tSD\n" if i == 0 else f"\t{i}.25\t{i}.75\n")
    for i, line in enumerate(PLAIN.splitlines())
  ),
  "numbered-samples": PLAIN,
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_gives_the_same_numbers(tmp_path, layout):
  text = LAYOUTS[layout]
  expected = ("S1", "S2")
  if layout == "numbered-samples":
    text, expected = text.replace("S", ""), ("1", "2")
  table, _ = read(tmp_path / "tpm.txt", text)
  assert table.datasets == expected
  np.testing.assert_allclose(table.tpm[:, 0], VALUE, rtol=1e-12)
  np.testing.assert_allclose(table.tpm[:, 1], [2 * v / 3 for v in VALUE], rtol=1e-12)


def test_htseq_count_needs_no_header_and_its_summary_is_no_gene(tmp_path):
  rows = "".join(f"g{i}\t{c}\n" for i, c in enumerate(COUNT))
  text = rows + "__no_feature\t500\n__ambiguous\t20\n"
  rate = np.array(COUNT) / LENGTHS
  for values in (None, "counts"):
    table, report = read(tmp_path / "S3.txt", text, values)
    assert table.datasets == ("S3",) and table.unit == "counts"
    np.testing.assert_allclose(only(table), 1e6 * rate / rate.sum(), rtol=1e-12)
    assert report["summary row of htseq-count, no gene"] == 2
    assert not report["expression row skipped: matches no gene"]
  with_symbols = text.replace("\t", "\tsym\t")  # --additional-attr
  table, _ = read(tmp_path / "S3.txt", with_symbols)
  assert table.datasets == ("S3",) and np.isfinite(table.tpm).all()
  with pytest.raises(DataError, match="--values tpm, but these are whole numbers"):
    read(tmp_path / "S3.txt", text, "tpm")


def feature_counts(values):
  columns = "Geneid\tChr\tStart\tEnd\tStrand\tLength\tx.bam\n"
  rows = [f"g{i}\tchr\t1;7\t5;9\t+;+\t{LENGTHS[i]}\t{v}\n" for i, v in enumerate(values)]
  return "# Program:featureCounts v2.0.3; Command:x -a y\n" + columns + "".join(rows)


def test_feature_counts_are_counts_without_a_flag(tmp_path, caplog):
  caplog.set_level(logging.INFO)
  rate = np.array(COUNT) / LENGTHS
  table, report = read(tmp_path / "counts.txt", feature_counts(COUNT))
  assert table.datasets == ("x.bam",) and "read as counts" in caplog.text
  np.testing.assert_allclose(only(table), 1e6 * rate / rate.sum(), rtol=1e-12)
  assert report["column of featureCounts that is no sample"] == 5
  with pytest.raises(DataError, match="whole numbers, with columns or rows of featureCounts"):
    read(tmp_path / "counts.txt", feature_counts(COUNT), "tpm")
  with pytest.raises(DataError, match="not its whole numbers; give --values counts where"):
    read(tmp_path / "counts.txt", feature_counts(VALUE))
  table, _ = read(tmp_path / "counts.txt", feature_counts(VALUE), "tpm")
  np.testing.assert_array_equal(only(table), VALUE)


def one(cells, header="gene\tS1"):
  return header + "\n" + "".join(f"g{i}\t{c}\n" for i, c in enumerate(cells))


WRITTEN = {
  "english": (["429.11", "1,029.77", "12,345.50", "30.5"], [429.11, 1029.77, 12345.5, 30.5]),
  "german": (["429,11", "1.029,77", "12.345,50", "30,5"], [429.11, 1029.77, 12345.5, 30.5]),
  "german-thousands": (["1.029", "429,11", "21.000", "7"], [1029, 429.11, 21000, 7]),
  "english-thousands": (["1,029,500", "429.5", "2,000", "7"], [1029500, 429.5, 2000, 7]),
  "three-decimals": (["1.029", "42.911", "210.001", "700.5"], [1.029, 42.911, 210.001, 700.5]),
  "swiss": (["1'029.77", "429.11", "21’000.5", "7"], [1029.77, 429.11, 21000.5, 7]),
  "french": (["1 029,77", "429,11", "21\u202f000,5", "7"], [1029.77, 429.11, 21000.5, 7]),
  "exponents": (["1,5E+03", "4e2", "2,1e4", "7,25"], [1500, 400, 21000, 7.25]),
  "unknown": (["NA", "429.11", "", "21000.5", "8.5", "9.25"],
              [np.nan, 429.11, np.nan, 21000.5, 8.5, 9.25]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRITTEN)
def test_numbers_are_read_as_they_are_written(tmp_path, case):
  cells, expected = WRITTEN[case]
  text = one([f'"{cell}"' if cell else "" for cell in cells])
  table, _ = read(tmp_path / "tpm.tsv", text, "tpm")
  np.testing.assert_allclose(only(table)[: len(cells)], expected, rtol=1e-12)


def test_a_comma_marks_thousands_of_counts(tmp_path):
  cells = [f"{c:,}" for c in COUNT]
  rate = np.array(COUNT) / LENGTHS
  table, _ = read(tmp_path / "c.tsv", one(cells), "counts")
  np.testing.assert_allclose(only(table), 1e6 * rate / rate.sum(), rtol=1e-12)


def test_quoted_thousands_are_read_between_commas(tmp_path):
  text = "gene,S1,S2\n" + "".join(f'g{i},"{v:,.2f}",{v:.2f}\n' for i, v in enumerate(VALUE))
  table, _ = read(tmp_path / "tpm.csv", text)
  np.testing.assert_allclose(table.tpm[:, 0], table.tpm[:, 1], rtol=1e-12)
  np.testing.assert_allclose(table.tpm[:, 0], VALUE, rtol=1e-6)


REFUSED = {
  "ambiguous-thousands": (one(["1,029", "12,345", "7"]), None, "1,029, 12,345 may be thousands or"),
  "mixed-decimals": (one(["1.029,77", "1,029.77", "7"]), None, "are not written in one way"),
  "decimal-commas-between-commas": (
    "gene,S1\n" + "".join(f"g{i},{i},5\n" for i in range(5)), None,
    r"line 2: 3 cells; the header has 2: name every column.*decimal points, not commas"),
  "comparison": (one(["1.5\t0.1"] * 9, "gene\tlog2FoldChange\tpadj"), None, "of comparisons"),
  "sample-beside-its-tpm": (one(["1.5\t2.5"] * 9, "gene\tS1\tS1_TPM"), None, "S1 beside S1_TPM"),
  "unknown-beside-tpm": (one(["1.5\t2.5"] * 9, "gene\tTPM\tbanana"), None, "banana beside TPM"),
  "counts-called-tpm": (one(COUNT, "gene\tcount"), "tpm", "--values tpm, but its columns count "),
  "text-alone": (one(["x"] * 9, "gene\tproduct"), None, "no column of numbers is a sample"),
  "lengths-alone": (one(LENGTHS, "gene\tS1"), None, "no column is a sample"),
  "no-header-two-samples": (one(["5\t6"] * 9, "g10\t7\t8"), None, "no header line. add one"),
  "star": ("N_unmapped\t5\t5\t5\n" + one(["5\t6\t7"] * 9, "g9\t1\t2\t3"), None, "STAR's ReadsPer"),
  "no-header-unknown-gene": (one(COUNT[:5], "xy_7\t9"), None, "xy_7, 9: no header line"),
  "below-zero-logarithms": (one([-1.5, -2.5, 3.5, 4.5]), "log2tpm",
                            r"are no log2\(TPM \+ 1\): logarithms without \+ 1, .* give TPM$"),
  "below-zero": (one([-1.5, -2.5, 3.5, 4.5]), None, r"values below 0 \(the lowest is -2.5\)"),
  "logarithms": (one([i + 1.5 for i in range(N)]), None, "logarithms.*give --values log2tpm"),
  "logarithms-as-counts": (one([i + 1.5 for i in range(N)]), "counts", "too low for counts"),
  "no-logarithms": (one(VALUE), "log2tpm", "129000 is no log2"),
  "high-logarithms": (one([19.5] * N), "log2tpm", r"sums to 8.9e\+06, TPM to 1e6"),
  "counts": (one([90_000 + 9_000 * i for i in range(N)]), None,
             r"whole numbers that sum to 1.67e\+06.*give --values counts, or tpm if so"),
  "fpkm": (one([3 * v for v in VALUE]), None,
           r"sum to 2.86e\+06.*FPKM, or normalised counts. give --values fpkm or counts, or tpm"),
  "few-names": (one(COUNT[:5]).replace("g", "q").replace("qene", "gene") + "g1\t5.5\n", "counts",
                "5 of 6 names match no gene of the annotation: it has q0, q1, q2, ….*g0, g1, g2"),
  "whole-numbers-beside-fractions": (
    one([f"{v}.5\t{i // 3}" for i, v in enumerate(COUNT)], "gene\tS1\tcluster"), None,
    "cluster has whole numbers alone, other columns fractions: remove what is no sample"),
  "adjusted-p-values": (one(["1.5\t0.1"] * 9, "gene\tS1\tadj.P.Val"), None, "of comparisons"),
  "logarithms-beside-tpm": (
    one([f"{1000 * i + 0.5}\t{i / 10 + 0.05}" for i in range(N)], "gene\tS1\tlogs"), None,
    "the values of 1 columns are at most .*: logarithms"),
  "summaries-alone": ("gene\tS1\n__no_feature\t5\n__ambiguous\t7\n", None, "no row of a gene"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_told_is_refused_with_what_to_do(tmp_path, case):
  text, values, message = REFUSED[case]
  with pytest.raises(DataError, match=message) as error:
    read(tmp_path / "t.tsv", text, values)
  assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize(
  ("name", "unit"), [("salmon.merged.gene_counts.tsv", "counts"), ("RPKM_all.csv", "fpkm")]
)
def test_the_name_of_a_file_may_say_another_unit_than_tpm(tmp_path, name, unit):
  with pytest.raises(DataError, match=f"its name says {unit}, .* give --values {unit}, or tpm"):
    read(tmp_path / name, one(VALUE))
  table, _ = read(tmp_path / name, one(VALUE), "tpm")
  np.testing.assert_allclose(only(table), VALUE, rtol=1e-12)
  table, _ = read(tmp_path / "counts_to_tpm.tsv", one(VALUE))
  np.testing.assert_allclose(only(table), VALUE, rtol=1e-12)


def test_a_mean_that_stands_alone_is_a_sample(tmp_path):
  table, _ = read(tmp_path / "t.tsv", one(VALUE, "gene\tmean"))
  assert table.datasets == ("mean",)


def test_different_whole_numbers_of_many_genes_are_identifiers():
  n = 500
  genes, names = np.arange(n), np.full(n, np.nan)
  facts = np.zeros((1, n))
  assert _fact(genes * 7.0 + 945_000, names, facts) == "identifiers"
  assert _fact(np.where(genes == 9, 0, genes * 7.0), names, facts) == ""  # 0 twice, as counts have
  assert _fact(genes[:499] * 7.0 + 945_000, names[:499], facts[:, :499]) == ""


def test_the_unit_is_the_users_word_where_numbers_are_not_certain(tmp_path, caplog):
  high = [3 * v for v in VALUE]
  table, report = read(tmp_path / "t.tsv", one(high), "tpm")  # rescaled, as data.max_tpm_sum says
  np.testing.assert_allclose(only(table), 1e6 * np.array(high) / np.sum(high), rtol=1e-12)
  assert report["data set that can not be TPM: rescaled to a sum of 1e6"] == 1
  assert "read as TPM; else give --values fpkm" in caplog.text
  table, _ = read(tmp_path / "t.tsv", one(high), "fpkm")
  np.testing.assert_allclose(only(table), 1e6 * np.array(high) / np.sum(high), rtol=1e-12)
  caplog.clear()
  read(tmp_path / "t.tsv", one(COUNT))  # few whole numbers: counts, or TPM of a few genes
  assert "counts? they are read as TPM; else give --values counts" in caplog.text


def test_unicode_text_of_excel_is_read_and_other_encodings_are_named(tmp_path):
  path = tmp_path / "t.txt"
  path.write_bytes(PLAIN.encode("utf-16"))
  data, names = config_of(min_genes_per_unit=3).data, GeneNames(GENES, set())
  table = read_expression([path], None, GENES, (), names, data, QualityReport())
  np.testing.assert_array_equal(table.tpm[:, 0], VALUE)
  path.write_bytes(PLAIN.replace("S1", "5 µM").encode("cp1252"))
  with pytest.raises(DataError, match="not a text file in UTF-8"):
    read_expression([path], None, GENES, (), names, data, QualityReport())


def test_log2_of_tpm_plus_one_is_undone(tmp_path):
  table, _ = read(tmp_path / "t.tsv", one([0, 1, 2, 3, 10.5, 15]), "log2tpm")
  expected = [0, 1, 3, 7, 2**10.5 - 1, 32767, *[np.nan] * 6]
  np.testing.assert_allclose(only(table), expected, rtol=1e-12)


WHOLE = [gene(i) for i in range(600)]  # as many as a bacterium has at least
SHARES = np.random.default_rng(0).lognormal(3, 1.5, 600)
TPM = 1e6 * SHARES / SHARES.sum()


@pytest.mark.parametrize(
  ("values", "unit", "message"),
  [
    (np.log2(TPM + 1), None, "they are log2.* give --values log2tpm"),
    (np.log(TPM + 1), None, "they are natural logarithms of TPM"),
    (np.log10(TPM + 1), None, "they are decimal logarithms of TPM"),
    (np.log(TPM + 1), "log2tpm", "they are natural logarithms of TPM"),
    (np.log10(TPM + 1), "log2tpm", "they are decimal logarithms of TPM"),
    (TPM / 5, None, r"its samples sum to 2e\+05, TPM to 1e6: FPKM"),
    (np.round(TPM / 5), None, "counts. give --values counts, or tpm if so"),
    (np.round(TPM / 5), "tpm", "counts. give --values counts"),
    (np.round(TPM * 1.2), None, "counts. give --values counts, or tpm if so"),
  ],
)
def test_sums_over_a_whole_genome_give_the_unit_away(tmp_path, values, unit, message):
  with pytest.raises(DataError, match=message):
    read(tmp_path / "t.tsv", one(values), unit, WHOLE)


@pytest.mark.parametrize("values", [TPM, np.round(TPM, 1), np.where(TPM > 50, np.round(TPM), TPM)])
def test_tpm_of_a_whole_genome_are_taken_as_they_are(tmp_path, values, caplog):
  table, _ = read(tmp_path / "t.tsv", one(values), None, WHOLE)
  np.testing.assert_allclose(only(table), values, rtol=1e-12)
  assert not caplog.text


@pytest.mark.parametrize("unit", ["counts", "tpm", "fpkm", "log2tpm"])
def test_rows_of_one_gene_add_up(tmp_path, unit):
  first, second = 1000.5, 3000.25
  written = [np.log2(v + 1) if unit == "log2tpm" else v for v in (first, second, 500.75, 250.5)]
  text = f"gene\tS1\ng0\t{written[0]}\ngene-g0\t{written[1]}\ng1\t{written[2]}\ng2\t{written[3]}\n"
  table, report = read(tmp_path / "t.tsv", text, unit)
  amount = np.array([first + second, 500.75, 250.5])
  if unit in ("counts", "fpkm"):
    rate = amount / LENGTHS[:3] if unit == "counts" else amount
    amount = 1e6 * rate / rate.sum()
  np.testing.assert_allclose(only(table)[:3], amount, rtol=1e-9)
  assert report["expression rows of one gene: added up"] == 1


def test_counts_are_shares_of_all_contigs(tmp_path):
  chromosome = [gene(i, prefix="c", length_bp=1000, contig="big") for i in range(30)]
  text = one(COUNT) + "".join(f"c{i}\t100000\n" for i in range(30))
  table, report = read(tmp_path / "c.tsv", text, "counts", GENES, chromosome, min_genes=40)
  rate = np.array(COUNT) / LENGTHS
  np.testing.assert_allclose(only(table), 1e6 * rate / (rate.sum() + 30 * 100), rtol=1e-12)
  assert report["expression row skipped: gene that is left out"] == 30
  assert len(table.gene_ids) == N


def test_tpm_of_half_a_small_contigs_genes_are_enough(tmp_path):
  table, _ = read(tmp_path / "t.tsv", one(VALUE[: N // 2]), min_genes=100)
  assert table.datasets == ("S1",)
  table, report = read(tmp_path / "t.tsv", one(VALUE[: N // 2 - 1]), min_genes=100)
  assert table is None and report["data set left out: no unit with enough genes"] == 1
  table, _ = read(tmp_path / "t.tsv", one(COUNT), "counts", min_genes=100)
  assert table is None  # shares of 12 genes are no TPM


def test_names_that_match_less_than_nine_in_ten_are_said(tmp_path, caplog):
  text = one(VALUE[:8]) + "zz1\t5.5\nzz2\t7.5\n"
  read(tmp_path / "t.tsv", text)
  assert "2 of 10 names match no gene of the annotation: it has zz1, zz2" in caplog.text


def test_packed_tables_and_names_of_files(tmp_path):
  path = tmp_path / "S1.tsv.gz"
  path.write_bytes(gzip.compress(one(VALUE, "gene\tTPM").encode()))
  data = config_of(min_genes_per_unit=3).data
  names = GeneNames(GENES, set())
  table = read_expression([path], None, GENES, (), names, data, QualityReport())
  assert table.datasets == ("S1",)
  assert sample_name(tmp_path / "S2" / "abundance.tsv") == "S2"
  assert sample_name(tmp_path / "S.2.genes.results") == "S.2"


SHEET = "sample\tmedium\tstrain\nS1\tM9\tA\nS2\tM9\tNA\nS9\tLB\tB\n"


def sheet(tmp_path, text, samples):
  path = tmp_path / "samples.tsv"
  path.write_text(text)
  report = QualityReport()
  found = {d.name: d.conditions for d in read_samples(path, samples, report)}
  return found, report


def test_rows_and_samples_that_do_not_match_are_counted_and_said(tmp_path, caplog):
  found, report = sheet(tmp_path, SHEET, ("S1", "S2.bam", "S3"))
  assert found["S1"] == {"medium": "M9", "strain": "A"} and found["S2.bam"] == {"medium": "M9"}
  assert report.reasons == {
    "sample named otherwise in the sheet": 1,
    "sample sheet row that matches no sample": 1,
    "sample without a row in the sample sheet": 1,
  }
  problems = report.to_json()["problems"]
  assert problems["sample named otherwise in the sheet"]["examples"] == ["S2 for S2.bam"]
  assert problems["sample sheet row that matches no sample"]["examples"] == ["S9"]
  assert problems["sample without a row in the sample sheet"]["datasets"] == {"S3": 1}
  assert "1 of 3 rows match no sample (S9), 1 of 3 samples have no row (S3)" in caplog.text


@pytest.mark.parametrize(
  ("theirs", "ours", "same"),
  [
    ("S1", "aligned/S1.sorted.bam", True), ("S1", "S1_quant", True), ("1-a", "X1.a", True),
    ("s1", "S1", True), ("S1", "S10", False), ("S1", "S1_rep1", False), ("S1", "S11.bam", False),
  ],
)  # fmt: skip
def test_an_alias_differs_by_what_tools_add(tmp_path, theirs, ours, same):
  found, report = sheet(tmp_path, f"sample\tmedium\n{theirs}\tLB\nB\tM9\n", (ours, "B"))
  assert (ours in found) is same
  assert report["sample named otherwise in the sheet"] == int(same)


def test_an_alias_of_two_samples_is_none(tmp_path):
  found, report = sheet(tmp_path, SHEET, ("S1.bam", "S1.sorted.bam", "S2", "S9"))
  assert not {"S1.bam", "S1.sorted.bam"} & found.keys()
  assert report["sample without a row in the sample sheet"] == 2


def test_a_sheet_may_name_samples_in_another_column_or_have_commas(tmp_path):
  text = "run,sample,medium\nR1,S1,LB\nR2,S2,M9\n"
  assert sheet(tmp_path, text, ("S1", "S2"))[0]["S1"] == {"run": "R1", "medium": "LB"}
  assert sheet(tmp_path, text, ("R1", "R2"))[0]["R2"] == {"sample": "S2", "medium": "M9"}


def test_a_sheet_of_other_samples_is_refused_and_one_of_more_is_not(tmp_path):
  with pytest.raises(DataError, match=r"3 of 3 rows match no sample \(S1, S2, S9\).*\(C, D\)"):
    sheet(tmp_path, SHEET, ("C", "D"))
  found, _ = sheet(tmp_path, SHEET, ("S1",))
  assert "S1" in found
