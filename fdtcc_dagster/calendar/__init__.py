"""When Foundry rebuilds a dataset: dates first, then cron strings, then Dagster's partitions.

It imports only the ground floor. `partitions`, `partition_windows` and `partition_mapping` speak Dagster, the others do
not.
"""
