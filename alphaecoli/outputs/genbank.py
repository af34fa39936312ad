"""Annotated GenBank: genes with translations, operons, predicted values as notes and colours."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from Bio import BiopythonWarning, SeqIO
from Bio.Data import CodonTable
from Bio.Seq import Seq
from Bio.SeqFeature import CompoundLocation, SeqFeature, SimpleLocation
from Bio.SeqRecord import SeqRecord
from jaxtyping import UInt8

from alphaecoli.genomics.gene_features import ContigGenes
from alphaecoli.genomics.genes import Gene, gene_kind
from alphaecoli.genomics.intervals import split_at_origin
from alphaecoli.genomics.sequence import decode
from alphaecoli.outputs.browsers import FIFTHS, colour_of, expression_fifths

LOCUS_LETTERS = 16  # what the LOCUS line has room for
TABLE = 11  # genetic code of bacteria
STARTS = frozenset(CodonTable.unambiguous_dna_by_id[TABLE].start_codons)
# Features of RNA genes by the types of annotations, and the class that INSDC demands of ncRNA.
RNA_FEATURES = {name.lower(): name for name in ("tRNA", "rRNA", "tmRNA", "misc_RNA")}
RNA_CLASSES = {name.lower(): name for name in ("antisense_RNA", "RNase_P_RNA", "SRP_RNA")}


class AnnotatedContig(NamedTuple):
  """A contig and all that was predicted of its genes.

  Attributes:
    label: its name.
    codes: bases, 0 to 4.
    circular: whether its end joins its start.
    genes: in order along it.
    rows: a row of `genes.tsv` for each gene.
    operons: start, end, strand, name and probability of each.
    links: number of the next gene, and probability that it shares the operon, by gene's number.
  """

  label: str
  codes: UInt8[np.ndarray, " L"]
  circular: bool
  genes: Sequence[Gene]
  rows: Sequence[Mapping[str, Any]]
  operons: Sequence[tuple[int, int, int, str, float]]
  links: Mapping[int, tuple[int, float]]


def write_genbank(path: Path, contigs: Sequence[AnnotatedContig]) -> None:
  """Writes one record a contig.

  LOCUS has room for 16 letters: a longer name is cut there, and whole in VERSION.
  """
  fifths = iter(expression_fifths([row for contig in contigs for row in contig.rows]))
  records = []
  for number, contig in enumerate(contigs, 1):
    short = contig.label
    if len(short) > LOCUS_LETTERS:
      short = f"{short[: LOCUS_LETTERS - 7]}_{number}"
    record = SeqRecord(Seq(decode(contig.codes)), contig.label, short, "predicted by alphaecoli")
    record.annotations = {"molecule_type": "DNA", "data_file_division": "BCT"}
    version = contig.label.rpartition(".")[2]
    if version.isdecimal() and version != str(int(version)):  # SeqIO would write .071 as .71
      record.annotations["accession"] = contig.label
    record.annotations["topology"] = "circular" if contig.circular else "linear"
    record.features = _features(contig, [next(fifths) for _ in contig.genes])
    records.append(record)
  with warnings.catch_warnings(), path.open("w", encoding="utf-8") as file:
    warnings.simplefilter("ignore", BiopythonWarning)
    SeqIO.write(records, file, "genbank")


def _features(contig: AnnotatedContig, fifths: Sequence[int | None]) -> list[SeqFeature]:
  """Makes the features of a contig, sorted by place, operons before their genes."""
  length, text = len(contig.codes), Seq(decode(contig.codes))
  coding = ContigGenes.of(contig.genes, contig.codes, contig.circular).coding
  found = [(0, 0, SeqFeature(_location([(0, length)], 1, length), "source"))]
  found[0][2].qualifiers = {"organism": ["."], "mol_type": ["genomic DNA"]}
  for start, end, strand, name, probability in contig.operons:
    notes = {"operon": [name], "note": [f"predicted; operon_probability={probability:.3g}"]}
    location = _location([(start, end)], strand, length)
    found.append((start, 1, SeqFeature(location, "operon", qualifiers=notes)))
  for number, (gene, row) in enumerate(zip(contig.genes, contig.rows, strict=True)):
    location = _location(gene.intervals, gene.strand, length)
    names = {"locus_tag": [gene.locus_tag or gene.id]}
    names |= {"gene": [gene.name]} if gene.name else {}
    look = _notes(contig, number, row, fifths[number])
    found.append((gene.start, 2, SeqFeature(location, "gene", qualifiers=names | look)))
    kind, words = _rna_of(gene)
    if not kind and coding[number]:
      kind, words = "CDS", _translation(location.extract(text))
    if words is not None:
      found.append((gene.start, 3, SeqFeature(location, kind, qualifiers=names | look | words)))
  return [feature for *_, feature in sorted(found, key=lambda item: item[:2])]


def _rna_of(gene: Gene) -> tuple[str, dict[str, list[str]] | None]:
  """Returns the feature of an RNA gene, as annotated, and its class; "" and None for others."""
  kinds = (gene_kind(kind) for kind in (gene.biotype, gene.type))
  kind = next((kind for kind in kinds if kind.endswith("rna") and kind != "mrna"), "")
  if not kind:
    return "", None
  if kind in RNA_FEATURES:
    return RNA_FEATURES[kind], {}
  return "ncRNA", {"ncRNA_class": [RNA_CLASSES.get(kind, "other")]}


def _translation(bases: Seq) -> dict[str, list[str]] | None:
  """Returns the qualifiers of a coding sequence; None where it does not read through.

  That is from a start codon, which stands for methionine, to the only stop codon in the frame.
  """
  protein = str(bases.translate(table=TABLE))
  if not protein.endswith("*") or "*" in protein[:-1] or str(bases[:3]) not in STARTS:
    return None
  words = {"codon_start": ["1"], "transl_table": [str(TABLE)]}
  return words | {"translation": ["M" + protein[1:-1]]}


def _location(
  intervals: Sequence[tuple[int, int]], strand: int, length: int
) -> SimpleLocation | CompoundLocation:
  """Makes a location; parts of a joined one lie in the direction of reading."""
  parts = [
    SimpleLocation(start, end, strand or None)
    for start, end in split_at_origin(sorted(intervals), length)
  ]
  parts = parts[::-1] if strand < 0 else parts
  return parts[0] if len(parts) == 1 else CompoundLocation(parts)


def _notes(
  contig: AnnotatedContig, number: int, row: Mapping[str, Any], fifth: int | None
) -> dict[str, list[str]]:
  """Makes the qualifiers that hold what was predicted, and the colour."""
  red, green, blue = colour_of(fifth)
  code = f"#{red:02x}{green:02x}{blue:02x}"
  notes = [f"expression: {FIFTHS[fifth]} of the genes"] if fifth is not None else []
  kinds = ("log_tpm:", "log_tpm_annotated:")
  notes += [f"{key}={value:.3g}" for key, value in row.items() if key.startswith(kinds)]
  if number in contig.links:
    right, probability = contig.links[number]
    other = contig.genes[right]
    name = other.name or other.locus_tag or other.id
    notes.append(f"shares an operon with {name}: probability {probability:.3g}")
  notes.append(f"color: {code}")
  found = {"operon": [row["operon"]]} if row["operon"] else {}
  found |= {"note": notes, "ApEinfo_fwdcolor": [code], "ApEinfo_revcolor": [code]}
  return found | {"color": [code], "colour": [f"{red} {green} {blue}"]}  # the latter: Artemis
