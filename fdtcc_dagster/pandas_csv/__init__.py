"""CSV bytes in pandas' dialect as typed frames, streamed block by block and checked to the last row.

What the container writes: docs/protocol.md#the-csv and docs/protocol.md#rows-can-be-lost. This package knows neither
the network nor Dagster, and imports only the ground floor: `errors`, `window`, `redaction`, `evidence`, `interrupts`.
"""
