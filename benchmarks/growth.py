"""How a code location grows: seconds, megabytes, bytes and queries for 10, 100 and 1,000 datasets, over bare Dagster.

    python benchmarks/growth.py [--datasets 10 100 1000] [--rounds 1]
    python benchmarks/growth.py --histories

With `--histories`, each location has one asset with a long history, and all of its partitions are stored: a daily one
of 10,000 partitions, and one since 1990 whose union of rules no cron can say, in a zone with summer time. The asset of
bare Dagster has as many partitions, one a day.

The two code locations of `load_time.py` go through the same steps by turns, each time in a fresh process: as many
assets of bare Dagster with daily partitions, and with a schedule, a condition and a sensor that are written by hand.
Seconds are those of the processor. What is counted (bytes, queries) is the same in each round.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.load_time import LOCATIONS, Times, import_alone, measure, timed, workspace_of

COUNTS = """query { assetNodes { id assetKey { path } partitionStats {
    numMaterialized numPartitions numFailed numMaterializing } } }"""
"""What the UI's list of assets asks the webserver for, as of Dagster 1.13."""
_MAPPED = re.compile(r"VmRSS:\s+(\d+) kB")


def _memory() -> float:
    """The megabytes of this process that are in memory."""
    found = _MAPPED.search(Path("/proc/self/status").read_text())
    return int(found[1]) / 1000 if found else 0.0


@contextmanager
def queries(times: Times, step: str) -> Iterator[None]:
    """Count the queries of a step."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def count(*_: Any) -> None:
        times[f"{step}: queries"] = times.get(f"{step}: queries", 0) + 1

    event.listen(Engine, "before_cursor_execute", count)
    with timed(times, f"{step}: s"):
        yield
    event.remove(Engine, "before_cursor_execute", count)


def _location(which: str, kind: str, times: Times) -> Any:
    """Load one of the locations."""
    import_alone(which)
    os.environ["LOAD_TIME"] = kind
    before = _memory()
    with timed(times, "definitions: s"):
        module = importlib.import_module(LOCATIONS[which])
        repository = module.defs.get_repository_def()
        repository.load_all_definitions()
    times["definitions: MB of memory"] = _memory() - before
    return module, repository


def load(which: str) -> Times:
    """Load the location with schedules, and describe it for the webserver."""
    times: Times = {}
    _, repository = _location(which, "schedules", times)
    from dagster._core.remote_representation.external_data import RepositorySnap
    from dagster._serdes import deserialize_value, serialize_value

    with timed(times, "snapshot for the webserver: s"):
        text = serialize_value(RepositorySnap.from_def(repository))
    times["snapshot for the webserver: MB"] = len(text) / 1e6
    with timed(times, "snapshot read by the webserver: s"):
        deserialize_value(text, RepositorySnap)
    return times


def decide(which: str) -> Times:
    """Evaluate the sensor and the conditions, as daemons do."""
    times: Times = {}
    module, repository = _location(which, "all", times)
    del times["definitions: s"], times["definitions: MB of memory"]
    import dagster as dg
    from dagster._serdes import serialize_value

    (sensor,) = [each for each in repository.sensor_defs if each.name in ("sensor", "foundry_sensor")]
    with dg.instance_for_test() as instance:
        for step in ("sensor, nothing stored", "sensor, newest stored", "sensor, again"):
            with dg.build_sensor_context(instance, repository_def=repository) as context, queries(times, step):
                sensor.evaluate_tick(context)
            if step == "sensor, nothing stored":
                for key, definition in _partitions_of(repository):
                    all_keys = definition.get_partition_keys()
                    for partition in all_keys if os.environ.get("LOAD_TIME_HISTORY") else all_keys[-1:]:
                        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition))
        cursor = None
        for step in ("conditions, first", "conditions, later"):
            with queries(times, step):
                cursor = dg.evaluate_automation_conditions(module.defs, instance, cursor=cursor).cursor
        times["conditions: MB of the cursor"] = len(serialize_value(cursor)) / 1e6
    return times


def _partitions_of(repository: Any) -> list[tuple[Any, Any]]:
    return [(asset.key, asset.partitions_def) for asset in repository.assets_defs_by_key.values()]


def count(which: str) -> Times:
    """Count partitions, as the webserver does for its list of assets."""
    from dagster_graphql.test.utils import execute_dagster_graphql

    os.environ["LOAD_TIME"] = "schedules"
    times: Times = {}
    with workspace_of(which) as (_, workspace):
        for step in ("partition counts, first: s", "partition counts: s"):
            context = workspace.create_request_context()
            with timed(times, step):
                answer: Any = execute_dagster_graphql(context, COUNTS)
            assert all(node["partitionStats"]["numPartitions"] for node in answer.data["assetNodes"])
    return times


STEPS: tuple[Callable[[str], Times], ...] = (load, decide, count)


def environments(options: argparse.Namespace) -> dict[str, dict[str, str]]:
    """The name of each column of the table → the environment of its code locations."""
    if not options.histories:
        return {f"{size:,}": {"LOAD_TIME_DATASETS": str(size)} for size in options.datasets}
    from benchmarks.load_time_foundry import LONG
    from fdtcc_dagster import FoundryDataset

    found, today = {}, datetime.now(timezone.utc).date()
    for history, start in (("daily", today - timedelta(days=9_999)), ("union", date(1990, 1, 1))):
        partitions = len(FoundryDataset("d", LONG[history], start).partitions_def.get_partition_keys())
        found[f"{partitions:,} {history}"] = {
            "LOAD_TIME_DATASETS": "1",
            "LOAD_TIME_HISTORY": history,
            "LOAD_TIME_START": start.isoformat(),
            "LOAD_TIME_BARE_START": (today - timedelta(days=partitions - 1)).isoformat(),
        }
    return found


def table(found: dict[str, dict[str, dict[str, list[float]]]], columns: Iterable[str]) -> str:
    """One line for each figure; for each column, bare Dagster's median, ours, and their ratio."""
    head = "".join(f"{f'{column} bare':>18}{'ours':>10}{'÷':>7}" for column in columns)
    lines = [f"{'':40}{head}"]
    for name, by_column in found.items():
        cells = ""
        for column in columns:
            bare, ours = (statistics.median(by_column[column][which]) for which in LOCATIONS)
            cells += f"{bare:18.3f}{ours:10.3f}{ours / bare if bare else 0:7.2f}"
        lines.append(f"{name:40}{cells}")
    return "\n".join(lines)


def main() -> None:
    """Take all steps, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--datasets", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--histories", action="store_true", help="one asset with many partitions")
    parser.add_argument("--only", choices=[step.__name__ for step in STEPS])
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--which", help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        import json

        options.to.write_text(json.dumps({step.__name__: step for step in STEPS}[options.step](options.which)))
        return
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    columns = environments(options)
    for step in STEPS:
        if options.only not in (None, step.__name__):
            continue
        for column, environment in columns.items():
            os.environ.update(environment)
            for _ in range(options.rounds):
                for which in LOCATIONS:
                    for name, figure in measure(step, which, Path(__file__)).items():
                        found.setdefault(name, {}).setdefault(column, {}).setdefault(which, []).append(figure)
    print(table(found, columns))


if __name__ == "__main__":
    main()
