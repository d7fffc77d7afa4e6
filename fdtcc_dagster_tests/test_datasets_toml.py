from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fdtcc_dagster import Schedule, ScheduleError, build_foundry_assets
from fdtcc_dagster.datasets_toml import datasets_from_toml, read_dataset_names

ID = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
WEEKLY = Schedule([{"cycle": "weekly", "day": "Monday", "time": "02:00:00"}])
DAILY = Schedule([{"cycle": "daily", "time": "02:00:00"}])
START = "2026-01-01"
NAMES = ["Customer Demographics", "foundry.hr.monthly_closings", "foundry.hr.salaries", "orders [raw]"]

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "foundry_datasets.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def container_file(write: Write) -> Path:
    """The file of a container that knows `NAMES`."""
    entries = "\n".join(f'"{name}" = "{ID}"' for name in NAMES)
    return write(f'prefix = "ri.foundry.main.dataset."\n\n[datasets]\n{entries}\n')


def test_every_name_becomes_a_dataset_with_the_shared_settings(container_file: Path) -> None:
    datasets = datasets_from_toml(container_file, schedule=WEEKLY, start=START, group_name="foundry")
    assert [dataset.name for dataset in datasets] == NAMES
    assert {(dataset.schedule, dataset.group_name) for dataset in datasets} == {(WEEKLY, "foundry")}


def test_the_prefix_is_optional_and_a_path_may_be_text(write: Write) -> None:
    path = write(f"[datasets]\norders = '{ID}'\n")
    assert read_dataset_names(str(path)) == read_dataset_names(path) == ["orders"]


def test_a_byte_order_mark_and_any_letters_are_read(write: Write) -> None:
    assert read_dataset_names(write(f'\ufeff[datasets]\n"Größen 数据" = "{ID}"\n')) == ["Größen 数据"]
    text = f'[größe."x]"]\ntext = """\nö="""\n[datasets]\norders = "{ID}"\nMaße\u00a0= "ö = 1"\n[datasets.größe]\n'
    assert read_dataset_names(write(text)) == ["orders", "Maße"]


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        (f'größe = "{ID}"', "größe"),
        (f"  Umsätze-2024\t= '{ID}'  # ä = b", "Umsätze-2024"),
        (f'数据 = "{ID}"', "数据"),
        ("orders = 4711", "orders"),
        ("orders = 1.5", "orders"),
    ],
)
def test_what_the_service_accepts_is_read(write: Write, entry: str, name: str) -> None:
    path = write(f"[datasets]\n{entry}\n\"foundry.größe\" = '{ID}'\n")
    assert read_dataset_names(path) == [name, "foundry.größe"]


@pytest.mark.parametrize(
    ("entry", "warning"),
    [
        (f'foundry.hr.salaries = "{ID}"', "'foundry', which is left out: it has no id; a name with dots needs quotes"),
        *(
            (f'{key} = "{ID}"', "'foundry', which is left out: it has no id; a name with dots needs quotes")
            for key in ("foundry.größe", '"foundry".größe', 'foundry . größe."# x"', "'foundry'.x.größe")
        ),
        (f'größe."x" = "{ID}"', "'größe', which is left out: it has no id; a name with dots needs quotes"),
        (f'sales = {{ größe = "{ID}" }} # ö="', "'sales', which is left out: it has no id"),
        (f'sales = ["{ID}"]', "'sales', which is left out: it has no id"),
        (f'"" = "{ID}"', "'', which is left out: a dataset's name must be a string that is not empty"),
        (f'"{ID}" = "orders"', "which is left out: a dataset's name is needed"),
    ],
)
def test_an_entry_that_cannot_be_used_is_left_out_with_a_warning(
    write: Write, caplog: pytest.LogCaptureFixture, entry: str, warning: str
) -> None:
    assert read_dataset_names(write(f'[datasets]\n{entry}\norders = "{ID}"\n')) == ["orders"]
    assert warning in caplog.text
    assert "foundry_datasets.toml" in caplog.text
    assert ID not in caplog.text


