"""A RegulonDB dump in the formats that any organism's data come in."""

from collections import Counter
from pathlib import Path

import numpy as np
from Bio import SeqIO
from Bio.Seq import Seq
from Bio.SeqFeature import CompoundLocation, SeqFeature, SimpleLocation
from Bio.SeqRecord import SeqRecord

from alphaecoli.genomics.genes import GenomeRecords
from alphaecoli.genomics.quality import QualityReport
from alphaecoli.genomics.sequence import decode
from alphaecoli.organism.read import Files
from alphaecoli.regulondb.dump import read_dump, read_genome
from alphaecoli.schema import DataConfig

SIGN = {1: "+", -1: "-", 0: "."}


def read_records(data: DataConfig) -> GenomeRecords:
  """What RegulonDB's path reads."""
  report = QualityReport()
  contig = read_genome(data, report)
  return read_dump(data.dump, contig, data, report)


def names_of(genome_records: GenomeRecords) -> dict[str, str]:
  """What tables call the genes: the locus tag, or the ID of those that have none of their own."""
  tags = Counter(gene.locus_tag for gene in genome_records.genes)
  own = {g.id: bool(g.locus_tag) and tags[g.locus_tag] == 1 for g in genome_records.genes}
  return {g.id: g.locus_tag if own[g.id] else g.id for g in genome_records.genes}


def write_fasta(path: Path, genome_records: GenomeRecords) -> Path:
  text = decode(genome_records.contig.codes)
  lines = [text[i : i + 80] for i in range(0, len(text), 80)]
  header = f">{genome_records.contig.name} {genome_records.contig.description}"
  path.write_text("\n".join([header, *lines]) + "\n")
  return path


def write_gff3(path: Path, genome_records: GenomeRecords, operons: bool = False) -> Path:
  """Genes; fragments share an ID, and what passes the origin ends beyond the length, as GFF3 says.

  Args:
    path: the file.
    genome_records: what to write.
    operons: also write operon features, with genes as their children.
  """
  name, length = genome_records.contig.name, genome_records.contig.length_bp
  lines = [
    "##gff-version 3",
    f"{name}\ttest\tregion\t1\t{length}\t.\t+\t.\tID=all;Is_circular=true",
  ]
  parents: dict[str, list[str]] = {}
  for operon in (genome_records.operons or []) if operons else []:
    for gene in operon.gene_ids:
      parents.setdefault(gene, []).append(operon.id)
    position = f"{operon.start + 1}\t{operon.end}\t.\t{SIGN[operon.strand]}"
    lines.append(f"{name}\ttest\toperon\t{position}\t.\tID={operon.id};Name={operon.name}")
  for gene in genome_records.genes:
    notes = [f"ID={gene.id}", f"Name={gene.name}", f"gene_biotype={gene.type}"]
    if gene.locus_tag:
      notes.append(f"locus_tag={gene.locus_tag}")
    if gene.id in parents:
      notes.append(f"Parent={','.join(parents[gene.id])}")
    for start, end in gene.fragments or ((gene.start, gene.end),):
      position = f"{start + 1}\t{end}\t.\t{SIGN[gene.strand]}"
      lines.append(f"{name}\ttest\tgene\t{position}\t.\t{';'.join(notes)}")
  path.write_text("\n".join(lines) + "\n")
  return path


def write_genbank(path: Path, genome_records: GenomeRecords) -> Path:
  """Sequence and genes, as joins where they have fragments or pass the origin."""
  length = genome_records.contig.length_bp
  features = []
  for gene in genome_records.genes:
    parts = []
    for start, end in gene.fragments or ((gene.start, gene.end),):
      pieces = [(start, min(end, length)), (0, end - length)] if end > length else [(start, end)]
      parts += [SimpleLocation(a, b, gene.strand or None) for a, b in pieces]
    location = parts[0] if len(parts) == 1 else CompoundLocation(parts)
    notes = {"gene": [gene.name], "locus_tag": [gene.locus_tag or gene.id]}
    features.append(SeqFeature(location, type="gene", qualifiers=notes))
  record = SeqRecord(
    Seq(decode(genome_records.contig.codes)),
    id=genome_records.contig.name,
    name=genome_records.contig.name,
    description=genome_records.contig.description,
    features=features,
    annotations={"molecule_type": "DNA", "topology": "circular"},
  )
  SeqIO.write(record, path, "genbank")
  return path


def write_expression(path: Path, genome_records: GenomeRecords) -> Path:
  """TPM of genes by data sets, empty where unknown."""
  table = genome_records.expression
  assert table is not None
  lines = ["\t".join(["locus_tag", *table.datasets])]
  names = names_of(genome_records)
  for gene, row in zip(genome_records.genes, table.tpm, strict=True):
    cells = ["" if np.isnan(v) else repr(float(v)) for v in row]
    lines.append("\t".join([names[gene.id], *cells]))
  path.write_text("\n".join(lines) + "\n")
  return path


def write_operons(path: Path, genome_records: GenomeRecords, positions: bool = True) -> Path:
  """Operons with their genes by locus tag, and their positions."""
  names = names_of(genome_records)
  columns = ["operon", "genes", *(["start", "end", "strand"] if positions else [])]
  lines = ["\t".join(columns)]
  for operon in genome_records.operons or []:
    genes = ",".join(names.get(g, g) for g in operon.gene_ids)
    place = [str(operon.start + 1), str(operon.end), SIGN[operon.strand]] if positions else []
    lines.append("\t".join([operon.id, genes, *place]))
  path.write_text("\n".join(lines) + "\n")
  return path


def write_samples(path: Path, genome_records: GenomeRecords) -> Path:
  """Growth conditions of data sets, NA where there is none."""
  fields = list(dict.fromkeys(f for d in genome_records.datasets for f in d.conditions))
  lines = ["\t".join(["sample", *fields])]
  for dataset in genome_records.datasets:
    lines.append("\t".join([dataset.name, *(dataset.conditions.get(f, "NA") for f in fields)]))
  path.write_text("\n".join(lines) + "\n")
  return path


def export(directory: Path, genome_records: GenomeRecords, operons: str = "tsv") -> Files:
  """FASTA, GFF3 and tables; operons as tsv or gff3."""
  directory.mkdir(parents=True, exist_ok=True)
  gff3 = write_gff3(directory / "genes.gff3", genome_records, operons == "gff3")
  return Files(
    genome=write_fasta(directory / "genome.fna", genome_records),
    annotation=gff3,
    expression=write_expression(directory / "tpm.tsv", genome_records),
    samples=write_samples(directory / "samples.tsv", genome_records),
    operons=gff3 if operons == "gff3" else write_operons(directory / "operons.tsv", genome_records),
  )
