"""What Dagster says of files that it loads: where the mistake is, and what to do."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import pytest

from fdtcc_dagster.yaml_lines import check
from fdtcc_dagster_tests.components.project import Project

COMPONENT = "type: fdtcc_dagster.FoundryDatasetsComponent\n\nattributes:\n"
DATASET = """\
  datasets:
    - name: NAME
      start: 2026-01-01
      schedule:
        refreshs: [{cycle: daily, time: "08:00:00"}]
"""
REFUSED = """\
  datasets:
    - name: orders
      start: 2026-02-30  # 6: '2026-02-30' is no date; write it like 2026-01-31
      schedule:
        timezone: Europe/Atlantis  # 8: 'Europe/Atlantis' is unknown
        buffer: {hours: many}  # 9: {'hours': 'many'} is no duration; allowed are such as
        refreshs:
          - {cycle: monthly, day: 32, time: "08:00:00"}  # 11: allowed are the integers 1 to 31
          - {cycle: weekly, day: Mondy, time: "08:00:00"}  # 12: did you mean 'Monday'
          - {cycle: weekly, day: Monday, month: 3, time: "08:00:00"}  # 13: month=3 makes no sense for a weekly refresh
          - {cycle: daily, time: 12:00:00}  # 14: YAML needs the quotes
      schema: {id: Int63}  # 15: write 'Int64'
      shedule: daily  # 16: 'shedule' is not known here; allowed are name, schedule,
    - name: customers  # 17: give either a schedule and a start, or a partitions_def
    - name: products
      partitions_def: {type: daily, start: 2026-01-01}  # 19: daily partitions have no start
    - name: stock
      partitions_def: {type: daily, start_date: yesterday}  # 21: 'yesterday' does not match format
    - name: prices
      partitions_def: {type: time_window, start: 2026-01-01}  # 23: time_window partitions need cron_schedule
    - name: invoices
      partitions_def: {type: daily, start_date: 2026-01-01}
      missing_version: null  # 26: should be 'raise' or 'accept'
  retry_policy: {max_retries: many}  # 27: should be a valid integer
  sensor: {lookback: 0}  # 28: greater than or equal to 1
  freshness: {grace: 59s}  # 29: give a minute or more
  checks: {max_row_change: "0.5"}  # 30: should be a valid number
  conditions: {name: ""}  # 31: at least 1 character
  from_toml:
    - path: foundry_datasets.toml
      asset_key: 5  # 34: asset_key=5 must be text with slashes
      schedule:
        refreshs: []  # 36: at least 1 item
      partitions_def:  # 37: time_window partitions have no hour_offset
        {type: time_window, start: 2026-01-01, cron_schedule: "0 0 * * 2", hour_offset: 3}
  resource:
    port: "8888"  # 40: has no quotes in YAML
    open_timeout: "60"  # 41: has no quotes in YAML
    secure: "true"  # 42: has no quotes in YAML
    hots: localhost  # 43: 'hots' is not known here; allowed are host, port,
  io_manager: {preview_rows: "3"}  # 44: has no quotes in YAML
  translation: {grop_name: raw}  # 45: did you mean 'group_name'
  check: true  # 46: did you mean 'checks'
  max_partitions_per_run: 0  # 47: greater than or equal to 1
