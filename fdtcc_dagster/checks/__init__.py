"""Asset checks of stored partitions, and what they compare.

It imports `ingest` (what is recorded of partitions) and what is below.
"""
