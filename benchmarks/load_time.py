"""What it costs to load, list and tick 300 datasets with hard calendars, in seconds over bare Dagster.

Lines with "all" are of locations with conditions instead of schedules, five checks for each asset, and a sensor.

    python benchmarks/load_time.py [--rounds 5] [--datasets 300]

Both code locations beside this file, of bare Dagster and of ours, are taken through the same steps by turns, each time
in fresh processes. The seconds are those of the processor in the process that does the step.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

LOCATIONS = {"bare": "load_time_bare", "foundry": "load_time_foundry"}
LOOKED_AT = 12
"""How many of the datasets are ticked and looked at; each kind of calendar is among them three times."""
PAGE = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode { id
    partitionKeysByDimension { name type partitionKeys } assetPartitionStatuses {
    ... on TimePartitionStatuses { ranges { status startTime endTime startKey endKey } } } } } }"""
LATEST = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode { id
    partitionKeyConnection(limit: 100, ascending: false) { results } } } }"""
"""What the UI's page of an asset's partitions asks the webserver for, as of Dagster 1.13."""

Times = dict[str, float]


@contextmanager
def timed(times: Times, step: str) -> Iterator[None]:
    """Add the seconds that a step takes."""
    begin = time.process_time()
    yield
    times[step] = times.get(step, 0.0) + time.process_time() - begin


def import_alone(which: str) -> Times:
    """Import what a user's code imports."""
    times: Times = {}
    with timed(times, "import"):
        importlib.import_module("dagster")
        importlib.import_module("polars")
        if which == "foundry":
            importlib.import_module("fdtcc_dagster")
    return times


def load_and_tick(which: str) -> Times:
    """Do what a code server does: load the definitions, describe them for the webserver, evaluate schedules."""
    import_alone(which)
    import dagster as dg
    from dagster._core.definitions.schedule_definition import ScheduleExecutionData
    from dagster._core.remote_representation.external_data import RepositorySnap
    from dagster._grpc.impl import get_external_schedule_execution
    from dagster._serdes import deserialize_value, serialize_value

    times: Times = {}
    with timed(times, "definitions"):
        definitions: dg.Definitions = importlib.import_module(LOCATIONS[which]).defs
        repository = definitions.get_repository_def()
        repository.load_all_definitions()
    with timed(times, "described for the webserver"):
        text = serialize_value(RepositorySnap.from_def(repository))
    with timed(times, "read by the webserver"):
        deserialize_value(text, RepositorySnap)
    times["megabytes of it"] = len(text) / 1e6
    schedules = [schedule.name for schedule in repository.schedule_defs][:LOOKED_AT]
    with dg.instance_for_test() as instance:
        for name in schedules:
            tick = datetime.now(timezone.utc).replace(second=0, microsecond=0).timestamp()
            with timed(times, "a schedule's tick"):
                data = get_external_schedule_execution(repository, instance.get_ref(), name, tick, "UTC", None)
            assert isinstance(data, ScheduleExecutionData), data
    times["a schedule's tick"] /= len(schedules)
    return times


def load_all(which: str) -> Times:
    """Load the location with conditions, checks and a sensor, and evaluate these as daemons have them evaluated."""
    import_alone(which)
    import dagster as dg
    from dagster._core.remote_representation.external_data import RepositorySnap
    from dagster._serdes import serialize_value

    times: Times = {}
    os.environ["LOAD_TIME"] = "all"
    with timed(times, "all: definitions"):
        location = importlib.import_module(LOCATIONS[which])
        definitions: dg.Definitions = location.defs
        repository = definitions.get_repository_def()
        repository.load_all_definitions()
    with timed(times, "all: described for the webserver"):
        serialize_value(RepositorySnap.from_def(repository))
    (sensor,) = [each for each in repository.sensor_defs if each.name in ("sensor", "foundry_sensor")]
    assert len(repository.asset_checks_defs_by_key) >= 4 * location.DATASETS
    with dg.instance_for_test() as instance:
        with (
            dg.build_sensor_context(instance, repository_def=repository) as context,
            timed(times, "all: a sensor's tick"),
        ):
            sensor.evaluate_tick(context)
        cursor = None
        for step in ("all: conditions, first evaluation", "all: conditions, evaluation"):
            with timed(times, step):
                cursor = dg.evaluate_automation_conditions(definitions, instance, cursor=cursor).cursor
    return times


