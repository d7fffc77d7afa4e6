from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click
import pytest

from fdtcc_dagster.cli.calendar import parse_duration, parse_rule
from fdtcc_dagster.errors import ScheduleError
from fdtcc_dagster_tests.cli.conftest import Run

SINCE = ("--since", "2026-01-15")
YAML = """\
type: fdtcc_dagster.FoundryDatasetsComponent
attributes:
  datasets:
    - name: orders
      schedule: {refreshs: [{cycle: weekly, day: Monday, time: "04:00:00"}], buffer: 1h}
      start: 2026-01-01
  from_toml:
    - path: foundry_datasets.toml
      schedule: {refreshs: [{cycle: daily, time: "04:00:00"}]}
      start: 2026-01-01
  resource: {host: "{{ env.NO_SUCH_VARIABLE }}"}
---
type: somebody.elses.Component
attributes: {since: 2026-02-30}
"""
MODULE = """\
import datetime as dt
import fdtcc_dagster as fd

WEEKLY = fd.Schedule([fd.Refresh("weekly", "Monday", "04:00:00")])
orders = fd.FoundryDataset("orders", WEEKLY, "2026-01-01")
others = [fd.FoundryDataset("events", WEEKLY, "2026-01-01", time_column="at"), orders]
defs = fd.build_foundry_definitions(
    [orders, fd.FoundryDataset("customers", WEEKLY, "2026-01-01")], resource=fd.FoundryContainerResource()
)
"""


def test_a_rule_becomes_keys_windows_ticks_and_crons(run: Run) -> None:
    done = run("calendar", "monthly -1 02:00", "weekly friday 08:00:00", *SINCE, "--count", 3, "--buffer", "1h30m")
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "monthly -1 02:00, weekly friday 08:00:00\n"
        "  calendar    last day of each month 02:00; every Friday 08:00 (UTC, data 1 h 30 min later)\n"
        "  partitions  0 0 L * 5\n"
        "  schedule    30 3 L * * | 30 9 * * 5\n"
        "key         window from                window to                  requested at\n"
        "2026-01-09  2026-01-09T09:30:00+00:00  2026-01-16T08:00:00+00:00  2026-01-09T09:30:00+00:00\n"
        "2026-01-16  2026-01-16T09:30:00+00:00  2026-01-23T08:00:00+00:00  2026-01-16T09:30:00+00:00\n"
        "2026-01-23  2026-01-23T09:30:00+00:00  2026-01-30T08:00:00+00:00  2026-01-23T09:30:00+00:00\n"
    )


def test_the_same_as_json(run: Run) -> None:
    done = run("calendar", "quarterly 2 1 06:00", "--timezone", "Europe/Berlin", *SINCE, "--count", 1, "--json")
    (dataset,) = done.json["datasets"]
    assert dataset["partitions"] == [
        {
            "key": "2025-11-01",
            "from_dt": "2025-11-01T08:00:00+01:00",
            "to_dt": "2026-02-01T06:00:00+01:00",
            "available_at": "2025-11-01T08:00:00+01:00",
            "requested_at": ["2025-11-01T08:00:00+01:00"],
        }
    ]
    assert (dataset["timezone"], dataset["buffer_seconds"]) == ("Europe/Berlin", 7200)
    assert dataset["schedule_crons"] == ["0 8 1 2,5,8,11 *"]


