"""Partitions as Parquet files, on disks and in object stores: published as a whole, read as they were opened.

It imports the ground floor and the client's spool; it knows neither datasets nor steps.
"""
