"""Palantir Foundry datasets as time-partitioned Dagster assets."""
