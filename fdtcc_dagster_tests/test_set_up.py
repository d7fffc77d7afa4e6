"""Set-up mistakes fail where they are made, or at the start of a step, without retries."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import AliasChoices, ConfigDict, Field

from fdtcc_dagster import (
    FDTCC,
    FoundryContainerResource,
    FoundryDataset,
    FoundryDatasetTranslator,
    FoundryParquetIOManager,
    Refresh,
    Schedule,
    build_foundry_assets,
    build_foundry_checks,
    build_foundry_definitions,
    build_foundry_schedules,
    build_foundry_sensor,
    datasets_from_toml,
)
from fdtcc_dagster.automation import (
    RefreshBecameAvailable,
    build_foundry_automation_sensors,
    foundry_automation_condition,
    foundry_freshness_policy,
)
from fdtcc_dagster.checks.file_checks import build_foundry_file_checks
from fdtcc_dagster.client.directories import state_directory
from fdtcc_dagster.client.spool import spool_directory

DAILY = Schedule([Refresh("daily", None, "04:00:00")])
START = "2026-01-01"
ORDERS = FoundryDataset("orders", DAILY, START)
RESOURCE = FoundryContainerResource()
ONE: Any = {"cycle": "daily", "time": "04:00:00"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schema": {"id": "Int46"}}, "column 'id': 'Int46' is not a data type .* write 'Int64'"),
        ({"schema": [("id", "Int64")]}, "a schema maps at least one column"),
        ({"schema": {"updated_at": "Date"}, "time_column": "update_at"}, "did you mean 'updated_at'?"),
        ({"time_column": ["updated_at"]}, r"time_column=\['updated_at'\] must be the name of one column"),
        ({"time_column": "at", "allow_null_times": "no"}, "allow_null_times='no' must be True or False"),
        ({"time_column": "at", "complete_history": 1}, "complete_history=1 must be True or False"),
        ({"missing_version": "acept"}, "did you mean 'accept'?"),
        ({"owners": "team:sales"}, "owners='team:sales' must be a list"),
        ({"owners": ["somebody"]}, "Invalid owner 'somebody'"),
        ({"owners": [3]}, r"owners=\[3\] must be texts"),
        ({"tags": ["a"]}, r"tags=\['a'\] must be a dictionary"),
        ({"tags": {"grö ße": "x"}}, "invalid tag keys"),
        ({"tags": {"a": 1}}, "Tag values must be strings"),
        ({"group_name": "my group"}, "is not a valid"),
        ({"group_name": 3}, "group_name=3 must be text"),
        ({"description": 3}, "description=3 must be text"),
        ({"asset_key": 3}, "asset_key=3 must be text"),
        ({"asset_key": [3]}, r"asset_key=\[3\] must be text"),
        ({"asset_key": []}, r"the asset key \[\] is empty"),
        ({"asset_key": dg.AssetKey([])}, r"the asset key \[\] is empty"),
        ({"start": "0001-01-01"}, "give a year from 1800 to 8999"),
        ({"schedule": Schedule}, "is no Schedule; give Schedule"),
        ({"schedule": [{"cycle": "daily", "time": "04:00:00"}]}, "is no Schedule; give Schedule"),
    ],
)
def test_a_wrong_argument_names_the_dataset_and_what_was_meant(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=rf"^dataset 'orders': .*{message}") as caught:
        FoundryDataset("orders", **{"schedule": DAILY, "start": START, **arguments})
    assert isinstance(caught.value, ValueError) or type(caught.value).__name__ == "ScheduleError"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Schedule(ONE), "is no list of refreshes; give a list of it"),
        (lambda: Schedule([{"cycle": "wekly", "day": "Monday", "time": "04:00:00"}]), "did you mean 'weekly'?"),
        (lambda: Schedule([{"cycle": "weekly", "day": "Mondy", "time": "04:00:00"}]), "did you mean 'Monday'?"),
        (lambda: Schedule([{"cycel": "weekly", "day": "Monday", "time": "04:00:00"}]), "did you mean 'cycle'?"),
        (lambda: Schedule([Refresh("daily", None, "04:00:00")], timezone="Europe/Berln"), "mean 'Europe/Berlin'?"),
    ],
)
def test_a_wrong_calendar_says_what_was_meant(make: Callable[[], object], message: str) -> None:
    with pytest.raises(Exception, match=message):
        make()


@pytest.mark.parametrize(
    "build",
    [
        build_foundry_assets,
        build_foundry_schedules,
        build_foundry_sensor,
        build_foundry_checks,
        build_foundry_file_checks,
        build_foundry_automation_sensors,
        lambda datasets: build_foundry_definitions(datasets, resource=RESOURCE),
    ],
)
@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ([ORDERS, "events"], r"datasets\[1\]='events' is no FoundryDataset: give FoundryDataset\('events', schedule"),
        ([None], r"datasets\[0\]=None is no FoundryDataset"),
        ([FoundryDataset], r"datasets\[0\]=<class FoundryDataset> is the class, and not an object"),
        ([{"name": "orders"}], r"datasets\[0\] is a dictionary, and no FoundryDataset"),
        (ORDERS, "datasets=<FoundryDataset> must be a list of FoundryDataset"),
        ("orders", "datasets='orders' must be a list of FoundryDataset"),
        ({"orders": ORDERS}, "must be a list of FoundryDataset"),
        (None, "datasets=None must be a list of FoundryDataset"),
    ],
)
def test_a_wrong_element_among_the_datasets_is_named(build: Callable[[Any], Any], datasets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(datasets)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resource": None}, "resource=None is no FoundryContainerResource"),
        ({"resource": FoundryContainerResource}, "is the class, and not an object: give FoundryContainerResource"),
        ({"resource": FDTCC()}, "resource=<FoundryDevToolsContainerClient> is no FoundryContainerResource"),
        ({"resource": "https://u:word@h"}, "resource=<str> is no FoundryContainerResource"),
        ({"resource": {"bearer_token": "word"}}, "resource=<dict> is no FoundryContainerResource"),
        ({"io_manager": FoundryParquetIOManager}, "is the class, and not an object: give FoundryParquetIOManager"),
        ({"io_manager": Path("data")}, r"io_manager=<PosixPath> is no IO manager: give FoundryParquetIOManager\(base"),
        ({"io_manager": "s3://u:word@h"}, r"io_manager=<str> is no IO manager: give FoundryParquetIOManager\(base_dir"),
        ({"io_manager": {"secret": "word"}}, "io_manager=<dict> is no IO manager"),
        ({"io_manager": 5}, "io_manager=<int> is no IO manager"),
        ({"checks": "yes"}, "checks='yes' must be True or False"),
        ({"sensor": 1}, "sensor=1 must be True or False"),
        ({"translator": FoundryDatasetTranslator}, "translator=<class FoundryDatasetTranslator> is the class"),
        ({"translator": lambda dataset: dataset}, "translator=<function> is no FoundryDatasetTranslator"),
        ({"retry_policy": 3}, "retry_policy=3 is no dagster.RetryPolicy"),
        ({"executor": "in_process"}, "executor=<str> is no executor, such as dagster.in_process_executor"),
        ({"executor": dg.Executor}, "executor=<class Executor> is the class, and not an object"),
        ({"max_partitions_per_run": "3"}, "max_partitions_per_run='3' is not allowed; give a whole number"),
        ({"automation": "conditions"}, "did you mean 'condition'?"),
    ],
)
def test_definitions_refuse_what_fails_only_in_runs(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_foundry_definitions([ORDERS], **{"resource": RESOURCE, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(
            ({name: value}, rf"{name}={value!r} must be an integer of at least 1")
            for name in ("attempts", "max_concurrency", "max_bytes", "max_handshakes", "max_record_bytes")
            for value in (0, True)
        ),
        *(
            ({f"{name}_timeout": True}, f"{name}_timeout=True must be a positive number of seconds")
            for name in ("open", "idle", "job", "transfer")
        ),
        ({"retry_delay": True}, "retry_delay=True must be a number of seconds"),
        ({"retry_delay": -1}, "retry_delay"),
        *(
            ({name: value}, f"{name}='~nobody-has-this/x' begins with the home directory of a user who has none")
            for name in ("spool_directory", "ca_file")
            for value in ("~nobody-has-this/x", Path("~nobody-has-this/x"))
        ),
    ],
)
def test_a_resource_refuses_at_once_what_no_run_can_use(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FoundryContainerResource(**arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: foundry_automation_condition("orders"), "dataset='orders' is no FoundryDataset"),  # type: ignore[arg-type]
        (lambda: foundry_automation_condition(ORDERS, max_catchup="5"), "max_catchup='5' is not allowed"),  # type: ignore[arg-type]
        (lambda: RefreshBecameAvailable(FoundryDataset), "dataset=<class FoundryDataset> is the class"),  # type: ignore[arg-type]
        (lambda: foundry_freshness_policy("orders"), "dataset='orders' is no FoundryDataset"),  # type: ignore[arg-type]
        (lambda: foundry_freshness_policy(ORDERS, grace=5), "grace=5 is not allowed; give a minute"),  # type: ignore[arg-type]
        (lambda: build_foundry_sensor([ORDERS], redeclared="yes"), "redeclared='yes' must be True or False"),  # type: ignore[arg-type]
        (lambda: build_foundry_schedules([ORDERS], shared="yes"), "shared='yes' must be True or False"),  # type: ignore[arg-type]
        (lambda: build_foundry_file_checks([ORDERS], blocking="yes"), "blocking='yes' must be True or False"),  # type: ignore[arg-type]
    ],
)
def test_what_automation_is_given_is_checked(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_other_io_managers_are_allowed() -> None:
    class Own(dg.IOManager):
        def handle_output(self, context: dg.OutputContext, obj: object) -> None: ...
        def load_input(self, context: dg.InputContext) -> None: ...

    later = FoundryParquetIOManager.configure_at_launch()
    for given in (None, Own(), dg.mem_io_manager, FoundryParquetIOManager(), later):
        io_manager: Any = given
        dg.Definitions.validate_loadable(build_foundry_definitions([ORDERS], resource=RESOURCE, io_manager=io_manager))


def test_a_resource_that_is_configured_at_launch_is_allowed() -> None:
    resource: Any = FoundryContainerResource.configure_at_launch()
    dg.Definitions.validate_loadable(build_foundry_definitions([ORDERS], resource=resource))


def test_names_for_a_toml_are_a_list_with_what_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "foundry_datasets.toml"
    path.write_text('[datasets]\norders = "x"\n')
    with pytest.raises(ValueError, match="select='orders' must be a list of names and patterns"):
        datasets_from_toml(path, select="orders", schedule=DAILY, start=START)
    with pytest.raises(ValueError, match=r"did you mean 'orders'\?"):
        datasets_from_toml(path, select=["order"], schedule=DAILY, start=START)


def test_a_path_may_begin_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "spool").mkdir()
    (tmp_path / "foundry_datasets.toml").write_text('[datasets]\norders = "x"\n')
    assert datasets_from_toml("~/foundry_datasets.toml", schedule=DAILY, start=START) == [ORDERS]
    for given in ("~/spool", Path("~/spool")):
        resource = FoundryContainerResource(spool_directory=given)  # type: ignore[arg-type]  # a path is taken, too
        with resource.spool() as spool:
            assert spool.parent == tmp_path / "spool"


NOBODY = "~nobody-has-this/x"


@pytest.mark.parametrize(
    "use",
    [
        lambda: FoundryParquetIOManager(base_dir=NOBODY),
        lambda: FoundryParquetIOManager(base_dir=f"file://{NOBODY}"),
        lambda: spool_directory(NOBODY).__enter__(),
        lambda: datasets_from_toml(NOBODY, schedule=DAILY, start=START),
        lambda: FDTCC(secure=True, ca_file=NOBODY),
        state_directory,
    ],
)
def test_a_tilde_of_nobody_is_no_directory(
    use: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FDTCC_STATE_DIRECTORY", NOBODY)
    with pytest.raises((ValueError, NotADirectoryError), match="begins with the home directory of a user who has none"):
        use()
    assert not list(tmp_path.iterdir())


class _Retries(dg.RetryPolicy):
    def calculate_delay(self, attempt_num: int) -> int:
        raise AssertionError("what cannot pass is not retried")


def _failure(resources: dict[str, Any], tmp_path: Path) -> str:
    (asset,) = build_foundry_assets([ORDERS], retry_policy=_Retries(max_retries=2))
    io_manager = FoundryParquetIOManager(base_dir=str(tmp_path / "store"))
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [asset],
            instance=instance,
            partition_key="2026-01-01",
            resources={"io_manager": io_manager, **resources},
            raise_on_error=False,
        )
        (event,) = [event for event in result.all_events if event.is_step_failure]
        assert not [event for event in result.all_events if event.is_step_up_for_retry]
    error = event.step_failure_data.error
    assert error is not None
    return error.message


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("missing", "does not exist"),
        ("file", r"cannot be written to \(Not a directory\)"),
        ("/proc", "cannot be written"),
    ],
)
def test_a_spool_directory_that_cannot_be_used_fails_without_retries(tmp_path: Path, place: str, why: str) -> None:
    (tmp_path / "file").touch()
    resource = FoundryContainerResource(spool_directory=str(tmp_path / place))
    message = _failure({"foundry_container": resource}, tmp_path)
    assert re.search(f"dataset 'orders': .*the spool directory {tmp_path / place} {why}", message)
    assert "set spool_directory to an existing directory" in message


@pytest.mark.parametrize(("place", "why"), [("file", "Not a directory"), ("/proc", "No such file or directory")])
def test_a_store_that_cannot_be_used_fails_without_retries(tmp_path: Path, place: str, why: str) -> None:
    (tmp_path / "file").touch()
    store = FoundryParquetIOManager(base_dir=str(tmp_path / place / "store"))
    message = _failure({"foundry_container": RESOURCE, "io_manager": store}, tmp_path)
    assert re.search(rf"dataset 'orders': .*{place}/store/orders cannot be written to \({why}\); set base_dir", message)


def test_a_resource_of_another_type_fails_without_retries(tmp_path: Path) -> None:
    message = _failure({"foundry_container": FDTCC()}, tmp_path)
    assert "dataset 'orders': the resource 'foundry_container' is <FoundryDevToolsContainerClient>; " in message
    assert "give a FoundryContainerResource" in message


@pytest.mark.parametrize(
    ("kind", "arguments", "remedy"),
    [
        (FoundryContainerResource, {"port": dg.EnvVar("P")}, 'give dg.EnvVar.int("P")'),
        (FoundryContainerResource, {"max_bytes": dg.EnvVar("P")}, 'give dg.EnvVar.int("P")'),
        (FoundryContainerResource, {"open_timeout": dg.EnvVar("P")}, 'give os.environ["P"]'),
        (FoundryContainerResource, {"retry_delay": dg.EnvVar.int("P")}, 'give os.environ["P"]'),
        (FoundryContainerResource, {"secure": dg.EnvVar("P")}, 'give os.environ["P"]'),
        (FoundryContainerResource, {"transport": dg.EnvVar("P")}, 'give os.environ["P"]'),
        (FoundryParquetIOManager, {"preview_rows": dg.EnvVar("P")}, 'give dg.EnvVar.int("P")'),
    ],
)
def test_a_variable_of_the_wrong_kind_is_refused_with_what_to_give(
    kind: Callable[..., object], arguments: dict[str, Any], remedy: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(remedy)):
        kind(**arguments)


def test_what_takes_a_variable_gets_it() -> None:
    class Own(FoundryContainerResource):
        transport: str = "csv"  # type: ignore[assignment]  # any text
        open_timeout: int = 3

    number: Any = dg.EnvVar.int("P")
    assert isinstance(FoundryContainerResource(secure=number).secure, type(number))
    own = Own(transport=dg.EnvVar("T"), open_timeout=number)
    assert isinstance(own.transport, dg.EnvVar)
    assert isinstance(own.open_timeout, type(number))


def test_a_subclass_says_which_settings_it_knows() -> None:
    class ByName(FoundryParquetIOManager):
        model_config = ConfigDict(populate_by_name=True)

    class Lenient(FoundryParquetIOManager):
        model_config = ConfigDict(extra="ignore")

    class Renamed(FoundryParquetIOManager):
        team: str = Field("sales", validation_alias=AliasChoices("team", "squad"))

    options: dict[str, Any] = {"cloud_storage_options": {"key": dg.EnvVar("KEY")}}
    other: dict[str, Any] = {"other": 1}
    squad: dict[str, Any] = {"squad": "returns"}
    assert ByName(base_dir="data", **options).cloud_storage_options == options["cloud_storage_options"]
    assert Lenient(base_dir="data", **other).base_dir == "data"
    assert Renamed(**squad).team == "returns"


def test_a_misspelled_setting_of_the_store_is_told_which_one_is_meant() -> None:
    with pytest.raises(ValueError, match=r"'basedir' is not known here; .*; did you mean 'base_dir'\?"):
        FoundryParquetIOManager(basedir="data")


@pytest.mark.parametrize(
    ("arguments", "value", "message"),
    [
        ({"host": dg.EnvVar("CONTAINER")}, "localhost:8888", "give host='localhost', port=8888"),
        ({"port": dg.EnvVar.int("CONTAINER")}, "0", "port=0 must be an integer from 1 to 65535"),
    ],
)
def test_a_host_of_the_environment_is_checked_when_the_run_begins(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], value: str, message: str
) -> None:
    monkeypatch.setenv("CONTAINER", value)
    resources = {"foundry_container": FoundryContainerResource(**arguments), "io_manager": dg.mem_io_manager}
    (asset,) = build_foundry_assets([ORDERS], retry_policy=_Retries(max_retries=2))
    with pytest.raises(Exception, match="Error executing resource_fn") as caught:
        dg.materialize([asset], partition_key="2026-01-01", resources=resources)
    assert message in str(caught.value.__cause__)
