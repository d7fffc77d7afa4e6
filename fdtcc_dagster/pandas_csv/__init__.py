"""CSV bytes in pandas' dialect as typed frames, streamed block by block and checked to the last row.

It knows neither the network nor Dagster, and imports only the ground floor: `errors`, `window`, `redaction`, `evidence`
and `interrupts`.
"""
