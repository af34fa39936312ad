"""What a genome's files and the command line name: used, or said."""

import gzip
import logging
import lzma

import pytest

from alphaecoli.errors import ConfigError, DataError
from alphaecoli.genomics.sequence import decode
from alphaecoli.inference.genome_files import GenomeFile, find_genome_files
from alphaecoli.inference.genomes import Topology, read_aliases, read_genome, read_topology
from alphaecoli.prepare import prepare
from tests.inference.standin import random_codes
from tests.stores import config_of
from tests.tracks.test_replicons import LENGTHS, SETTINGS, write

BASES = decode(random_codes(1000, seed=3))


@pytest.fixture
def log(caplog, monkeypatch):
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  caplog.set_level("INFO")
  return caplog


@pytest.fixture
def read(tmp_path, log):
  """Reads a genome of one contig `c` of 1,000 bp, or of the text of a FASTA."""

  def go(
    annotation="", aliases=None, store=None, fasta=f">c\n{BASES}\n", circular=None, alone=True
  ):
    path = tmp_path / "g.fna"
    path.write_text(fasta)
    notes = None
    if annotation:
      notes = tmp_path / "g.ann"
      notes.write_text(annotation)
    file = GenomeFile(path, notes)
    return read_genome(file, circular or Topology(), aliases or {}, store, alone)

  return go


def gene(start, end, notes, contig="c"):
  return f"{contig}\t.\tgene\t{start}\t{end}\t.\t+\t.\t{notes}\n"


GENBANK = """LOCUS       c                       1000 bp    DNA     circular BCT 01-JAN-2020
VERSION     c
FEATURES             Location/Qualifiers
     gene            11..40
                     /locus_tag="b1"
                     /gene="lacA"
ORIGIN
"""


def test_genbank_and_gtf_annotate_a_fasta(read):
  lines = [f"{i + 1:>9} {BASES[i : i + 60].lower()}" for i in range(0, 1000, 60)]
  (contig,) = read(GENBANK + "\n".join(lines) + "\n//\n").contigs
  assert contig.circular
  (found,) = contig.genes
  assert (found.locus_tag, found.name, found.start, found.end) == ("b1", "lacA", 10, 40)
  (found,) = read(gene(11, 40, 'gene_id "b1"; gene "lacA";')).contigs[0].genes
  assert (found.locus_tag, found.name, found.start, found.end) == ("b1", "lacA", 10, 40)


def test_a_gene_past_the_end_makes_a_contig_circular_unless_the_user_says_no(read, log):
  text = gene(981, 1030, "ID=g1") + gene(1, 900, "ID=g2")
  (contig,) = read(text).contigs
  assert contig.circular and len(contig.genes) == 2
  assert "circular (a gene passes its end): c" in log.text
  log.clear()
  (contig,) = read(text, circular=Topology(every=False)).contigs
  assert not contig.circular and len(contig.genes) == 1
  assert "1 genes skipped: past the end of c, which is linear" in log.text


def test_aliases_of_no_contig(read, log, tmp_path):
  with pytest.raises(ConfigError, match=r"no contig 'ctg.1' in the genome, .*nearest: c"):
    read(aliases={"ctg.1": "chr"})
  assert read(aliases={"c": "chr", "d": "x"}).contigs[0].label == "chr"
  assert "--alias: 1 names are of no contig" in log.text
  read(aliases={"ctg.1": "chr"}, alone=False)  # of another genome, perhaps
  path = tmp_path / "alias"
  path.write_bytes("\ufeffc\tchr\r\n".encode())
  assert read_aliases(path) == {"c": "chr"}
  path.write_text("x" * 5000)
  for reader, argument in ((read_aliases, path), (read_topology, f"@{path}")):
    try:
      reader(argument)
    except DataError as error:
      assert len(str(error)) < len(str(path)) + 200


def fasta_of(store, name, bases=None):
  return f">{name}\n{bases or decode(store.sequence)}\n"


def test_a_store_of_another_accession_is_told_by_its_bases(read, log, toy_store):
  genome = read(store=toy_store, fasta=fasta_of(toy_store, "U00096.3") + ">p\nACGT\n")
  assert genome.annotated and genome.observed
  genes = {contig.name: contig.genes for contig in genome.contigs}
  assert len(genes["U00096.3"]) == len(toy_store.genes) and not genes["p"]
  said = f"U00096.3 has the bases of the store's {toy_store.contig}: its genes"
  assert said in log.text
  circular = {contig.name: contig.circular for contig in genome.contigs}
  assert circular == {"U00096.3": toy_store.circular, "p": False}


