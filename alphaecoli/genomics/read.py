"""Genes from an annotation file of either format."""

from pathlib import Path

from alphaecoli.errors import DataError
from alphaecoli.genomics.genbank import is_genbank, read_genbank
from alphaecoli.genomics.genes import Annotation
from alphaecoli.genomics.gff3 import read_gff3


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
