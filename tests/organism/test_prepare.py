"""Any organism's files give the tracks that a dump of the same data gives, base for base."""

import dataclasses
import json
import logging

import numpy as np
import pytest

from alphaecoli import prepare as command
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.organism.read import Files
from alphaecoli.prepare import prepare
from alphaecoli.tracks import replicons
from alphaecoli.tracks.process import process_data
from alphaecoli.tracks.store import open_store
from tests import toy
from tests.organism.export import export, read_records, write_genbank
from tests.stores import config_of, toy_config

TOY = {"n_blocks": 6, "n_folds": 6, "fold": 2}  # leaves the measured genes in training


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
  """Lets the toy be prepared, whose blocks of 1,024 bp hold no window."""
  monkeypatch.setattr(replicons, "SHORTEST_WINDOW_BP", 1024)


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
  """The hand-worked toy: its configuration, records and store by RegulonDB's path."""
  directory = tmp_path_factory.mktemp("toy")
  config = toy_config(toy.write(directory / "dump"), **TOY)
  return config, read_records(config.data), process_data(config, directory)


def own(config, **changes):
  """The data section without a dump."""
  return dataclasses.replace(config.data, dump="builtin", genome="builtin", **changes)


def assert_same_store(found, expected, *, but: tuple[str, ...] = ()):
  """Every array, gene, statistic and split; density at any phase, on either strand."""
  for name in ("sequence", "gene_expression", "operon_membership"):
    np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
  assert found.table == expected.table
  assert (found.contig, found.length_bp, found.circular) == (
    expected.contig, expected.length_bp, expected.circular,
  )  # fmt: skip
  for split in ("train", "validation", "test"):
    assert found.regions(split) == expected.regions(split)
  assert found.genes.fragments == expected.genes.fragments
  for field in dataclasses.fields(expected.genes):
    if field.name not in ("fragments", *but):
      ours, theirs = (getattr(genes, field.name) for genes in (found.genes, expected.genes))
      np.testing.assert_array_equal(ours, theirs, err_msg=field.name)
  for start in (*range(0, 300, 37), expected.length_bp - 1000):
    for reverse in (False, True):
      windows = [store.window(start, 2048, reverse) for store in (found, expected)]
      for key, value in windows[1].items():
        np.testing.assert_array_equal(windows[0][key], value, err_msg=key)


@pytest.mark.parametrize("operons", ["tsv", "gff3"])
@pytest.mark.parametrize(
  "tracks", [{}, {"stranded": True, "expression_tracks": "dataset"}, {"min_operon_genes": 1}],
  ids=["mean", "stranded", "single-operons"],
)  # fmt: skip
def test_a_dump_in_other_formats_gives_the_same_tracks(dump, tmp_path, operons, tracks):
  config, genome_records, _ = dump
  config = dataclasses.replace(config, data=dataclasses.replace(config.data, **tracks))
  expected = process_data(config, tmp_path)
  files = export(tmp_path / "files", genome_records, operons)
  found = prepare(files, own(config), tmp_path / "toy", name="toy")
  assert_same_store(found, expected)
  assert found.manifest["organism"] == "toy"


def test_tracks_by_growth_condition_come_from_the_table_of_samples(dump, tmp_path):
  config, genome_records, _ = dump
  data = dataclasses.replace(config.data, expression_tracks="group:medium")
  expected = process_data(dataclasses.replace(config, data=data), tmp_path)
  files = export(tmp_path / "files", genome_records)
  assert expected.table.names == ("M9", "LB")
  settings = own(config, expression_tracks="group:medium")
  assert_same_store(prepare(files, settings, tmp_path / "toy", name="toy"), expected)


def test_a_genbank_file_alone_holds_genome_and_genes(dump, tmp_path):
  config, genome_records, expected = dump
  files = export(tmp_path, genome_records)
  files = dataclasses.replace(
    files, genome=write_genbank(tmp_path / "toy.gbk", genome_records), annotation=None
  )
  found = prepare(files, own(config), tmp_path / "store", name="toy")
  assert_same_store(found, expected, but=("gene_id", "type", "locus_tag", "strand"))
  # GenBank knows no gene without strand, and this file names the gene without locus tag by its id.
  for field, unknown in (("locus_tag", ""), ("strand", 0)):
    ours, theirs = getattr(found.genes, field), getattr(expected.genes, field)
    np.testing.assert_array_equal(ours[theirs != unknown], theirs[theirs != unknown])


