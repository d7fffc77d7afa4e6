"""`fdtcc calendar`: which partitions a calendar gives, their windows, and when they are requested."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fdtcc_dagster.cli.failing import Command, echo_json, json_option

if TYPE_CHECKING:
    from fdtcc_dagster.dataset import FoundryDataset

_DURATION = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m(?:in)?)?")
_TIME = re.compile(r"\d\d:\d\d")
_LINE = re.compile(r" at <string>:\d+")
_RULES = "daily TIME, weekly WEEKDAY TIME, monthly DAY TIME, quarterly [MONTH] DAY TIME or yearly MONTH DAY TIME"


@click.command(
    cls=Command,
    help=f"""List partition keys, their windows, and when they are requested.

    A RULE is {_RULES}. A day counts from the end of the month if it is negative.

    \b
    Examples:
      fdtcc calendar "monthly -1 02:00"
      fdtcc calendar "weekly Friday 08:00" "monthly -2 22:00" --buffer 1h30m --timezone Europe/Berlin
      fdtcc calendar -m my_project.definitions
      fdtcc calendar src/my_project/defs/foundry/defs.yaml --count 3 --json
    """,
)
@click.argument("rules", nargs=-1, metavar="[RULE...|DEFS.YAML]")
@click.option("-m", "--module", metavar="MODULE", help="Take the datasets, assets or definitions of a Python module.")
@click.option("--buffer", metavar="DURATION", help="How long after a refresh its data may be pulled.  [default: 2h]")
@click.option("--timezone", "zone", metavar="ZONE", help="The zone of the rules.  [default: UTC]")
@click.option("--since", metavar="TIME", help="Begin with the partition that is current then.  [default: now]")
@click.option("--count", default=8, show_default=True, type=click.IntRange(1, 1000), help="How many partitions.")
@json_option
def calendar(
    rules: tuple[str, ...],
    module: str | None,
    buffer: str | None,
    zone: str | None,
    since: str | None,
    count: int,
    as_json: bool,
) -> None:
    """List partitions."""
    from fdtcc_dagster.window import bound_of

    files = [Path(rule) for rule in rules if rule.endswith((".yaml", ".yml"))]
    if (bool(rules) == bool(module)) or (files and len(files) != len(rules)):
        raise click.UsageError("give rules, or a defs.yaml, or -m MODULE")
    if (buffer or zone) and (module or files):
        raise click.UsageError("--buffer and --timezone go with rules only: the datasets have their own")
    moment = datetime.now(timezone.utc)
    if since is not None:
        moment = bound_of("--since", since, timezone.utc)
        if not 1900 <= moment.year < 8999:
            raise click.UsageError(f"--since {since} is not in the years 1900 to 8998")
    if module is not None:
        datasets = _of_module(module)
    elif files:
        datasets = [dataset for file in files for dataset in _of_file(file)]
    else:
        datasets = [_of_rules(rules, buffer, zone or "UTC", moment)]
    shown = [_described(dataset, moment, count) for dataset in datasets]
    if as_json:
        echo_json({"ok": True, "datasets": shown})
    else:
        click.echo("\n\n".join(map(_table, shown)))


def parse_rule(rule: str) -> dict[str, object]:
    """Read a rule such as `"monthly -1 02:00"` into the dictionary of a `Refresh`.

    Raises:
        ScheduleError: It is none.
    """
    from fdtcc_dagster.errors import ScheduleError

    cycle, *numbers, time = rule.split() if len(rule.split()) > 1 else ("", "")
    found: dict[str, object] = {"cycle": cycle, "time": f"{time}:00" if _TIME.fullmatch(time) else time}
    days = [int(each) if re.fullmatch(r"[+-]?\d+", each) else each for each in numbers]
    names = {0: (), 1: ("day",), 2: ("month", "day")}.get(len(days))
    if not cycle or names is None:
        raise ScheduleError(f"{rule!r} is no rule; give {_RULES}; or a Python module by -m")
    return {**found, **dict(zip(names, days, strict=True))}


def parse_duration(text: str) -> timedelta:
    """Read a duration such as `2h`, `90m` or `1d12h`.

    Raises:
        click.UsageError: It is none.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise click.UsageError(f"--buffer {text!r} is no duration; give one such as 2h, 90m or 1d12h")
    days, hours, minutes = (int(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes)


def _of_rules(rules: tuple[str, ...], buffer: str | None, zone: str, moment: datetime) -> FoundryDataset:
    from fdtcc_dagster.calendar.schedule import Schedule
    from fdtcc_dagster.calendar.timezones import zone_of
    from fdtcc_dagster.dataset import FoundryDataset

    schedule = Schedule([parse_rule(rule) for rule in rules], parse_duration(buffer or "2h"), zone)
    # So early that the partition that is current at that moment is there.
    start = moment.astimezone(zone_of(schedule.timezone)).date() - timedelta(days=800)
    return FoundryDataset(", ".join(rules), schedule, start)


def _of_module(name: str) -> list[FoundryDataset]:
    import importlib
    import sys

    import dagster as dg

    from fdtcc_dagster.dataset import FoundryDataset
    from fdtcc_dagster.translator import dataset_of

    sys.path.insert(0, "")
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise ValueError(f"the module {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove("")
    found: dict[int, FoundryDataset] = {}
    for value in vars(module).values():
        # Not by isinstance: records of Dagster are tuples that refuse to be iterated.
        values = value if type(value) in (list, tuple) else [value]
        for each in values:
            assets: Any = [each]
            if isinstance(each, dg.Definitions):
                assets = each.get_repository_def().assets_defs_by_key.values()
            for asset in assets:
                dataset = dataset_of(asset) if isinstance(asset, dg.AssetsDefinition) else asset
                if isinstance(dataset, FoundryDataset):
                    found[id(dataset)] = dataset
    if not found:
        raise ValueError(
            f"the module {name!r} has no FoundryDataset, no asset of build_foundry_assets and no Definitions with one"
        )
    return list(found.values())


def _of_file(path: Path) -> list[FoundryDataset]:
    import yaml
    from dagster.components.resolved.errors import ResolutionException
    from pydantic import ValidationError

    from fdtcc_dagster.components import FoundryDatasetsComponent
    from fdtcc_dagster.yaml_lines import line_of, parsed, read

    file = repr(str(path))
    found: list[FoundryDataset] = []
    for node, document in parsed(read(path, file), file):
        if not isinstance(document, dict) or not str(document.get("type")).endswith("FoundryDatasetsComponent"):
            continue
        attributes = document.get("attributes") or {}
        if not isinstance(attributes, dict):
            line = line_of(node, ["attributes"])
            raise ValueError(f"{file}, line {line}: attributes is no mapping; give it datasets, from_toml or both")
        wanted = {name: attributes[name] for name in ("datasets", "from_toml") if name in attributes}
        for toml in _each(wanted.get("from_toml")):
            if isinstance(toml, dict) and isinstance(toml.get("path"), str):
                toml["path"] = str(path.parent.absolute() / Path(toml["path"]).expanduser())
        try:
            component = FoundryDatasetsComponent.resolve_from_yaml(
                yaml.safe_dump(wanted, sort_keys=False), scope=FoundryDatasetsComponent.get_additional_scope()
            )
        except ValidationError as error:
            told = "; ".join(
                _located(node, ".".join(map(str, each["loc"])), each["msg"].removeprefix("Value error, "))
                for each in error.errors()
            )
            raise ValueError(f"{file}, {told}") from None
        except ResolutionException as error:
            where, _, told = str(error).partition("\n")
            raise ValueError(f"{file}, {_located(node, where.partition(' - ')[2], _cause(told))}") from None
        except Exception as error:
            raise ValueError(f"{file}: {error}") from error
        found += [*component.datasets, *component.from_toml]
    if not found:
        raise ValueError(f"{file} has no document of type fdtcc_dagster.FoundryDatasetsComponent with datasets")
    return found


def _located(node: Any, place: str, told: str) -> str:
    """A mistake in YAML, with its line in the file: what Dagster has read has other lines."""
    from fdtcc_dagster.yaml_lines import line_of

    where = _LINE.sub("", place)
    return f"line {line_of(node, ['attributes', *where.split('.')])}, {where}: {told}"


def _cause(told: str) -> str:
    """What an error of Dagster says behind the name of its field, or of its exception."""
    return re.sub(r"^(?:Exception occurred in Resolver.*\n|UndefinedError: )", "", told.strip())


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _described(dataset: FoundryDataset, moment: datetime, count: int) -> dict[str, Any]:
    from fdtcc_dagster.calendar.ticks import key_delay, render_crons
    from fdtcc_dagster.calendar.words import in_words

    definition, schedule = dataset.partitions_def, dataset.schedule
    crons = (definition.cron_schedule,) if schedule is None else render_crons(schedule, key_delay(definition))
    rules = [] if schedule is None else [_as_rule(vars(refresh)) for refresh in schedule.refreshs]
    return {
        "dataset": dataset.name,
        "slices": dataset.time is not None,
        "calendar": f"its own partitions definition ({definition.timezone})"
        if schedule is None
        else in_words(schedule),
        "rules": rules,
        "buffer_seconds": None if schedule is None else schedule.buffer.total_seconds(),
        "timezone": definition.timezone,
        "partitions_cron": definition.cron_schedule,
        "excluded": len(definition.exclusions or ()),
        "schedule_crons": list(crons),
        "partitions": [
            {
                "key": each.partition_key,
                "from_dt": each.window.from_dt.isoformat(),
                "to_dt": each.window.to_dt.isoformat(),
                "available_at": each.available_at.isoformat(),
                "requested_at": [tick.isoformat() for tick in each.requested_at],
            }
            for each in dataset.windows(moment, count)
        ],
    }


def _as_rule(rule: dict[str, Any]) -> str:
    return " ".join(str(rule[name]) for name in ("cycle", "month", "day", "time") if rule[name] is not None)


def _table(shown: dict[str, Any]) -> str:
    lines = [
        shown["dataset"] + (", in slices" if shown["slices"] else ""),
        f"  calendar    {shown['calendar']}",
        f"  partitions  {shown['partitions_cron']}"
        + (f", without {shown['excluded']:,} dates or crons" if shown["excluded"] else ""),
        f"  schedule    {' | '.join(shown['schedule_crons'])}",
    ]
    rows = [("key", "window from", "window to", "requested at")]
    rows += [
        (each["key"], each["from_dt"], each["to_dt"], ", ".join(each["requested_at"]) or "-")
        for each in shown["partitions"]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