def test_a_store_of_another_genome_is_said(read, log, toy_store):
  bases = decode(toy_store.sequence)
  other = "ACGT"["ACGT".index(bases[0]) - 1] + bases[1:]  # one base is another
  genome = read(store=toy_store, fasta=fasta_of(toy_store, "U00096.3", other))
  assert not genome.annotated and not genome.observed
  assert f"the store is not used: no contig has the name and length, or the bases, of its {toy_store.contig}" in log.text  # noqa: E501  # fmt: skip
  log.clear()
  genome = read(gene(1, 90, "ID=g1;locus_tag=unknown"), store=toy_store)
  assert genome.annotated and not genome.observed
  assert "the store has 0 of 1 genes" in log.text and "unknown; the store names" in log.text


def test_observed_genes_by_ensembl_ids(read, log, toy_store):
  tag = next(tag for tag in toy_store.genes.locus_tag.tolist() if tag)
  genome = read(gene(1, 90, f"ID=gene:{tag};Name=x;gene_id={tag}"), store=toy_store)
  assert genome.observed and "the store has" not in log.text


def test_folders_in_upper_case_and_what_has_no_counterpart(tmp_path, log):
  for name in ("genomes/A.fna", "genomes/B.fna", "genomes/D.FNA.GZ", "genomes/e.fa.xz", "n/x.txt"):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(name)
  for name in ("A.gff3", "B.GFF3", "E.gbk.gz", "other.gtf", "x.txt"):
    (tmp_path / "gffs").mkdir(exist_ok=True)
    (tmp_path / "gffs" / name).write_text(name)
  found = find_genome_files([tmp_path / "genomes"], None, tmp_path / "gffs")
  assert [(f.path.name, f.folder, f.annotation and f.annotation.name) for f in found] == [
    ("A.fna", "A", "A.gff3"),
    ("B.fna", "B", "B.GFF3"),
    ("D.FNA.GZ", "D", None),
    ("e.fa.xz", "e", "E.gbk.gz"),
  ]
  warnings = [record.getMessage() for record in log.records]
  assert len(warnings) == 2
  assert "D.FNA.GZ: no annotation of the stem D in" in warnings[0]
  assert "1 files belong to no genome: other.gtf" in warnings[1]
  with pytest.raises(ConfigError, match="no annotation of the stem of any genome: it has none"):
    find_genome_files([tmp_path / "genomes"], None, tmp_path / "n")


def test_the_best_annotation_of_a_stem_is_taken(tmp_path):
  (tmp_path / "a.fna").write_text("")
  for name in ("a.gbk", "a.gtf", "a.gff.gz", "A.gff3"):
    (tmp_path / name).write_text("")
    (found,) = find_genome_files([tmp_path / "a.fna"], None, tmp_path)
    assert found.annotation.name == ("a.gff.gz" if name == "A.gff3" else name)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_compressed_genomes_are_read_whatever_their_names(tmp_path, pack):
  path = tmp_path / "G.FNA.GZ"
  path.write_bytes(pack(f">c\n{BASES}\n".encode()))
  (contig,) = read_genome(GenomeFile(path), Topology(), {}).contigs
  assert decode(contig.codes) == BASES


def test_a_store_of_several_contigs_gives_the_genes_of_each(tmp_path, log):
  data = config_of(**SETTINGS).data
  store = prepare(write(tmp_path / "f", LENGTHS), data, tmp_path / "it", name="it")
  genome = read_genome(GenomeFile(tmp_path / "f" / "genome.fna"), Topology(), {}, store)
  assert genome.observed and "the store is not used" not in log.text
  found = {contig.name: contig for contig in genome.contigs}
  counts = {own.contig: len(own.genes) for own in store.replicons} | {"tiny": 0}
  assert {name: len(contig.genes) for name, contig in found.items()} == counts
  assert found["big"].circular and not found["tiny"].circular
  row = store.all_genes.row(found["small"].genes[2])
  assert store.all_genes.gene_id[row] == "small2" and store.log_tpm(row, "mean") > 0
