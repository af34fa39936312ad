"""Checkpoints on disk: reading, writing; the only user of orbax."""
