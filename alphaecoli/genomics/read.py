"""Genomes with genes, variants and named regions: formats told apart, names of contigs matched.

The files of one genome may call its contigs otherwise than the sequence does.
"""

import dataclasses
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from alphaecoli.errors import DataError
from alphaecoli.genomics.genbank import is_genbank, read_genbank, read_sequences
from alphaecoli.genomics.genes import Annotation
from alphaecoli.genomics.gff3 import STRANDS, is_feature, is_position, read_features, read_gff3
from alphaecoli.genomics.quality import GOOD_MATCH, shown
from alphaecoli.genomics.sequence import Contig
from alphaecoli.genomics.text import one_line, open_text
from alphaecoli.genomics.vcf import Variant, read_contig_lengths, read_vcf

LOGGER = logging.getLogger(__name__)
_VERSION = re.compile(r"\.\d+$")
_Key = str | int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Element:
  """A named region, 0-based and half-open; an end beyond the contig's length wraps around.

  Attributes:
    type: the feature's type in GFF3; empty in BED.
  """

  contig: str
  start: int
  end: int
  strand: int
  name: str
  type: str


def read_annotated(
  genome: Path, annotation: Path | None = None
) -> tuple[list[Contig], Annotation | None]:
  """Reads a genome with its genes: those of another file, else its own (GenBank), else None.

  Raises:
    DataError: a file is missing or broken.
  """
  contigs, own = read_sequences(genome)
  return contigs, own if annotation is None else match_contigs(read_annotation(annotation), contigs)


def read_annotation(path: Path) -> Annotation:
  """Reads genes from GFF3, GTF or GenBank, plain or compressed, told apart by content.

  Raises:
    DataError: missing, broken, or without a gene.
  """
  if not path.is_file():
    raise DataError(f"{path}: no such annotation; expected GFF3, GTF or GenBank")
  if not is_genbank(path):
    return read_gff3(path)
  annotation = read_genbank(path)[1]
  if not annotation.genes:
    raise DataError(f"{path}: no gene, CDS or RNA feature; expected an annotation")
  return annotation


def match_contigs(annotation: Annotation, contigs: Sequence[Contig]) -> Annotation:
  """Renames the contigs of an annotation to those of the genome where they are surely the same.

  Names that differ in case, in the database or chr before them, or because one has no version are
  the same unless the annotation declares another length. Others, such as RefSeq's and INSDC's of
  one chromosome, are the same where each has a length that no other contig of its file has;
  together those must hold nine in ten of the genes that remain. What is renamed is said in one
  line.

  Args:
    annotation: genes to rename.
    contigs: contigs of the genome.
  """
  genes = Counter(gene.contig for gene in annotation.genes)
  ours = {contig.name: contig.length_bp for contig in contigs}
  return renamed(annotation, same_contigs(annotation.path, genes, annotation.lengths, ours))


def read_variants(path: Path, contigs: Iterable[Contig]) -> list[Variant]:
  """Reads a VCF file, its contigs renamed to the genome's as those of an annotation are.

  Raises:
    DataError: missing, or not VCF.
  """
  variants = list(read_vcf(path))
  named = Counter(variant.contig for variant in variants)
  ours = {contig.name: contig.length_bp for contig in contigs}
  names = same_contigs(path, named, read_contig_lengths(path), ours)
  return [dataclasses.replace(v, contig=names.get(v.contig, v.contig)) for v in variants]


def read_elements(path: Path, kind: str = "") -> list[Element]:
  """Reads the features of a GFF3 file, or the lines of a BED file, plain or gzip.

  A file whose first line has nine columns with numbers in the fourth and fifth is GFF3.

  Args:
    path: file to read.
    kind: type of the GFF3 features to take; "" takes all. In BED, all lines count.

  Raises:
    DataError: missing, neither GFF3 nor BED, or nothing in it.
  """
  with open_text(path, "GFF3 or BED") as file:
    lines = [line.rstrip("\r\n") for line in file]
  rows = [(n, line) for n, line in enumerate(lines, start=1) if line.strip()]
  rows = [(n, line) for n, line in rows if not line.startswith(("#", "track ", "browser "))]
  if rows and is_feature(rows[0][1]):
    features = [feature for feature, _ in read_features(path)]
    elements = [
      Element(f.contig, f.start, f.end, f.strand, f.name or f.id or f.type, f.type)
      for f in features
      if kind in ("", f.type)
    ]
  else:
    elements = [_bed(path, number, line) for number, line in rows]
  if not elements:
    raise DataError(f"{path}: no {kind or 'feature'} in it; expected GFF3 or BED")
  return elements


