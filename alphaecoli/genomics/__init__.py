"""Formats and coordinates: sequences, genes, variants, tables; numpy alone."""
