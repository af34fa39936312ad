"""Sequences and genes from GenBank files, as NCBI, Prokka, Bakta and SnapGene write them."""

import dataclasses
import logging
import warnings
from collections import Counter
from pathlib import Path

from Bio import BiopythonParserWarning, SeqIO
from Bio.SeqFeature import CompoundLocation, SeqFeature, SimpleLocation
from Bio.SeqRecord import SeqRecord

from alphaecoli.errors import DataError, reason_of
from alphaecoli.genomics.feature_types import (
  feature_kind,
  gene_type,
  old_tags,
  warn_of_nameless,
  with_products,
)
from alphaecoli.genomics.genes import Annotation, Gene, across_origin, place_id
from alphaecoli.genomics.sequence import Contig, contig_of, is_rna, read_fasta, say_rna
from alphaecoli.genomics.text import cut, one_line, open_text

LOGGER = logging.getLogger(__name__)

# Biopython's warnings that mean a damaged file, and those that mean nothing to us.
_DAMAGED = "Expected sequence length|Premature end"
_HARMLESS = "Attempting to parse malformed locus line"
MAX_WARNINGS = 5
_NO_NAME = ("", ".", "<unknown id>", "<unknown name>")
_NAMES = ("gene", "label", "standard_name")  # of a gene; SnapGene and others write /label alone


def read_sequences(path: Path) -> tuple[list[Contig], Annotation | None]:
  """Reads a FASTA or a GenBank file, plain or compressed, told apart by content.

  Returns:
    The contigs, and the genes that the file itself names; None for FASTA and for GenBank files
    without genes.

  Raises:
    DataError: as `read_fasta` and `read_genbank`.
  """
  if not path.is_file():
    raise DataError(f"{path}: no such genome file; expected FASTA or GenBank, plain or compressed")
  if not is_genbank(path):
    return read_fasta(path), None
  contigs, annotation = read_genbank(path)
  return contigs, annotation if annotation.genes else None


def read_genbank(path: Path) -> tuple[list[Contig], Annotation]:
  """Reads the records of a GenBank file, plain or compressed.

  A contig is named by its VERSION (as in NCBI's FASTA), else by its LOCUS. Genes are the features
  whose type ends in "gene", and the CDS and RNA features that belong to none of them. What says
  /pseudo has the type pseudogene, as in NCBI's GFF3. Those whose location can not be read,
  lies in another record or between two bases are counted in the log and skipped.

  Raises:
    DataError: missing, truncated, not GenBank, without sequence, or not nucleotides.
  """
  contigs: dict[str, Contig] = {}
  genes: list[Gene] = []
  skipped: Counter[tuple[str, str]] = Counter()
  rna: list[str] = []
  for record in _records(path):
    contig = _contig(path, record, rna)
    if contig.name in contigs:
      raise DataError(f"{path}: two records are named {cut(contig.name)}")
    contigs[contig.name] = contig
    found: dict[str, list[Gene]] = {"gene": [], "product": []}
    for number, feature in enumerate(record.features, start=1):
      kind = feature_kind(feature.type)
      if not kind:
        continue
      reason = _fault(feature.location)
      if reason or feature.location is None:
        skipped[kind, reason] += 1
      else:
        found[kind].append(_gene(feature, feature.location, contig, number))
    genes += with_products(found["gene"], found["product"])
  if not contigs:
    raise DataError(f"{path}: holds no record; expected GenBank, plain or compressed")
  say_rna(path, rna)
  for reason in dict.fromkeys(reason for _, reason in skipped):
    # A gene and its product lie in one place and count once.
    count = max(skipped["gene", reason], skipped["product", reason])
    LOGGER.warning("%s: %d genes skipped: %s", path, count, reason)
  warn_of_nameless(genes, path)
  circular = frozenset(contig.name for contig in contigs.values() if contig.circular)
  lengths = {contig.name: contig.length_bp for contig in contigs.values()}
  return list(contigs.values()), Annotation(tuple(genes), circular, path, lengths)


