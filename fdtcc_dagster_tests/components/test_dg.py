"""The component as its user meets it: with `dg` in a project."""

from __future__ import annotations

import json
import re
import socket
from datetime import datetime, timezone
from pathlib import Path

import polars as pl
import pytest

from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster_tests.components.project import Project

TYPE = "fdtcc_dagster.FoundryDatasetsComponent"
GOOD = """\
type: fdtcc_dagster.FoundryDatasetsComponent

attributes:
  resource:
    host: "{{ env.FDTCC_HOST }}"
    port: "{{ env.FDTCC_PORT }}"
  io_manager:
    base_dir: "{{ env.FDTCC_DATA }}"
  datasets:
    - name: foundry.hr.monthly_closings
      start: 2026-01-01
      schedule:
        refreshs:
          - {cycle: weekly, day: friday, time: "08:00:00"}
          - {cycle: monthly, day: -2, time: "22:00:00"}
        timezone: Europe/Berlin
      schema: {id: Int64, amount: "Decimal(12, 2)"}
  from_toml:
    - path: foundry_datasets.toml
      select: ["Customer *"]
      partitions_def: {type: daily, start_date: "2026-01-01", end_offset: 1}
  automation: schedule
  schedules: {max_catchup: 3}
  sensor: true
  checks: true
  freshness: {grace: 2h}
  translation:
    group_name: raw
"""
BAD = """\
type: fdtcc_dagster.FoundryDatasetsComponent

attributes:
  resource:
    port: 99999  # 5: 99999 is greater than or equal to the maximum of 65536
    hots: x  # 6: Additional properties are not allowed ('hots' was unexpected)
  datasets:
    - name: orders
      start: 01.01.2026  # 9: '01.01.2026' does not match
      schedule:
        refreshs:
          - cycle: monthly
            day: [1]  # 13: [1] is not of type 'integer', 'string'
            time: 12:00:00  # 14: 43200 is not of type 'string'
          - cycle: weekly
            day: Monday
            time: "25:00:00"  # 17: '25:00:00' does not match
        buffer: soon  # 18: 'soon' does not match
    - start: 2026-01-01  # 19: 'name' is a required property
      schedule:
        refreshs: [{cycle: fortnightly, time: "08:00:00"}]  # 21: 'fortnightly' is not one of ['daily',
      missing_version: maybe  # 22: 'maybe' is not one of ['raise', 'accept']
    - name: products
      partitions_def: {type: yearly, start: 2026-01-01}  # 24: 'yearly' is not one of ['hourly',
  checks: maybe  # 25: 'maybe' is not of type 'object'
  automation: cron  # 26: 'cron' is not one of ['schedule', 'condition']
  conditions:
    max_catchup: -1  # 28: -1 is less than the minimum of 0
  freshness:
    grace: soon  # 30: 'soon' does not match
"""
UNUSABLE = """\
type: fdtcc_dagster.FoundryDatasetsComponent

attributes:
  resource: {}
  datasets:
    - name: orders
      start: 2026-02-30
      schedule:
        refreshs: [{cycle: daily, time: "08:00:00"}]
        timezone: Europe/Atlantis
"""


def test_the_component_is_listed_with_its_summary(project: Project) -> None:
    result = project.dg("list", "components", "--json")
    listed = json.loads(result.stdout)
    # Newer versions of dg put the list into an object.
    entries = listed["items"] if isinstance(listed, dict) else listed
    (entry,) = [entry for entry in entries if entry["key"] == TYPE]
    assert entry["summary"].startswith("Palantir Foundry datasets")


@pytest.mark.slow
def test_what_is_scaffolded_is_valid_and_can_be_loaded(project: Project, scaffolded: Path) -> None:
    assert "  resource:\n    host: project-fdt-container\n    port: 8888\n" in scaffolded.read_text()
    result = project.dg("check", "yaml")
    assert result.returncode == 0, result.output
    result = project.dg("check", "defs")
    assert result.returncode == 0, result.output


