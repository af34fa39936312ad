"""Splits, windows and the stream of batches."""
