"""Prediction from a checkpoint."""
