"""Benchmarks of the way from the container to Parquet: `make bench`."""