def test_names_that_lead_to_one_key_have_keys_of_their_own_whatever_is_selected(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    path = write("".join(["[datasets]\n", *(f'"{name}" = "x"\n' for name in ("Größe", "groesse", "GRÖSSE", "b"))]))
    datasets = datasets_from_toml(path, schedule=WEEKLY, start=START)
    keys = [asset.key.to_user_string() for asset in build_foundry_assets(datasets)]
    assert [key.rpartition("_")[0] for key in keys] == ["groesse", "groesse", "groesse", ""]
    assert (len({*keys}), keys[3]) == (4, "b")
    assert "the same asset keys as 'Größe', 'groesse', 'GRÖSSE', so eight hex digits are added" in caplog.text
    (third,) = datasets_from_toml(path, select=["GRÖSSE"], schedule=WEEKLY, start=START)
    assert third == datasets[2]
    (given,) = datasets_from_toml(
        path, select=["GRÖSSE"], schedule=WEEKLY, start=START, overrides={"GRÖSSE": {"asset_key": "size"}}
    )
    assert given.asset_key == dg.AssetKey("size")
    assert caplog.text.count("lead to the same asset keys") == 2  # not where a key is given


def test_a_name_that_joins_leaves_or_moves_gives_no_key_to_another_dataset(write: Write) -> None:
    names = ["Größe", "groesse", "GRÖSSE"]
    owners: dict[object, set[str]] = {}
    for order in (names[:1], names[:2], names[1::-1], names[1:], names):
        path = write("".join(["[datasets]\n", *(f'"{name}" = "x"\n' for name in order)]))
        for dataset in datasets_from_toml(path, schedule=WEEKLY, start=START):
            if dataset.asset_key is not None:
                owners.setdefault(dataset.asset_key, set()).add(dataset.name)
            else:
                assert len(order) == 1  # the plain key, which nobody has beside another name
    assert [*owners.values()] == [{name} for name in names]


@pytest.mark.parametrize(
    ("select", "exclude", "expected"),
    [
        (["foundry.hr.*"], [], NAMES[1:3]),
        (["foundry.hr.*"], ["*.salaries"], NAMES[1:2]),
        (None, ["foundry.*", "orders [raw]"], NAMES[:1]),
        (["orders [raw]", "Customer Demographics"], [], [NAMES[0], NAMES[3]]),
        ([], [], []),
    ],
)
def test_datasets_are_selected_by_names_and_patterns(
    container_file: Path, select: list[str] | None, exclude: list[str], expected: list[str]
) -> None:
    datasets = datasets_from_toml(container_file, select=select, exclude=exclude, schedule=WEEKLY, start=START)
    assert [dataset.name for dataset in datasets] == expected


def test_an_override_replaces_the_shared_setting_of_one_dataset(container_file: Path) -> None:
    datasets = datasets_from_toml(
        container_file, schedule=WEEKLY, start=START, overrides={"foundry.hr.salaries": {"schedule": DAILY}}
    )
    assert [dataset.schedule for dataset in datasets] == [WEEKLY, WEEKLY, DAILY, WEEKLY]


def test_a_partitions_definition_of_one_dataset_replaces_the_shared_schedule_and_start(container_file: Path) -> None:
    monthly = dg.MonthlyPartitionsDefinition("2026-01-01")
    first, second, *_ = datasets_from_toml(
        container_file, schedule=WEEKLY, start=START, overrides={NAMES[0]: {"partitions_def": monthly}}
    )
    assert first.partitions_def is monthly
    assert first.schedule is None
    assert second.schedule == WEEKLY
    first, second, *_ = datasets_from_toml(
        container_file, partitions_def=monthly, overrides={NAMES[1]: {"schedule": WEEKLY, "start": START}}
    )
    assert first.partitions_def is monthly
    assert second.schedule == WEEKLY


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"overrides": {"orders": {}}}, "'orders', which is not in .*foundry_datasets.toml; there are 'Customer"),
        ({"overrides": {NAMES[0]: {}}, "exclude": ["Customer *"]}, "'Customer Demographics', which is not selected"),
        ({"select": ["foundry.sales.*"]}, r"'foundry.sales.\*' fits none of the datasets"),
        ({"exclude": ["foundry.sales.*"]}, r"'foundry.sales.\*' fits none of the datasets"),
    ],
)
def test_a_name_that_fits_no_dataset_is_an_error(container_file: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        datasets_from_toml(container_file, schedule=WEEKLY, start=START, **arguments)


def test_settings_are_checked_as_those_of_a_dataset(container_file: Path) -> None:
    with pytest.raises(ScheduleError, match="'Customer Demographics': start=None"):
        datasets_from_toml(container_file, schedule=WEEKLY)
    with pytest.raises(TypeError, match="strat"):
        datasets_from_toml(container_file, schedule=WEEKLY, strat=START)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'"orders" = "{ID}"\n', r"has no table \[datasets\]"),
        (f'datasets = "{ID}"\n', r"has no table \[datasets\]"),
        (f"[datasets]\norders = {ID}\n", "is not TOML: .* line 2"),
        (
            f'[datasets]\norders = "{ID}"\norders = "{ID}"\n',
            r"\(at line 3, column \d+\): orders is there twice; keep one",
        ),
        (f'[datasets]\norders = "{ID}"\norders = "{ID}"', r"\(at end of document\): orders is there twice; keep one"),
        (f'[datasets]\ngröße = "{ID}"\n"größe" = "{ID}"\n', 'line 3, .*: "größe" is there twice'),
        (f'[datasets]\n"a=b" = "{ID}"\n  "a=b"= "{ID}"\n', ': "a=b" is there twice'),
        (f'[datasets]\n"a\u2028b" = "1"\nx = "{ID}"\ny = "2"\nx = "{ID}"\n', ": x is there twice"),
        (f'datasets = {{orders = "{ID}", orders = "{ID}"}}\n', r"table key 'orders' \(at .*\); keep one of them"),
        (f'datasets = {{"{ID}" = "1", "{ID}" = "1"}}\n', "table key '<uuid>' "),
        (f'datasets = {{a = "{ID}", a.b = "{ID}"}}\n', ": a key is there twice; keep one of them"),
        (f'[datasets]\na = "{ID}"\na = """\nb = {ID}\n"""\n', ": a key is there twice"),
        (f'[datasets]\ngröße = "{ID}"\norders\n', "is not TOML: .* line 3"),
    ],
)
def test_errors_name_the_file_and_no_id(write: Write, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_dataset_names(write(text))
    assert "foundry_datasets.toml" in str(caught.value)
    assert ID not in repr((caught.value, vars(caught.value)))
    assert caught.value.__cause__ is None


def test_a_file_that_is_not_utf_8_or_not_there_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "foundry_datasets.toml"
    with pytest.raises(FileNotFoundError):
        read_dataset_names(path)
    path.write_bytes(b'[datasets]\n"\xff" = "x"\n')
    with pytest.raises(ValueError, match="is not UTF-8"):
        read_dataset_names(path)
