"""Measurements of speed, and programs compiled for other machines."""
