"""Partitions as Parquet files, on disks and in object stores: published as a whole, read as they were opened.

It imports the ground floor, `pandas_csv` for the panics of Polars, and the client's spool and directories; it knows
neither datasets nor steps.
"""
