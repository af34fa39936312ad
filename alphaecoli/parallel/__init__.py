"""Devices and processes: mesh, sharding, batches, several hosts."""