def test_k12_in_other_formats_gives_the_same_tracks(tmp_path):
  config = config_of()
  expected = process_data(config, tmp_path)
  files = export(tmp_path / "files", read_records(config.data))
  found = prepare(files, config.data, tmp_path / "k12", name="k12")
  assert_same_store(found, expected, but=("operon_evidence",))  # tables of operons have none
  assert found.quality["totals"]["genes"] == 4666
  found.verify()


def test_counts_become_tpm_through_the_length_of_genes(dump, tmp_path):
  config, genome_records, _ = dump
  files = export(tmp_path / "files", genome_records)
  counts = tmp_path / "counts.txt"
  counts.write_text(
    "# Program:featureCounts v2.0.6; Command:featureCounts -a x\n"
    "Geneid\tChr\tStart\tEnd\tStrand\tLength\tA.bam\tB.bam\n"
    "b0001\ttoy\t1\t2\t+\t150\t150\t0\n"
    "b0002\ttoy\t1\t2\t+\t300\t600\t7\n"
    "b0004\ttoy\t1\t2\t+\t250\t500\t5\n"
    "b0009\ttoy\t1\t2\t+\t400\t2000\t1\n"
    "__no_feature\t\t\t\t\t\t12\t1\n"
  )
  files = dataclasses.replace(files, expression=counts, samples=None)  # of the dump's data sets
  settings = own(config, expression_tracks="dataset")
  store = prepare(files, settings, tmp_path / "toy", name="toy")
  assert store.table.names == ("A.bam", "B.bam")
  found = dict(zip(store.genes.locus_tag, np.expm1(store.genes.log_tpm[:, 0]), strict=True))
  # 150/150 bp, 600/300, 500/250, 2000/400 (the fragments alone): 1 2 2 5 of 10.
  for tag, tpm in {"b0001": 1e5, "b0002": 2e5, "b0004": 2e5, "b0009": 5e5}.items():
    assert found[tag] == pytest.approx(tpm, rel=1e-6)
  problems = store.manifest["quality"]["problems"]
  assert problems["data set converted from count to TPM"] == 2
  assert problems["column of featureCounts that is no sample"] == 5
  assert problems["summary row of htseq-count, no gene"] == 1


GENOME = ">chr\n" + "ACGT" * 2000 + "\n>plasmid\n" + "ACGT" * 800 + "\n"


def gene_line(tag, first, last, strand="+", contig="chr", more=""):
  notes = f"ID=gene-{tag};locus_tag={tag};{more}"
  return f"{contig}\tx\tgene\t{first}\t{last}\t.\t{strand}\t.\t{notes}"


def write_files(directory, genes, rows=(), operons=None):
  directory.mkdir(exist_ok=True)
  (directory / "genome.fna").write_text(GENOME)
  (directory / "genes.gff3").write_text("\n".join(["##gff-version 3", *genes]) + "\n")
  (directory / "tpm.tsv").write_text("\n".join(["gene\tS1\tS2", *rows]) + "\n")
  files = Files(directory / "genome.fna", directory / "genes.gff3", directory / "tpm.tsv")
  if operons is None:
    return files
  (directory / "operons.tsv").write_text("\n".join(operons) + "\n")
  return dataclasses.replace(files, operons=directory / "operons.tsv")


SETTINGS = {"n_blocks": 3, "n_folds": 3, "min_genes_per_unit": 2}
GENES = [gene_line(f"g{i}", 400 * i + 1, 400 * i + 300, "+-"[i > 12]) for i in range(20)]
ROWS = [f"g{i}\t{50000 + 1000 * i}\t{50000 + 500 * i}" for i in range(20)]


def prepared(files, tmp_path, **changes):
  settings = config_of(**{**SETTINGS, **changes}).data
  return prepare(files, settings, tmp_path / "store", name="it")