def _fault(location: SimpleLocation | CompoundLocation | None) -> str:
  """Says why a feature has no place on its record; "" where it has one."""
  if location is None or any(part.ref for part in location.parts):
    return "their location can not be read, or lies in another record"
  has_bases = all(part.start < part.end for part in location.parts)
  return "" if has_bases else "they lie between two bases"


def is_genbank(path: Path) -> bool:
  """Returns whether the first line with text is a LOCUS line."""
  with open_text(path, "FASTA or GenBank", errors="replace") as file:
    return next((line for line in file if line.strip()), "").startswith("LOCUS ")


def _records(path: Path) -> list[SeqRecord]:
  """Reads the records; Biopython's errors become one line, its warnings go to the log once each."""
  # Authors' names are often in another encoding.
  with (
    open_text(path, "GenBank", errors="replace") as file,
    warnings.catch_warnings(record=True) as caught,
  ):
    warnings.simplefilter("always", BiopythonParserWarning)
    warnings.filterwarnings("ignore", _HARMLESS, BiopythonParserWarning)
    warnings.filterwarnings("error", _DAMAGED, BiopythonParserWarning)
    try:
      records = list(SeqIO.parse(file, "genbank"))
    except (ValueError, AssertionError, IndexError, BiopythonParserWarning) as error:
      raise DataError(f"{path}: not a whole GenBank file: {reason_of(error)}") from error
  found = Counter(cut(one_line(str(warning.message)), 200) for warning in caught)
  for text, count in found.most_common(MAX_WARNINGS):
    LOGGER.warning("%s: %s (%d times)", path, text, count)
  if len(found) > MAX_WARNINGS:
    LOGGER.warning("%s: %d other warnings", path, len(found) - MAX_WARNINGS)
  return records


def _contig(path: Path, record: SeqRecord, rna: list[str]) -> Contig:
  """Converts the sequence of a record; adds its name to those of RNA where it has the letter U."""
  name = next((n for n in (record.id, record.name) if n not in _NO_NAME), None)
  if name is None:
    raise DataError(f"{path}: a record without a name; expected VERSION or LOCUS to name it")
  if "protein" in str(record.annotations.get("molecule_type")):
    raise DataError(f"{path}: {cut(name)} is a protein; expected nucleotides")
  if not record.seq or not record.seq.defined:
    raise DataError(
      f"{path}: {cut(name)} has no sequence; download the full record (at NCBI: GenBank (full))"
    )
  topology = record.annotations.get("topology")
  name, letters = one_line(name).replace(" ", "_"), bytes(record.seq)
  if is_rna(letters):
    rna.append(name)
  circular = None if topology is None else topology == "circular"
  return contig_of(name, letters, one_line(record.description), circular)


def _gene(
  feature: SeqFeature,
  location: SimpleLocation | CompoundLocation,
  contig: Contig,
  number: int,
) -> Gene:
  """Converts a gene, its fragments in the order of the forward strand."""
  notes = {key: one_line(" ".join(values)) for key, values in feature.qualifiers.items()}
  locus_tag = notes.get("locus_tag", "")
  name = next((notes[key] for key in _NAMES if notes.get(key)), "")
  fragments = tuple(sorted((int(part.start), int(part.end)) for part in location.parts))
  gene = Gene(
    id=locus_tag or name,
    locus_tag=locus_tag,
    name=name,
    type=gene_type(feature.type, notes),
    contig=contig.name,
    start=fragments[0][0],
    end=max(end for _, end in fragments),
    strand=location.strand or 0,
    fragments=fragments if len(fragments) > 1 else (),
    line=number,
    old_locus_tags=old_tags(notes.get("old_locus_tag", "")),
    operon=notes.get("operon", ""),
  )
  gene = dataclasses.replace(gene, id=gene.id or place_id(gene))
  return across_origin(gene, contig.length_bp) if contig.circular else gene
