"""What the pages call: whatever can go wrong, for short, and what a user then reads of it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import os
import re
import shlex
import shutil
import socket
import ssl
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import trustme
from aiohttp import web
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from upath import UPath

import fdtcc_dagster
from fdtcc_dagster import (
    FDTCC,
    FoundryContainerResource,
    FoundryDataset,
    FoundryParquetIOManager,
    Refresh,
    Schedule,
)
from fdtcc_dagster.automation import (  # noqa: F401  for the pages
    build_foundry_automation_sensors,
    foundry_automation_condition,
    foundry_freshness_policy,
)
from fdtcc_dagster.calendar.partition_mapping import RefreshPartitionMapping  # noqa: F401
from fdtcc_dagster.checks.file_checks import build_foundry_file_checks
from fdtcc_dagster.cli.main import main
from fdtcc_dagster.client.endpoint import identity_of
from fdtcc_dagster.client.locks import exclusive
from fdtcc_dagster.components import FoundryDatasetsComponent
from fdtcc_dagster.datasets_toml import datasets_from_toml
from fdtcc_dagster.pandas_csv.source import CsvSource
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster.storage import partition_file
from fdtcc_dagster.window import Window
from fdtcc_dagster_tests.client.test_connection_errors import answering
from fdtcc_dagster_tests.midday import TODAY, ZONE
from fdtcc_dagster_tests.security.serving import http_server
from fdtcc_dagster_tests.site import Site, partitions, refetch, step_failure
from fdtcc_dagster_tests.tcp_proxy import NetworkFault, TcpProxy

UTC = dt.timezone.utc
PAST = ("2020-01-01T00:00:00+00:00", "2020-01-02T00:00:00+00:00")
OPEN = ("2020-01-01T00:00:00+00:00", "2099-01-01T00:00:00+00:00")
"""A window that contains now for a while."""
_DAY = r"TODAY(?:[+-]\d+)?"
_SHORT: dict[str, Any] = {"attempts": 1, "open_timeout": 5.0, "idle_timeout": 5.0, "retry_delay": 0.01}


class Scene:
    """A container with the dataset `orders`, a directory, and an instance of Dagster when it is first needed.

    Its methods are what the pages call, by their names.
    """

    def __init__(self, container: SandboxContainer, directory: Path, stack: contextlib.ExitStack) -> None:
        self._container, self._directory, self._stack = container, directory, stack
        self._instance: dg.DagsterInstance | None = None
        self._runs: Site | None = None
        self._ports = {container.port}
        container.set_live("orders", "id\n1\n2\n")
        container.add_version("orders", dt.datetime(2019, 1, 1, tzinfo=UTC), "id\n1\n")
        (directory / "folder.csv").mkdir()
        (directory / "foundry_datasets.toml").write_text('[datasets]\norders = "x"\n')
        # The waits between attempts are shown, and differ.
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("fdtcc_dagster.client.retry.random.uniform", lambda *_: 0.0)

    def say(self, call: str) -> str:
        """What a call says: what it logs, and what it returns or raises."""
        records: list[logging.LogRecord] = []
        handler = logging.Handler(logging.WARNING)
        handler.emit = records.append  # type: ignore[method-assign, assignment]
        logger = logging.getLogger("fdtcc_dagster")
        logger.addHandler(handler)
        try:
            found = eval(call, self.names())  # noqa: S307  our own pages
            said = "" if found is None else "\n".join(found) if isinstance(found, list) else str(found)
        except Exception as error:  # noqa: BLE001  what is read is any error
            said = f"{type(error).__name__}: {error}"
        finally:
            logger.removeHandler(handler)
        lines = [f"{record.levelname}: {record.getMessage()}" for record in records]
        return self._always_the_same("\n".join([*lines, said]).strip())

    def names(self) -> dict[str, Any]:
        """The names that pages use: those of the package, and what can go wrong."""
        own = {name: getattr(self, name) for name in dir(type(self)) if not name.startswith("_")}
        return {
            **{name: getattr(fdtcc_dagster, name) for name in fdtcc_dagster.__all__},
            **globals(),
            **own,
            "DIR": str(self._directory),
            "PORT": self._container.port,
        }

    def _always_the_same(self, text: str) -> str:
        """Leave out what differs between two days, machines and versions."""
        text = text.replace(str(self._directory), "DIR").replace(os.path.expanduser("~"), "~")
        for port in self._ports:
            text = re.sub(rf"\b{port}\b", "8888", text)
        text = re.sub(r"(?<=\b0)\.\d+(?= s\b)", "", text)
        for days in range(-40, 40):
            date = (TODAY + dt.timedelta(days=days)).isoformat()
            text = text.replace(date, f"TODAY{days:+}" if days else "TODAY")
        # At night, days are those of another zone: see `fdtcc_dagster_tests.midday`.
        text = re.sub(rf"({_DAY}[T ]\d\d:\d\d:\d\d)[+-]\d\d:\d\d", r"\1", text)
        text = re.sub(rf"{_DAY}[T ]\d\d:\d\d:\d\d\.\d+(?:\+00:00)?|(?<=It is ){_DAY}T\d\d:\d\d:\d\d", "NOW", text)
        text = re.sub(r"between '[^']*' and '[^']*'", "between '…' and '…'", text)
        text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", "NOW", text)
        text = re.sub(r"after \d+ bytes", "after … bytes", text)
        text = re.sub(r"(took|answered after) [\d.]+ s\b", r"\1 … s", text)
        text = re.sub(r"(?!0{64})[0-9a-f]{64}", "<sha256>", text)
        # Polars 1 wraps errors of what it reads: docs/adr/0002-csv-in-blocks.md
        text = text.replace("ComputeError: caught exception during execution of a Python source, exception: ", "")
        return "\n".join(line.rstrip() for line in text.splitlines())

    # Declarations

    def toml(self, text: str | bytes, **arguments: Any) -> Any:
        """The datasets of a file of the container."""
        path = self._directory / "foundry_datasets.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        settings = {"schedule": DAILY, "start": "2026-01-01", **arguments}
        return [dataset.name for dataset in datasets_from_toml(path, **settings)]

    def yaml(self, text: str, **scope: Any) -> Any:
        """A component of the attributes of a `defs.yaml`, and its definitions."""
        values = {**FoundryDatasetsComponent.get_additional_scope(), **scope}
        component = FoundryDatasetsComponent.resolve_from_yaml(text, scope=values)
        component.build_defs(dg.ComponentTree.for_test().load_context)

    def check_yaml(self, attributes: dict[str, Any]) -> list[str]:
        """What `dg check yaml` and editors say, which go by the JSON schema alone."""
        model = FoundryDatasetsComponent.get_model_cls()
        assert model is not None
        errors = Draft202012Validator(model.model_json_schema()).iter_errors(attributes)
        return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors]

    # The command line

    def fdtcc(self, command: str) -> str:
        """Run the command; what it says, and its exit code."""
        command = command.replace("CONTAINER", f"127.0.0.1:{self._container.port}").replace("DIR", str(self._directory))
        with _environment(FDTCC_CONTAINER=None, FDTCC_BEARER_TOKEN=None):
            done = CliRunner().invoke(main, shlex.split(command), prog_name="fdtcc")
        return f"{done.stdout}{done.stderr}".strip() + (f"\nexit code {done.exit_code}" if done.exit_code else "")

    def schema(self, command: str, text: str) -> str:
        """Run the command with a file `schema.yaml`."""
        (self._directory / "schema.yaml").write_text(text)
        return self.fdtcc(command)

    def nobody(self) -> str:
        """An address at which nobody listens."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        self._ports.add(port)
        return f"127.0.0.1:{port}"

    # The client

    def pull(
        self,
        *given: faults.Fault,
        name: str = "orders",
        window: Sequence[str] = OPEN,
        live: str | None = None,
        transport: Any = "csv",
        network: Mapping[Any, NetworkFault] | None = None,
        on_message: Any = None,
        **client: Any,
    ) -> list[str]:
        """Pull from the container with some faults; what the client logs, and the snapshot's rows."""
        with contextlib.ExitStack() as stack:
            # A new one, which has no version of what is live.
            container = stack.enter_context(SandboxContainer(keepalive_interval=0.05))
            container.set_live("orders", live or "id\n1\n2\n")
            for each in given:
                container.inject(None if isinstance(each, faults.HandshakeFault) else name, each, None)
            address = (container.host, container.port)
            self._ports.add(container.port)
            if network:
                proxy = stack.enter_context(TcpProxy(*address))
                for kind, fault in network.items():
                    proxy.inject(kind, fault, None)
                address = (proxy.host, proxy.port)
                self._ports.add(proxy.port)
            return self._pulled(FDTCC(*address, **{**_SHORT, **client}), name, window, transport, on_message)

    def pull_from(self, *answers: bytes, **client: Any) -> list[str]:
        """Pull from something that answers each request with the next of these bytes."""
        with answering(*answers) as (port, _):
            self._ports.add(port)
            return self._pulled(FDTCC("127.0.0.1", port, **{**_SHORT, **client}), "orders", OPEN)

    def download(self, answer: bytes, **client: Any) -> Any:
        """Download from something that answers with these bytes; `download` of the client logs why it fails."""
        said: list[str] = []
        with answering(answer) as (port, _):
            self._ports.add(port)
            settings = {**_SHORT, **client, "log_func": lambda _, text: said.append(text)}
            asyncio.run(FDTCC("127.0.0.1", port, **settings).download("0" * 64))
        return said[-1:]

    def check(self, *names: str, **client: Any) -> Any:
        """Check the container."""
        return asyncio.run(FDTCC(self._container.host, self._container.port, **{**_SHORT, **client}).check(names))

    def check_server(self, answer: Callable[[], web.Response], *, tls: bool = False, **client: Any) -> Any:
        """Check an HTTP server that is no container."""

        async def handle(_: web.Request) -> web.StreamResponse:
            return answer()

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
        if context:
            trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
        with http_server(handle, context) as port:
            self._ports.add(port)
            return asyncio.run(FDTCC("127.0.0.1", port, **{**_SHORT, **client}).check())

    def check_other_port(self, *, is_there: bool) -> Any:
        """Check a port where nobody listens, while a container may be at the one that it is taken for."""
        refusing, other = (int(self.nobody().rpartition(":")[2]) for _ in range(2))
        other = self._container.port if is_there else other
        with pytest.MonkeyPatch.context() as patch:
            ports = {refusing: "the reference client's default", other: "where the container's own image listens"}
            patch.setattr("fdtcc_dagster.client.health.PORTS", ports)
            return asyncio.run(FDTCC("127.0.0.1", refusing, **_SHORT).check())

    def check_without_address(self, names: str) -> str:
        """Run `fdtcc check` with names alone, where the container is at the default address."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fdtcc_dagster.cli.container.DEFAULT_PORT", self._container.port)
            return self.fdtcc(f"check {names}")

    def check_slow(self) -> str:
        """Check a container whose handshake is slow."""
        self._container.inject(None, faults.SlowHandshake(0.1))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fdtcc_dagster.cli.check._SLOW_SECONDS", 0.05)
            return self.fdtcc("check CONTAINER")

    def check_silent(self) -> Any:
        """Check a server that never answers."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            self._ports.add(port := silent.getsockname()[1])
            return asyncio.run(FDTCC("127.0.0.1", port, open_timeout=0.2).check())

    def pull_from_silent(self) -> list[str]:
        """Pull from a server that never answers."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            self._ports.add(port := silent.getsockname()[1])
            return self._pulled(FDTCC("127.0.0.1", port, attempts=1, open_timeout=0.2), "orders", OPEN)

    def pull_from_nobody(self, **client: Any) -> list[str]:
        """Pull where nobody listens."""
        host, _, port = self.nobody().partition(":")
        return self._pulled(FDTCC(host, int(port), **{**_SHORT, **client}), "orders", OPEN)

    def get_single(self, name: str = "orders", schema: Any = None, **client: Any) -> None:
        """What the documented call logs as warnings."""
        address = (self._container.host, self._container.port)
        asking = FDTCC(*address, **{**_SHORT, **client}).get_single(None, name, *PAST, schema_overwrite=schema)
        asyncio.run(asking)

    def pull_silently(self) -> list[str]:
        """What a pull says while the container says nothing."""
        said: list[str] = []
        with SandboxContainer() as container, pytest.MonkeyPatch.context() as patch:
            patch.setattr("fdtcc_dagster.client.pull._LEAST_SILENCE", 0.3)
            container.set_live("orders", "id\n1\n")
            container.inject("orders", faults.Silence(1))
            client = FDTCC(container.host, container.port, **{**_SHORT, "idle_timeout": 0.5})
            with contextlib.suppress(fdtcc_dagster.IdleTimeoutError):
                client.pull_sync("orders", *OPEN, directory=self._directory, on_notice=_texts(said))
        return said[:1]

    def pull_while_another_does(self) -> list[str]:
        """What a pull says that waits for another one."""
        said: list[str] = []
        address = (self._container.host, self._container.port)

        async def wait() -> None:
            client = FDTCC(*address, **_SHORT)
            async with exclusive(identity_of(*address), "orders", _nothing, 5.0, None):
                pulling = client.pull("orders", *OPEN, directory=self._directory, on_notice=_texts(said))
                task = asyncio.ensure_future(pulling)
                while not said:
                    await asyncio.sleep(0.01)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

        asyncio.run(wait())
        return said

    def _pulled(
        self, client: FDTCC, name: str, window: Sequence[str], transport: Any = "csv", on_message: Any = None
    ) -> list[str]:
        said: list[str] = []
        snapshot = asyncio.run(
            client.pull(
                name,
                *window,
                directory=self._directory,
                transport=transport,
                on_message=on_message,
                on_notice=_texts(said),
            )
        )
        return [*said, f"{snapshot.scan().collect().height} rows"]

    # Data

    def csv(
        self,
        data: str | bytes,
        schema: Any = None,
        announced: int | None = None,
        longest: int = 1 << 20,
        gone: bool = False,
    ) -> Any:
        """Read a CSV of the dataset `orders`, with a schema or types that are inferred."""
        path = self._directory / "snapshot.csv"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        window = Window.of("2026-01-05T00:00:00Z", "2026-01-12T00:00:00Z")
        source = CsvSource(lambda: path.open("rb"), announced, "orders", window, max_record_bytes=longest)
        typed = source.typed(
            None if schema is None else fdtcc_dagster.FoundryDataset("orders", DAILY, "2026-01-01", schema).schema
        )
        with typed.errors():
            if gone:
                path.unlink()
            typed.scan().collect()
        return "no error"

    # Runs

    @property
    def instance(self) -> dg.DagsterInstance:
        """An instance of Dagster."""
        if self._instance is None:
            self._instance = self._stack.enter_context(dg.instance_for_test())
        return self._instance

    def run(
        self,
        dataset: FoundryDataset,
        *keys: str,
        given: Sequence[faults.Fault] = (),
        live: str = "id\n1\n2\n",
        log: bool = False,
        times: int = 1,
        **arguments: Any,
    ) -> list[str]:
        """Materialize partitions: why it fails, or what its run log says; of several runs that of the last one."""
        with SandboxContainer(keepalive_interval=0.05) as container:
            container.set_live(dataset.name, live)
            for fault in given:
                container.inject(dataset.name, fault, None)
            site = self._site()
            site.container = container
            self._ports.add(container.port)
            for _ in range(times):
                result = site.run(dataset, keys, **arguments)
        lines = [
            f"{logging.getLevelName(record.level)}: {record.user_message}"
            for record in self.instance.all_logs(result.run_id)
            if record.dagster_event is None
        ]
        text = [] if result.success else _failure(result)
        return [*lines, *text] if log else text or lines

    def _site(self) -> Site:
        """What runs use; they share a store, so that a later run finds what an earlier one has stored."""
        if self._runs is None:
            directory = self._directory / "run"
            directory.mkdir()
            self._runs = Site(self._container, directory, self.instance)
        return self._runs

    def run_with(self, dataset: FoundryDataset, keys: Sequence[str], **resources: Any) -> list[str]:
        """Materialize partitions with other resources: why it fails."""
        (asset,) = fdtcc_dagster.build_foundry_assets([dataset], retry_policy=None)
        result = dg.materialize(
            [asset],
            resources={**self._site().resources(), **resources},
            instance=self.instance,
            raise_on_error=False,
            **partitions(keys),
        )
        return _failure(result)

    # Storage

    def asset(self, returned: object, *keys: str, metadata: Any = None, base_dir: str = "store", **kinds: Any) -> Any:
        """Materialize an asset of one's own that returns something, and read it from another one if it is stored."""
        days = dg.DailyPartitionsDefinition("2024-01-01") if keys else None

        def numbers() -> Any:
            return returned

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)
            single = dg.BackfillPolicy.single_run()
            made: Any = dg.asset(partitions_def=days, metadata=metadata, backfill_policy=single, **kinds)(numbers)
        store = FoundryParquetIOManager(base_dir=base_dir if "://" in base_dir else str(self._directory / base_dir))
        result = dg.materialize(
            [made],
            resources={"io_manager": store},
            instance=self.instance,
            raise_on_error=False,
            **(partitions(keys) if keys else {}),
        )
        logged = [each.user_message for each in self.instance.all_logs(result.run_id) if each.dagster_event is None]
        return [*logged, *([] if result.success else _failure(result))]

    def read(self, *, damage: bool = False, remove: bool = False) -> list[str]:
        """Store a partition, read it and verify its file; before that the file is damaged or removed."""
        store = FoundryParquetIOManager(base_dir=str(self._directory / "store"))
        store.setup_for_execution(dg.build_init_resource_context())
        key, file = dg.AssetKey("orders"), self._directory / "store" / "orders" / "2026-01-05.parquet"
        store.store_partition(key, "2026-01-05", pl.LazyFrame({"id": range(1000)}))
        if damage:
            data = bytearray(file.read_bytes())
            data[len(data) // 4] ^= 1
            file.write_bytes(data)
        if remove:
            file.unlink()
        path = UPath(file)
        if damage:
            partition_file.verify(path)
        return [str(store.scan_df_from_path(path, dg.build_input_context(asset_key=key)).collect().height)]

    # Automation

    def ticked(
        self, sensor: dg.SensorDefinition, dataset: FoundryDataset, status: Any = None, key: str | None = None
    ) -> str:
        """Why a sensor requests nothing, or what it requests; with a status there is a run of the sensor already."""
        (asset,) = fdtcc_dagster.build_foundry_assets([dataset])
        if key:
            asset = asset.with_attributes(asset_key_replacements={asset.key: dg.AssetKey(key)})
        repository = dg.Definitions(
            assets=[asset], sensors=[sensor], resources={"foundry_container": RESOURCE}
        ).get_repository_def()
        with dg.DagsterInstance.ephemeral() as instance:
            if status:
                job = repository.get_implicit_global_asset_job_def()
                tags = {"dagster/partition": day(0), "dagster/sensor_name": "foundry_sensor"}
                selection = frozenset([asset.key])
                instance.create_run_for_job(job, status=status, tags=tags, asset_selection=selection)
            with dg.build_sensor_context(instance, repository_def=repository) as context:
                tick = sensor.evaluate_tick(context)
        return tick.skip_message or f"requests {len(tick.run_requests or [])}"

    def scheduled(self, dataset: FoundryDataset, at: dt.datetime) -> str:
        """Why a schedule requests nothing at an instant, or what it requests."""
        (schedule,) = fdtcc_dagster.build_foundry_schedules([dataset])
        repository = dg.Definitions(
            assets=fdtcc_dagster.build_foundry_assets([dataset]),
            schedules=[schedule],
            resources={"foundry_container": RESOURCE},
        ).get_repository_def()
        context = dg.build_schedule_context(self.instance, scheduled_execution_time=at, repository_def=repository)
        assert isinstance(schedule, dg.ScheduleDefinition)
        tick = schedule.evaluate_tick(context)
        return tick.skip_message or f"requests {', '.join(str(each.run_key) for each in tick.run_requests or [])}"

    def checked(
        self, dataset: FoundryDataset, *keys: str, live: str, config: Any = None, **arguments: Any
    ) -> list[str]:
        """What the checks of stored partitions say."""
        with SandboxContainer() as container:
            container.set_live(dataset.name, live)
            site = self._site()
            site.container = container
            result = site.run(dataset, keys, *fdtcc_dagster.build_foundry_checks([dataset], **arguments), config=config)
        return [
            f"{each.check_name}: {'passed' if each.passed else each.severity.value}: {each.description}"
            for each in result.get_asset_check_evaluations()
        ]

    def files_checked(self, harm: Callable[[Path], object]) -> list[str]:
        """What the check of files says after something was done to the file of today's partition."""
        site = self._site()
        with SandboxContainer() as container:
            container.set_live("orders", "id\n1\n2\n")
            site.container = container
            assert site.run(DAYS, day(0), config=refetch("orders")).success
        harm(site.file(day(0)))
        result = dg.materialize(
            build_foundry_file_checks([DAYS]),
            resources=site.resources(),
            instance=self.instance,
            selection=dg.AssetSelection.all_asset_checks(),
            raise_on_error=False,
        )
        return [f"passed: {each.passed}: {each.description}" for each in result.get_asset_check_evaluations()]

    # The sandbox

    def sandbox(self, *files: str) -> Any:
        """A sandbox of a directory with some files; those that it ignores."""
        root = self._directory / "sandbox"
        shutil.rmtree(root, ignore_errors=True)
        for name in files:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("id\n1\n")
        return [str(path.relative_to(root)) for path in SandboxContainer(root).ignored]

    def restarted(self) -> None:
        """Start a sandbox once more whose data are gone."""
        with SandboxContainer() as container:
            pass
        container.start()

    def started_twice(self) -> None:
        """Start a sandbox that serves already."""
        self._container.start()

    def fault(self, name: str | None, fault: faults.Fault, times: int | None = 1) -> Any:
        """Inject a fault."""
        self._container.inject(name, fault, times)


def _failure(result: dg.ExecuteInProcessResult) -> list[str]:
    """What Dagster's page of a run shows first: without the module of an error, and of what caused it only the end."""
    data = step_failure(result)
    error = data.error if data.user_failure_data else (data.error.cause or data.error)
    return re.sub(r"^[\w.]+\.(?=\w+: )", "", error.message.strip()).splitlines()


def _texts(said: list[str]) -> Callable[[Mapping[str, Any]], None]:
    return lambda message: said.append(str(message["message"]))


async def _nothing() -> None: ...


@contextlib.contextmanager
def _environment(**values: str | None) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    for name, value in values.items():
        patch.delenv(name, raising=False) if value is None else patch.setenv(name, value)
    try:
        yield
    finally:
        patch.undo()


DAILY = Schedule([Refresh("daily", None, "04:00:00")])
HARD = FoundryDataset("orders", Schedule([Refresh("monthly", -2, "04:00:00")]), "2026-01-01")
ORDERS = FoundryDataset("orders", DAILY, "2026-01-01")
RESOURCE = FoundryContainerResource()
UPSTREAM = type("Translator", (fdtcc_dagster.FoundryDatasetTranslator,), {"upstream": True})()
MIDNIGHTS = Schedule([Refresh("daily", None, "00:00:00")], dt.timedelta(0), ZONE)


def negated(dataset: FoundryDataset) -> list[dg.AssetsDefinition]:
    """The asset of a dataset with a condition that contains ours, but does not begin with it."""
    condition = ~foundry_automation_condition(dataset)
    return [
        asset.map_asset_specs(lambda spec: spec.replace_attributes(automation_condition=condition))
        for asset in fdtcc_dagster.build_foundry_assets([dataset])
    ]


def day(number: int) -> str:
    """A date by its distance from today."""
    return (TODAY + dt.timedelta(days=number)).isoformat()


DAYS = FoundryDataset("orders", MIDNIGHTS, day(-9), {"id": "Int64"})
SLICES = FoundryDataset("events", MIDNIGHTS, day(-9), {"id": "Int64", "at": "Datetime(us, UTC)"}, time_column="at")
FUTURE = FoundryDataset("orders", MIDNIGHTS, day(9))
LATE_SLICES = FoundryDataset("events", replace(MIDNIGHTS, buffer=dt.timedelta(hours=23)), day(-9), time_column="at")
LATE = FoundryDataset("orders", replace(MIDNIGHTS, buffer=dt.timedelta(hours=23)), day(-9))
TIMES = "id,at\n" + "".join(f"{number},{day(number - 9)} 06:00:00\n" for number in range(10))
