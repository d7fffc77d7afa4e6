"""When Foundry rebuilds a dataset: dates first, then cron strings, then Dagster's partitions.

It imports only the lowest layer. `partitions`, `own_partitions`, `partition_windows`, `partition_mapping` and `ticks`
import Dagster, the others do not.
"""