def test_the_datasets_of_a_module(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "of_a_user.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    done = run("calendar", "-m", "of_a_user", *SINCE, "--count", 1, "--json")
    assert [(each["dataset"], each["slices"]) for each in done.json["datasets"]] == [
        ("orders", False),
        ("events", True),
        ("customers", False),
    ]


def test_the_datasets_of_a_defs_yaml(run: Run, tmp_path: Path) -> None:
    (tmp_path / "defs.yaml").write_text(YAML)
    (tmp_path / "foundry_datasets.toml").write_text('[datasets]\ncustomers = "1"\n')
    done = run("calendar", tmp_path / "defs.yaml", *SINCE, "--count", 1, "--json")
    assert done.code == 0
    assert [(each["dataset"], each["schedule_crons"]) for each in done.json["datasets"]] == [
        ("orders", ["0 5 * * 1"]),
        ("customers", ["0 6 * * *"]),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give rules, or a defs.yaml, or -m MODULE"),
        (["daily 02:00", "-m", "json"], "give rules, or a defs.yaml, or -m MODULE"),
        (["-m", "json", "--buffer", "2h"], "go with rules only"),
        (["-m", "json"], "'json' has no FoundryDataset"),
        (["-m", "no_such_module"], "No module named 'no_such_module'"),
        (["monthly 77 02:00"], "day=77"),
        (["weekly Fryday 02:00"], "did you mean 'Friday'"),
        (["daily 02:00", "--timezone", "Europe/Berlyn"], "Europe/Berlin"),
        (["daily 02:00", "--since", "soon"], "--since='soon' is not an ISO 8601"),
        (["daily 02:00", "--since", "0001-01-01"], "--since 0001-01-01 is not in the years 1900 to 8998"),
        (["daily 02:00", "--since", "9999-01-01"], "--since 9999-01-01 is not in the years 1900 to 8998"),
        (["daily 02:00", "--buffer", "9999999999d"], "is no duration"),
        (["dayly 02:00"], "cycle='dayly' is unknown"),
        (["daily 6"], "to '23:59:59'; did you mean '06:00:00'"),
        (["daily 02:00", "--timezone", "CEST"], "give the region"),
        (["some.py"], "'some.py' is no rule; give daily TIME, "),
        (["some.py"], "; or a Python module by -m"),
        (["x.yaml"], "'x.yaml': No such file"),
        (["bad.yaml"], "refreshs.0: day=77 of a monthly refresh"),
        (["empty.yaml"], "no document of type"),
        (["broken.yaml"], "'broken.yaml' is not YAML"),
        (["date.yaml"], "'date.yaml', line 6, datasets.0.start: '2026-02-30' is no date"),
        (["tag.yaml"], "'tag.yaml' is not YAML: the value does not fit the tag !!int (line 2, column 4)"),
        (["list.yaml"], "'list.yaml', line 2: attributes is no mapping"),
    ],
)
def test_a_mistake_is_a_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    (tmp_path / "bad.yaml").write_text(YAML.replace("weekly, day: Monday", "monthly, day: 77"))
    (tmp_path / "empty.yaml").write_text("type: other")
    (tmp_path / "broken.yaml").write_text("{")
    (tmp_path / "date.yaml").write_text(YAML.replace("2026-01-01", "2026-02-30", 1))
    (tmp_path / "list.yaml").write_text(YAML.partition("\n")[0] + "\nattributes: [5]\n")
    (tmp_path / "tag.yaml").write_text("type: other\na: !!int x\n")
    monkeypatch.chdir(tmp_path)
    done = run("calendar", *arguments)
    assert done.code == (9 if arguments == ["x.yaml"] else 2)
    assert done.out == ""
    assert message in done.err


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("daily 02:00", {"cycle": "daily", "time": "02:00:00"}),
        ("monthly -1 02:00:30", {"cycle": "monthly", "day": -1, "time": "02:00:30"}),
        ("yearly 12 31 23:59", {"cycle": "yearly", "month": 12, "day": 31, "time": "23:59:00"}),
        ("quarterly 1 02:00", {"cycle": "quarterly", "day": 1, "time": "02:00:00"}),
    ],
)
def test_a_rule_is_read(rule: str, expected: dict[str, object]) -> None:
    assert parse_rule(rule) == expected


@pytest.mark.parametrize("rule", ["", "monthly", "yearly 1 2 3 02:00"])
def test_what_is_no_rule_says_what_one_is(rule: str) -> None:
    with pytest.raises(ScheduleError, match="is no rule; give daily TIME"):
        parse_rule(rule)


@pytest.mark.parametrize(("text", "minutes"), [("2h", 120), ("90m", 90), ("1d12h", 2160), ("0h", 0), ("1h30min", 90)])
def test_a_duration_is_read(text: str, minutes: int) -> None:
    assert parse_duration(text) == timedelta(minutes=minutes)


@pytest.mark.parametrize("text", ["", "2", "-2h", "h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match="no duration"):
        parse_duration(text)