"""


def refused(root: Path, **files: str) -> str:
    """What is said of files that are refused."""
    project = Project(root)
    for directory, text in files.items():
        path = project.defs / directory / "defs.yaml"
        path.parent.mkdir()
        path.write_text(text)
    with pytest.raises(Exception, match="Error while") as caught:
        project.load()
    return "".join(traceback.format_exception(caught.value))


def test_all_that_python_refuses_is_told_at_once_at_its_lines(tmp_path: Path) -> None:
    said = refused(tmp_path, foundry=COMPONENT + re.sub(r"  # \d+: .*", "", REFUSED))
    errors = re.findall(r"defs\.yaml:(\d+)`?\n(.*)\n", said)
    expected = re.findall(r"# (\d+): (.*)", REFUSED)
    missing = [(line, text) for line, text in expected if not any(line == at and text in told for at, told in errors)]
    assert not missing, said
    assert {line for line, _ in errors} == {line for line, _ in expected}, said


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "      start: 2026-01-02\n",
            r"foundry/defs\.yaml, line 9: the key 'start' is there twice, first in line 6;",
        ),
        (
            "      schema: {id: Int64, id: String}\n",
            r"foundry/defs\.yaml, line 9: the key 'id' is there twice; keep one of them",
        ),
        (
            "      shedule: {}\n",
            r"shedule at \S+defs\.yaml:9`?\n.*'shedule' is not known here; .*mean 'schedule'",
        ),
    ],
)
def test_a_key_that_is_there_twice_or_misspelled_is_told_with_its_line(tmp_path: Path, line: str, told: str) -> None:
    said = refused(tmp_path, foundry=COMPONENT + DATASET.replace("NAME", "orders") + line)
    assert re.search(told, said), said


def test_a_file_is_checked_once_for_all_its_components_and_dates_in_it_are_text(tmp_path: Path) -> None:
    project = Project(tmp_path)
    head, tail = f"{COMPONENT}  resource: {{}}\n", "      description: 2026-02-30\n"
    documents = [head + DATASET.replace("NAME", name) + tail for name in "abc"]
    (project.defs / "defs.yaml").write_text("---\n".join(documents))
    before = check.cache_info()
    specs = project.load().resolve_all_asset_specs()
    assert {spec.key.path[-1]: spec.description for spec in specs} == dict.fromkeys("abc", "2026-02-30")
    after = check.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 2)


@pytest.mark.parametrize(("automation", "options"), [("schedule", "conditions"), ("condition", "schedules")])
def test_options_of_an_automation_that_is_off_are_refused_at_their_line(
    tmp_path: Path, automation: str, options: str
) -> None:
    said = refused(
        tmp_path, foundry=f"{COMPONENT}  resource: {{}}\n  automation: {automation}\n  {options}: {{max_catchup: 2}}\n"
    )
    assert re.search(rf"{options} at \S+defs\.yaml:6\b.*\n.*goes with 'automation: ", said), said


@pytest.mark.parametrize(
    ("ours", "theirs", "remedy"),
    [
        (
            "io_manager: {base_dir: a}",
            "io_manager: {base_dir: b}",
            "resources 'foundry_io_manager': give both the same `io_manager`, or one of them an `io_manager_key` of",
        ),
        (
            "resource: {host: a}",
            "resource: {host: b}",
            "resources 'foundry_container': give `resource` in one of them and leave it out",
        ),
    ],
)
def test_files_with_different_resources_are_named_and_what_to_do(
    tmp_path: Path, ours: str, theirs: str, remedy: str
) -> None:
    said = refused(
        tmp_path,
        ours=f"{COMPONENT}  {ours}\n" + DATASET.replace("NAME", "ours"),
        theirs=f"{COMPONENT}  {theirs}\n" + DATASET.replace("NAME", "theirs"),
    )
    (line,) = [line for line in said.splitlines() if line.startswith("ValueError: ")]
    assert remedy in line
    assert all(f"defs/{directory}" in line for directory in ("ours", "theirs"))


def test_documents_of_one_file_that_give_different_resources_are_refused_with_their_file(tmp_path: Path) -> None:
    documents = [f"{COMPONENT}  resource: {{host: {host}}}\n" + DATASET.replace("NAME", host) for host in "ab"]
    said = refused(tmp_path, foundry="---\n".join(documents))
    told = r"two documents in \S+defs/foundry give different resources 'foundry_container': give `resource` in one of"
    assert re.search(told, said), said


def test_a_variable_that_is_not_set_is_an_error_at_its_line(tmp_path: Path) -> None:
    said = refused(tmp_path, foundry=f'{COMPONENT}  pool: "{{{{ env.FDTCC_POOL }}}}"\n' + DATASET)
    assert re.search(r"defs\.yaml:4 - (attributes\.)?pool\b", said), said
    assert "the environment variable FDTCC_POOL is not set: set it" in said
