"""Benchmarks: each figure beside the bare engine's, for the same work in the same run."""
