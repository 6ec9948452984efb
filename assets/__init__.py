"""Dagster assets: names, partitions, wiring and checks; no arithmetic."""