@pytest.mark.slow
def test_the_documented_commands_can_be_pasted_one_after_the_other(tmp_path: Path) -> None:
    documentation = Path(__file__).parents[2] / "docs" / "component.md"
    commands = re.findall(r"```sh\n(.*?)```", documentation.read_text(encoding="utf-8"), re.DOTALL)[0]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    project = Project(tmp_path)
    commands = "trap 'kill $!' EXIT\n" + commands  # whatever fails, the sandbox ends
    result = project.run("sh", "-e", "-c", commands.replace("8888", str(port)))
    assert result.returncode == 0, result.output
    (stored,) = project.root.rglob("2026-01-05.parquet")
    assert pl.read_parquet(stored)["amount"].to_list() == [9.5, 3.0]


def test_errors_of_yaml_point_at_the_line_and_say_what_is_allowed(project: Project, scaffolded: Path) -> None:
    expected = re.findall(r"# (\d+): (.*)", BAD)
    scaffolded.write_text(re.sub(r"  # \d+: .*", "", BAD))
    result = project.dg("check", "yaml", "--no-validate-requirements")
    assert result.returncode == 1
    said = re.findall(r"defs\.yaml:(\d+) - \S+ (?:\S+) (.*)", result.output)
    missing = [(line, text) for line, text in expected if not any(line == at and text in told for at, told in said)]
    assert not missing, result.output
    lines = {line for line, _ in expected}
    assert {line for line, _ in said} == lines, result.output


def test_what_only_python_can_refuse_is_refused_by_check_defs_at_its_line(project: Project, scaffolded: Path) -> None:
    scaffolded.write_text(UNUSABLE)
    result = project.dg("check", "defs", "--no-check-yaml")
    assert result.returncode == 1
    assert re.search(r"datasets\.0\.start at \S+defs\.yaml:7\b", result.output), result.output
    assert "'2026-02-30' is no date; write it like 2026-01-31" in result.output
    assert re.search(r"datasets\.0\.schedule\.timezone at \S+defs\.yaml:10\b", result.output), result.output
    assert "'Europe/Atlantis' is unknown" in result.output


@pytest.mark.slow
def test_a_partition_is_listed_launched_and_stored(project: Project, scaffolded: Path) -> None:
    scaffolded.write_text(GOOD)
    scaffolded.with_name("foundry_datasets.toml").write_text('[datasets]\n"Customer Demographics" = "x"\nother = "y"\n')
    with SandboxContainer() as container:
        container.add_version(
            "foundry.hr.monthly_closings", datetime(2026, 1, 9, 10, tzinfo=timezone.utc), "id,amount\n1,9.5\n2,3.0\n"
        )
        data = project.root / "data"
        environment = {"FDTCC_HOST": container.host, "FDTCC_PORT": str(container.port), "FDTCC_DATA": str(data)}
        result = project.dg("list", "defs", "--json", **environment)
        assert result.returncode == 0, result.output
        listed = json.loads(result.stdout)
        # dg 1.12 calls them "key" and "group".
        assert {
            (asset.get("asset_key", asset.get("key")), asset.get("group_name", asset.get("group")))
            for asset in listed["assets"]
        } == {
            ("customer_demographics", "raw"),
            ("foundry/hr/monthly_closings", "raw"),
        }
        assert [schedule["name"] for schedule in listed["schedules"]] == [
            "customer_demographics_schedule",
            "foundry__hr__monthly_closings_schedule",
        ]
        assert [sensor["name"] for sensor in listed["sensors"]] == ["foundry_sensor"]
        result = project.dg(
            "launch", "--assets", "foundry/hr/monthly_closings", "--partition", "2026-01-09", **environment
        )
    assert result.returncode == 0, result.output
    stored = pl.read_parquet(data / "foundry" / "hr" / "monthly_closings" / "2026-01-09.parquet")
    assert stored.schema == {"id": pl.Int64, "amount": pl.Decimal(12, 2)}
    assert stored["id"].to_list() == [1, 2]
