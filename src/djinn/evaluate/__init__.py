"""Metrics of a world on held-out clips."""
