"""Genes from an annotation file of either format."""

from pathlib import Path

from alphaecoli.annotation.genbank import is_genbank, read_genbank
from alphaecoli.annotation.gff3 import read_gff3
from alphaecoli.annotation.records import Annotation
from alphaecoli.errors import DataError


def read_annotation(path: Path) -> Annotation:
  """Reads genes from GFF3 or GenBank, plain or gzip, told apart by content.

  Raises:
    DataError: missing, broken, or without a gene.
  """
  if not path.is_file():
    raise DataError(f"{path}: no such annotation; expected GFF3 or GenBank, plain or gzip")
  if not is_genbank(path):
    return read_gff3(path)
  annotation = read_genbank(path)[1]
  if not annotation.genes:
    raise DataError(f"{path}: no gene, CDS or RNA feature; expected an annotation")
  return annotation
