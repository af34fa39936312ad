"""Sequences and genes from GenBank files, as NCBI, Prokka, Bakta and SnapGene write them."""

import logging
import warnings
from collections import Counter
from pathlib import Path

from Bio import BiopythonParserWarning, SeqIO
from Bio.SeqFeature import CompoundLocation, SeqFeature, SimpleLocation
from Bio.SeqRecord import SeqRecord

from alphaecoli.errors import DataError
from alphaecoli.genomics.genes import (
  PRODUCT_TYPES,
  Annotation,
  Gene,
  across_origin,
  old_tags,
  one_line,
)
from alphaecoli.genomics.sequence import Contig, encode, read_fasta
from alphaecoli.genomics.text import open_text

LOGGER = logging.getLogger(__name__)

# Biopython's warnings that mean a damaged file, and those that mean nothing to us.
_DAMAGED = "Expected sequence length|Premature end"
_HARMLESS = "Attempting to parse malformed locus line"
_NO_NAME = ("", ".", "<unknown id>", "<unknown name>")


def read_sequences(path: Path) -> tuple[list[Contig], Annotation | None]:
  """Reads a FASTA or a GenBank file, plain or gzip, told apart by content.

  Returns:
    The contigs, and the genes that the file itself names; None for FASTA and for GenBank files
    without genes.

  Raises:
    DataError: as `read_fasta` and `read_genbank`.
  """
  if not path.is_file():
    raise DataError(f"{path}: no such genome file; expected FASTA or GenBank, plain or gzip")
  if not is_genbank(path):
    return read_fasta(path), None
  contigs, annotation = read_genbank(path)
  return contigs, annotation if annotation.genes else None


def read_genbank(path: Path) -> tuple[list[Contig], Annotation]:
  """Reads the records of a GenBank file, plain or gzip.

  A contig is named by its VERSION (as in NCBI's FASTA), else by its LOCUS. Genes are the features
  whose type ends in "gene"; in a file without any, CDS and RNA features. Genes that say /pseudo
  have the type pseudogene, as in NCBI's GFF3. Those whose location can not be read, or lies in
  another record, are counted in the log and skipped.

  Raises:
    DataError: missing, truncated, not GenBank, without sequence, or not nucleotides.
  """
  contigs: list[Contig] = []
  genes: dict[str, list[Gene]] = {"gene": [], "product": []}
  unplaced: Counter[str] = Counter()
  for record in _records(path):
    contig = _contig(path, record)
    if any(contig.name == other.name for other in contigs):
      raise DataError(f"{path}: two records are named {contig.name}")
    contigs.append(contig)
    for number, feature in enumerate(record.features, start=1):
      kind = "gene" if feature.type.lower().endswith("gene") else "product"
      if kind == "product" and feature.type not in PRODUCT_TYPES:
        continue
      if feature.location is None or any(part.ref for part in feature.location.parts):
        unplaced[kind] += 1
        continue
      genes[kind].append(_gene(feature, feature.location, contig, number))
  if not contigs:
    raise DataError(f"{path}: holds no record; expected GenBank, plain or gzip")
  kind = "gene" if genes["gene"] or unplaced["gene"] else "product"
  if unplaced[kind]:
    reason = "their location can not be read, or lies in another record"
    LOGGER.warning("%s: %d genes skipped: %s", path, unplaced[kind], reason)
  circular = frozenset(contig.name for contig in contigs if contig.circular)
  return contigs, Annotation(tuple(genes[kind]), circular, path)


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
      reason = one_line(str(error))[:200] or "broken record"
      raise DataError(f"{path}: not a whole GenBank file: {reason}") from error
  for text, count in Counter(one_line(str(warning.message)) for warning in caught).items():
    LOGGER.warning("%s: %s (%d times)", path, text, count)
  return records


def _contig(path: Path, record: SeqRecord) -> Contig:
  """Converts the sequence of a record."""
  name = next((n for n in (record.id, record.name) if n not in _NO_NAME), None)
  if name is None:
    raise DataError(f"{path}: a record without a name; expected VERSION or LOCUS to name it")
  if "protein" in str(record.annotations.get("molecule_type")):
    raise DataError(f"{path}: {name} is a protein; expected nucleotides")
  if not record.seq or not record.seq.defined:
    raise DataError(
      f"{path}: {name} has no sequence; download the full record (at NCBI: GenBank (full))"
    )
  topology = record.annotations.get("topology")
  return Contig(
    name=one_line(name).replace(" ", "_"),
    codes=encode(bytes(record.seq)),
    description=one_line(record.description),
    circular=None if topology is None else topology == "circular",
  )


def _gene(
  feature: SeqFeature,
  location: SimpleLocation | CompoundLocation,
  contig: Contig,
  number: int,
) -> Gene:
  """Converts a gene, its fragments in the order of the forward strand."""
  notes = {key: one_line(" ".join(values)) for key, values in feature.qualifiers.items()}
  locus_tag, name = notes.get("locus_tag", ""), notes.get("gene", "")
  fragments = tuple(sorted((int(part.start), int(part.end)) for part in location.parts))
  pseudo = feature.type == "gene" and ("pseudo" in notes or "pseudogene" in notes)
  gene = Gene(
    id=locus_tag or name,
    locus_tag=locus_tag,
    name=name,
    type="pseudogene" if pseudo else feature.type,
    contig=contig.name,
    start=fragments[0][0],
    end=max(end for _, end in fragments),
    strand=location.strand or 0,
    fragments=fragments if len(fragments) > 1 else (),
    line=number,
    old_locus_tags=old_tags(notes.get("old_locus_tag", "")),
    operon=notes.get("operon", ""),
  )
  return across_origin(gene, contig.length_bp) if contig.circular else gene