def test_everything_skipped_or_repaired_is_counted_by_reason(tmp_path):
  genes = [
    *GENES,
    gene_line("g1", 7501, 7560, more="note=again"),  # joins g1: one ID
    gene_line("far", 9001, 9100),
    gene_line("pl", 1, 90, contig="plasmid"),
    "chr\tx\tpseudogene\t7601\t7650\t.\t?\t.\tID=ps;Name=psA",
    "chr\tx\tgene\t7661\t7690\t.\t+\t.\tID=tw;locus_tag=g2",
    gene_line("old", 7701, 7750, more="old_locus_tag=OLD_1%2COLD_2;Name=dup"),
    gene_line("nam", 7801, 7850, more="Name=dup"),
    gene_line("uni", 7861, 7890, more="Name=only"),
  ]
  rows = [
    *ROWS[:10], "g10\tNaN\t-3", "g11\tinf\tlots", "g12\tNA\t", "g0\t70000\t50000",
    "OLD_2\t10\t10", "only\t20\t20", "gene-nam\t30\t30", "dup\t1\t1", "zzz\t1\t1", "pl\t4\t4",
  ]  # fmt: skip
  operons = [
    "operon\tgenes\tstart\tend\tstrand\tcontig",
    "A\tg14,g15\t\t\t\t",
    "B\t\t801\t1900\t+\tchr",  # the genes of its strand within it
    "C\tg9,zzz\t3601\t3900\t+\t",
    "D\tg3\t99\t98999\t+\t",  # outside: placed by its gene
    "A\tg5\t\t\t\t",
    "P\tpl\t\t\t\tplasmid",
    "X\tzzz\t\t\t\t",
    "L\tg6,pl\t\t\t\t",  # its other gene is left out
  ]
  store = prepared(write_files(tmp_path, genes, rows, operons), tmp_path)
  problems = store.manifest["quality"]["problems"]
  assert problems == {
    "contig left out: shorter than data.window_bp": 1,
    "base of a contig that is left out": 3200,
    "gene outside chr": 1,
    "gene on a contig that is left out": 1,
    "gene without strand": 1,
    "gene without a locus tag": 1,
    "gene whose locus tag an earlier gene has": 1,
    "bad tpm: not a number, negative or infinite": 4,
    "expression row skipped: name of several genes": 1,
    "expression row skipped: matches no gene": 1,
    "expression row skipped: gene that is left out": 1,
    "expression rows of one gene: added up": 1,
    "gene without expression": 12,
    "operon gene: matches no gene": 2,
    "operon gene: gene that is left out": 1,
    "operon with positions outside the contig": 1,
    "operon listed twice": 1,
    "operon on a contig that is left out": 1,
    "operon skipped: no positions and no placed gene": 1,
  }
  totals = store.manifest["quality"]["totals"]
  assert totals["annotated genes"] == 27 and totals["genes"] == 25
  assert totals["expression rows matched by locus tag"] == 14
  assert totals["expression rows matched by ID"] == 1
  assert totals["expression rows matched by old locus tag"] == 1
  assert totals["expression rows matched by name"] == 1
  assert (totals["operons"], totals["operons with two genes or more"]) == (5, 3)
  genes = store.genes
  value = dict(zip(genes.gene_id, np.expm1(genes.log_tpm[:, 0]), strict=True))
  assert value["gene-g0"] == pytest.approx(np.expm1(np.log1p([120000, 100000]).mean()))
  assert np.isnan(value["gene-g10"]) and np.isnan(value["gene-g12"])
  operon = dict(zip(genes.gene_id, genes.operon_id, strict=True))
  assert [operon[f"gene-g{i}"] for i in (14, 15, 2, 3, 4, 5)] == ["A", "A", "B", "B", "B", ""]
  assert genes.type[list(genes.gene_id).index("ps")] == "pseudogene"


def test_operons_may_be_named_by_an_attribute_of_genes(tmp_path):
  genes = [line + f";operon=op{i // 4}" for i, line in enumerate(GENES[:12])] + GENES[12:]
  files = write_files(tmp_path, genes, ROWS)
  files = dataclasses.replace(files, operons=files.annotation)
  store = prepared(files, tmp_path)
  assert [str(o) for o in store.genes.operon_id[:12:4]] == ["op0", "op1", "op2"]
  assert store.operon_membership[0:1500].all() and not store.operon_membership[1500:1600].any()
  assert store.operon_membership.sum() == 3 * 1500


def test_without_expression_or_operons_those_heads_have_no_targets(tmp_path):
  files = dataclasses.replace(write_files(tmp_path, GENES), expression=None)
  store = prepared(files, tmp_path)
  assert not store.table.has_expression and not store.table.has_operons
  window = store.window(0, 2048)
  assert not window["gene_expression_known"].any()
  assert not window["operon_membership_known"].any()
  assert window["gene_density"].sum() > 10


def test_contigs_shorter_than_a_window_are_left_out_loudly(tmp_path, caplog):
  genes = [
    *GENES,
    *(gene_line(f"p{i}", 340 * i + 1, 340 * i + 150, "+", "plasmid") for i in range(9)),
  ]
  rows = [*ROWS, *(f"p{i}\t{500 + 20 * i}\t{1000 - i}" for i in range(9))]
  files = write_files(tmp_path, genes, rows)
  settings = config_of(**SETTINGS).data
  with caplog.at_level("WARNING", "alphaecoli"):
    store = prepare(files, settings, tmp_path / "chr", name="chr")
  assert store.contig == "chr" and len(store.replicons) == 1
  assert "1 of 2 contigs" in caplog.text and "plasmid" in caplog.text
  store = prepare(files, settings, tmp_path / "plasmid", name="p", contig="plasmid")
  assert (store.contig, store.length_bp, len(store.genes)) == ("plasmid", 3200, 9)
  with pytest.raises(ConfigError, match=r"--contig=plasmit: no such contig .*nearest: plasmid"):
    prepare(files, settings, tmp_path / "x", name="p", contig="plasmit")


