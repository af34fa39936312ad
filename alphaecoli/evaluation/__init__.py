"""Metrics on held-out chromosome beside baselines."""
