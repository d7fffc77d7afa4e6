"""The names under which Dagster and stored files keep what is known of partitions; each is written here only.

Stored partitions and event logs have them for years: a name that changes makes what is recorded unreadable. The page on
runs describes those that people see.
"""

NAMESPACE = "foundry/"

# Of a stored partition: its materialization.
WINDOW_FROM = "foundry/window_from"
WINDOW_TO = "foundry/window_to"
ORIGIN = "foundry/origin"
SHA256 = "foundry/sha256"
SIZE_BYTES = "foundry/size_bytes"
UNCHANGED = "foundry/unchanged"
ROWS_COUNTED = "foundry/rows_counted"
ANNOUNCED_ROWS = "foundry/announced_rows"
OUTSIDE_WINDOW = "foundry/outside_window"
SLICE_ROWS = "foundry/slice_rows"
SNAPSHOT_ROWS = "foundry/snapshot_rows"
PULL_SECONDS = "foundry/pull_seconds"
STORE_SECONDS = "foundry/store_seconds"
COLUMN_COUNT = "foundry/columns"
FILE_CHECKSUM = "foundry/file_checksum"
DECLARATION = "foundry/declaration"
"""The digest of the declaration and its parts; in a file, the digest alone."""

# Of a stored partition: its file. These, SHA256, SNAPSHOT_ROWS and DECLARATION are its provenance.
DATASET = "foundry/dataset"
"""A digest of the dataset's name."""
SLICE = "foundry/slice"
"""Which rows of the snapshot a slice has."""
TYPES = "foundry/types"

# Of a snapshot: the observations by which every run knows of it; with SHA256, ANNOUNCED_ROWS and WINDOW_FROM.
FOUND_ROWS = "foundry/found_rows"
ANNOUNCED_AT = "foundry/announced_at"
CONTRADICTED = "foundry/contradicted"

# Of a check, or of a run that failed.
CHECKED_PARTITIONS = "foundry/partitions"
FAILED_PARTITIONS = "foundry/failed_partitions"
DIFFERENCES = "foundry/differences"
BEFORE_START_OR_AFTER_END = "foundry/before_start_or_after_end"
FORMER_PARTITIONS = "foundry/former_partitions"
COMPARED_UP_TO = "foundry/compared_up_to"
"""Up to which materialization the check of declarations has come."""
NEWEST_PARTITION = "foundry/newest_partition"
DUE_PARTITION = "foundry/due_partition"
DUE_SINCE = "foundry/due_since"
GRACE = "foundry/grace"
ERROR_CLASS = "foundry/error"

# The tag of a run that a schedule or a sensor has requested.
ASSET_TAG = "foundry/asset"
"""The asset's key: a run key alone names the dataset, not who declares it."""

# Dagster's own.
COLUMN_SCHEMA = "dagster/column_schema"
ROW_COUNT = "dagster/row_count"
PARTITION_ROW_COUNT = "dagster/partition_row_count"