def test_a_linear_topology_in_the_file_wins(dump, tmp_path):
  config, genome_records, _ = dump
  inside = [g for g in genome_records.genes if g.end <= genome_records.contig.length_bp]
  operons = [o for o in genome_records.operons if o.end <= genome_records.contig.length_bp]
  genome_records = dataclasses.replace(
    genome_records, genes=inside, operons=operons, expression=None
  )
  path = write_genbank(tmp_path / "toy.gbk", genome_records)
  path.write_text(path.read_text().replace(" circular ", " linear   ", 1))
  store = prepare(Files(path), own(config), tmp_path / "store", name="toy")
  assert store.circular is False and store.manifest["config"]["circular"] is False


def test_the_same_inputs_use_a_store_again_and_others_are_refused(tmp_path):
  files = write_files(tmp_path, GENES, ROWS)
  first = prepared(files, tmp_path)
  written = (first.path / "manifest.json").stat().st_mtime_ns
  assert prepared(files, tmp_path).fingerprint == first.fingerprint
  assert (first.path / "manifest.json").stat().st_mtime_ns == written
  with pytest.raises(DataError, match="is there already and is not this store"):
    prepared(files, tmp_path, fold=1)
  (tmp_path / "tpm.tsv").write_text("gene\tS1\n" + "\n".join(r.rsplit("\t", 1)[0] for r in ROWS))
  with pytest.raises(DataError, match="is there already and is not this store"):
    prepared(files, tmp_path)