def _bed(path: Path, number: int, line: str) -> Element:
  """Parses a line of BED: contig, start (0-based), end, then perhaps name, score, strand."""
  fields = line.split("\t") if "\t" in line else line.split()
  good = len(fields) >= 3 and is_position(fields[1]) and is_position(fields[2])
  if not good or int(fields[1]) >= int(fields[2]):
    raise DataError(
      f"{path}, line {number}: {line[:60]!r}; expected BED (contig, start, end; 0-based) or GFF3"
    )
  strand = STRANDS.get(fields[5], 0) if len(fields) > 5 else 0
  name = one_line(fields[3]) if len(fields) > 3 else ""
  return Element(fields[0], int(fields[1]), int(fields[2]), strand, name, "")


def same_contigs(
  path: Path, named: Counter[str], theirs: Mapping[str, int], ours: Mapping[str, int]
) -> dict[str, str]:
  """Returns the genome's names of the contigs that a file calls otherwise: see `match_contigs`.

  Args:
    path: the file.
    named: number of genes or variants of the file on each contig.
    theirs: lengths of contigs that the file declares.
    ours: lengths of the genome's contigs.
  """
  for name in named:
    if theirs.get(name, ours.get(name)) != ours.get(name) and name in ours:
      LOGGER.warning(
        "%s declares %d bp for %s, which has %d: is it of this genome?",
        path,
        theirs[name],
        name,
        ours[name],
      )
  missing = [name for name in named if name not in ours]
  if not missing:
    return {}
  free = [name for name in ours if name not in named and name not in theirs]
  same: dict[str, str] = {}
  spellings: tuple[Callable[[str], _Key], ...] = (_bare, _unprefixed, _unversioned)
  for spell in spellings:
    for name, own in _pairs(missing, free, spell, spell).items():
      known = name in theirs or spell is not _unversioned or _VERSION.search(name) is None
      known = known or _VERSION.search(own) is None
      if known and theirs.get(name, ours[own]) == ours[own]:
        same.setdefault(name, own)
  _say(path, same, "they differ in spelling alone", logging.INFO)
  left = [name for name in missing if name not in same]
  # Lengths that several contigs of a file have say nothing.
  twice = {n for lengths in (ours, theirs) for n, k in Counter(lengths.values()).items() if k > 1}
  left_free = [name for name in free if name not in same.values() and ours[name] not in twice]
  by_length = _pairs(left, left_free, theirs.get, ours.get)
  if sum(named[name] for name in by_length) < GOOD_MATCH * sum(named[name] for name in left):
    by_length = {}
  reason = "they have the same length, which no other contig has"
  _say(path, by_length, reason, logging.WARNING)
  return same | by_length


def renamed(annotation: Annotation, names: Mapping[str, str]) -> Annotation:
  """Returns an annotation with other names of contigs."""
  genes = (
    dataclasses.replace(gene, contig=names.get(gene.contig, gene.contig))
    for gene in annotation.genes
  )
  return dataclasses.replace(
    annotation,
    genes=tuple(genes),
    circular=frozenset(names.get(name, name) for name in annotation.circular),
    lengths={names.get(name, name): length for name, length in annotation.lengths.items()},
  )


def _bare(name: str) -> str:
  """Returns a name in lower case, without the databases before it: gi|…|ref|NC_000913.3|."""
  return name.rstrip("|").rpartition("|")[2].lower()


def _unprefixed(name: str) -> str | None:
  """Returns a bare name without chr before it; None where it has no more."""
  return _bare(name).removeprefix("chr") or None


def _unversioned(name: str) -> str | None:
  """Returns a bare name without its version."""
  return _VERSION.sub("", _unprefixed(name) or "") or None


def _pairs(
  names: Iterable[str],
  others: Iterable[str],
  key: Callable[[str], _Key],
  other_key: Callable[[str], _Key],
) -> dict[str, str]:
  """Pairs names with others of the same key, where one name and one other have it."""
  sides: tuple[dict[_Key, list[str]], dict[_Key, list[str]]] = {}, {}
  for side, found, make in zip(sides, (names, others), (key, other_key), strict=True):
    for name in found:
      side.setdefault(make(name), []).append(name)
  left, right = sides
  return {
    one[0]: right[k][0]
    for k, one in left.items()
    if k is not None and len(one) == len(right.get(k, ())) == 1
  }


def _say(path: Path, names: Mapping[str, str], reason: str, level: int) -> None:
  """Logs which contigs of an annotation are read as which of the genome."""
  if names:
    theirs, ours = shown(names), shown(names.values())
    LOGGER.log(level, "%s: %s is read as %s of the genome: %s", path, theirs, ours, reason)
