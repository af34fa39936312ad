"""Genes and operons from annotation files: GFF3, GenBank."""