BAD_TABLES = {
  "no-separator": ("gene|S1\ng1|3\n", "one column, gene.S1"),
  "header-alone": ("gene\tS1\n", "no rows"),
  "one-column": ("gene\ng1\n", "one column, gene"),
  "ragged": ("gene\tS1\ng1\t3\ng2\t3\t4\n", "line 3: 3 cells; the header has 2"),
  "twice": ("gene\tS1\tS1\ng1\t3\t4\n", "'S1' heads 2 columns"),
  "other-organism": ("gene\tS1\nSTM0001\t3\n", "1 of 1 names match no gene .*STM0001.*g0"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_table_that_can_not_be_read_says_why(tmp_path, case):
  text, message = BAD_TABLES[case]
  files = write_files(tmp_path, GENES)
  files.expression.write_text(text)
  with pytest.raises(DataError, match=message):
    prepared(files, tmp_path)
  assert not (tmp_path / "store").exists()


def test_a_header_without_the_first_name_is_read_as_r_writes_it(tmp_path):
  files = write_files(tmp_path, GENES)
  quoted = [f'"{row}"'.replace("\t", '"\t', 1).removesuffix('"') for row in ROWS]
  files.expression.write_text("\n".join(['"S1"\t"S2"', *quoted]) + "\n")
  assert prepared(files, tmp_path, expression_tracks="dataset").table.names == ("S1", "S2")


BAD_OPERONS = {
  "columns": (["id\tmembers", "A\tg1"], "columns id, members; expected a table of operons"),
  "position": (["operon\tstart\tend", "A\t1.5\t9"], "line 2: positions '1.5' to '9'"),
  "digits": (["operon\tstart\tend", "A\t1\t" + "9" * 5000], "line 2: positions '1' to '9+';"),
  "half-a-place": (["operon\tstart\tend", "A\t1\t"], "line 2: positions '1' to ''"),
  "contig": (["operon\tgenes\tcontig", "A\tg1\tx"], "none of its 1 operons lies on chr"),
  "other-organism": (
    ["operon\tgenes\tstart\tend", "A\tSTM1,STM2\t1\t900"],
    r"2 of 2 names match no gene of the annotation: it has STM1, STM2; known are g0",
  ),
  "gff3": (["##gff-version 3", *GENES], "no operon feature, and no gene with an operon"),
}


@pytest.mark.parametrize("case", BAD_OPERONS)
def test_operons_that_can_not_be_read_say_why(tmp_path, case):
  lines, message = BAD_OPERONS[case]
  with pytest.raises(DataError, match=message):
    prepared(write_files(tmp_path, GENES, ROWS, lines), tmp_path)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
  genes = [line.replace("chr\t", "NC_1\t") for line in GENES]
  with pytest.raises(DataError, match=r"0 of 20 genes fit chr .*names NC_1"):
    prepared(write_files(tmp_path, genes, ROWS), tmp_path)
  files = write_files(tmp_path, GENES, ROWS)
  with pytest.raises(DataError, match="holds no genes; add --annotation"):
    prepared(dataclasses.replace(files, annotation=None), tmp_path)
  with pytest.raises(DataError, match=r"gone\.tsv: no such file"):
    prepared(dataclasses.replace(files, expression=tmp_path / "gone.tsv"), tmp_path)


def test_the_command_writes_a_store_that_opens(tmp_path):
  files = write_files(tmp_path, GENES, ROWS)
  out = tmp_path / "stores" / "bug"
  arguments = [
    "--genome", str(files.genome), "--annotation", str(files.annotation),
    "--expression", str(files.expression), "--out", str(out),
    *(f"--config.data.{key}={value}" for key, value in SETTINGS.items()),
  ]  # fmt: skip
  assert command.main(arguments) == 0
  store = open_store(out)
  assert store.manifest["organism"] == "bug"
  assert json.loads((out / "quality.json").read_text())["totals"]["genes"] == 20
  assert store.manifest["config"]["n_blocks"] == 3
  with pytest.raises(ConfigError, match=r"data\.dump has no say here"):
    command.main([*arguments, "--config.data.dump=somewhere"])
  with pytest.raises(ConfigError, match=r"--name=a/b; expected letters"):
    command.main([*arguments, "--name", "a/b"])


def test_what_is_named_and_unused_is_said_and_counted(tmp_path, caplog, monkeypatch):
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  files = write_files(tmp_path, GENES, ROWS)
  (tmp_path / "samples.tsv").write_text("sample\tmedium\nS1\tM9\n")
  files = dataclasses.replace(files, samples=tmp_path / "samples.tsv")
  store = prepared(
    files, tmp_path, expression_tracks="group:medium", unknown_expression_types=("tRNAs",),
    exclude_gene_types=("phantom", "pseudogenes"),
  )  # fmt: skip
  problems = store.quality["problems"]
  assert problems["excluded gene type that no gene has"]["examples"] == ["pseudogenes"]
  assert problems["type of unknown expression that no gene has"]["examples"] == ["tRNAs"]
  assert problems["data set in no expression track"]["datasets"] == {"S2": 1}
  assert problems["sample without a row in the sample sheet"]["datasets"] == {"S2": 1}
  for text in ("no gene of type 'pseudogenes'; there are gene", "no gene of type 'tRNAs'",
               "1 data sets are in no expression track: S2"):  # fmt: skip
    assert text in caplog.text
  problems = prepared(files, tmp_path / "mean").quality["problems"]
  assert problems["flag that nothing uses"]["examples"] == ["--samples"]
  assert "--samples makes no track" in caplog.text and "fields: medium" in caplog.text
  files = dataclasses.replace(files, expression=None, values="counts")
  problems = prepared(files, tmp_path / "none").quality["problems"]
  assert problems["flag that nothing uses"]["examples"] == ["--values", "--samples"]


def test_the_command_takes_several_files_of_expression(tmp_path):
  files = write_files(tmp_path, GENES, ROWS)
  paths = []
  for sample in ("A", "B"):
    paths.append(tmp_path / sample / "quant.sf")
    paths[-1].parent.mkdir()
    rows = [f"g{i}\t300\t250\t{40000.5 + 1000 * i}\t{7 * i}" for i in range(20)]
    header = "Name\tLength\tEffectiveLength\tTPM\tNumReads"
    paths[-1].write_text("\n".join([header, *rows]) + "\n")
  arguments = [
    "--genome", str(files.genome), "--annotation", str(files.annotation),
    *(f"--config.data.{key}={value}" for key, value in SETTINGS.items()),
    "--config.data.expression_tracks=dataset",
  ]  # fmt: skip
  both = ["--expression", *map(str, paths)]
  twice = ["--expression", str(paths[0]), "--expression", str(paths[1])]
  for i, given in enumerate((both, twice)):
    assert command.main([*arguments, "--out", str(tmp_path / str(i)), *given]) == 0
    store = open_store(tmp_path / str(i))
    assert store.table.names == ("A", "B")
    assert set(store.manifest["inputs"]) >= {"expression", "expression 2"}
    assert store.manifest["expression_values"] == "tpm"