@contextmanager
def workspace_of(which: str) -> Iterator[tuple[Any, Any]]:
    """Load a code location as a webserver does: an instance, and the workspace."""
    import dagster as dg
    from dagster._core.test_utils import create_test_daemon_workspace_context
    from dagster._core.workspace.load_target import ModuleTarget

    target = ModuleTarget(LOCATIONS[which], None, str(Path(__file__).parent), "location")
    # The time that a code server takes to end is not measured.
    servers = {"code_servers": {"wait_for_local_processes_on_shutdown": False}}
    with (
        dg.instance_for_test(servers) as instance,
        create_test_daemon_workspace_context(target, instance) as workspace,
    ):
        (entry,) = workspace.create_request_context().get_code_location_entries().values()
        assert entry.code_location, entry.load_error
        yield instance, workspace


def look_at_partitions(which: str) -> Times:
    """Do what a webserver does: answer what the page of an asset's partitions asks for."""
    import dagster as dg
    from dagster_graphql.test.utils import execute_dagster_graphql

    times: Times = {}
    with workspace_of(which) as (instance, workspace):
        keys: dict[str, list[str]] = {}

        def ask(step: str, query: str) -> None:
            for number in range(LOOKED_AT):
                name = f"dataset_{number}"
                context = workspace.create_request_context()
                with timed(times, step):
                    answer: Any = execute_dagster_graphql(context, query, {"key": {"path": [name]}})
                (node,) = answer.data.values()
                if "partitionKeysByDimension" in node:
                    keys[name] = node["partitionKeysByDimension"][0]["partitionKeys"]
            times[step] /= LOOKED_AT

        ask("a page of partitions, first", PAGE)
        for name, listed in keys.items():
            for key in listed[-60:-1:2]:
                instance.report_runless_asset_event(dg.AssetMaterialization(name, partition=key))
        ask("a page of partitions, 30 stored", PAGE)
        ask("the latest 100 keys", LATEST)
    return times


STEPS: tuple[Callable[[str], Times], ...] = (import_alone, load_and_tick, load_all, look_at_partitions)


def measure(step: Callable[[str], Times], which: str, script: Path = Path(__file__)) -> Times:
    """Take one of the steps of a script in a fresh process."""
    with tempfile.TemporaryDirectory() as directory:
        # To a file: code servers, which outlive the step, write to its standard output, too.
        found = Path(directory, "times.json")
        subprocess.run(
            [
                sys.executable, "-W", "ignore", str(script),
                "--step", step.__name__, "--which", which, "--to", str(found),
            ],
            cwd=directory, stdout=sys.stderr, check=True,
        )  # fmt: skip
        times: Times = json.loads(found.read_text())
    return times


def table(found: dict[str, dict[str, list[float]]]) -> str:
    """One line for each step: both medians, and with the smallest and the largest of the rounds what is over bare."""
    lines = [f"{'seconds, median':36}{'bare':>9}{'ours':>9}{'over':>9}   {'rounds, over':18}{'ratio':>6}"]
    for step, by in found.items():
        bare, ours = (statistics.median(by[which]) for which in LOCATIONS)
        over = [mine - theirs for theirs, mine in zip(by["bare"], by["foundry"], strict=True)]
        spread = f"{min(over):.3f} … {max(over):.3f}"
        lines.append(f"{step:36}{bare:9.3f}{ours:9.3f}{ours - bare:+9.3f}   {spread:18}{ours / bare:6.2f}")
    return "\n".join(lines)


def main() -> None:
    """Take all steps, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--datasets", type=int, default=300, help=f"at least {LOOKED_AT}")
    parser.add_argument("--only", choices=[step.__name__ for step in STEPS])
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--which", help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        times = {step.__name__: step for step in STEPS}[options.step](options.which)
        options.to.write_text(json.dumps(times))
        return
    os.environ["LOAD_TIME_DATASETS"] = str(max(options.datasets, LOOKED_AT))
    found: dict[str, dict[str, list[float]]] = {}
    for step in STEPS:
        if options.only in (None, step.__name__):
            for number in range(options.rounds):
                for which in LOCATIONS if number % 2 else reversed(LOCATIONS):
                    for name, seconds in measure(step, which).items():
                        found.setdefault(name, {}).setdefault(which, []).append(seconds)
    print(table(found))


if __name__ == "__main__":
    main()
