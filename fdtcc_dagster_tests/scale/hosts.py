"""Hosts with little: a root file system that is read-only, no home, few open files, half a processor and 1 GiB."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from fdtcc_dagster_tests.real_instance import wait_until
from fdtcc_dagster_tests.scale.services import missing

USER = 65534
"""Nobody's, who has no home."""
_RESTRICT = """
set -e
writable=$1 files=$2; shift 2
for group in $CONTROL_GROUPS; do echo $$ > $group/cgroup.procs; done
mount --bind $writable /mnt
mount -o remount,bind,ro /
cd /
ulimit -n $files
unset HOME TMPDIR FDTCC_STATE_DIRECTORY
exec "$@"
"""
WRITABLE = Path("/mnt")
"""Where a restricted host has the only directory that it can write to."""
_CONTROL_GROUPS = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def restricted_host(
    writable: Path, *, files: int = 128, cpus: float = 0.5, memory: int = 1 << 30
) -> Iterator[list[str]]:
    """Give the beginning of a command that runs the rest as on a restricted host, and as nobody.

    Args:
        writable: The only directory that can be written to, there as `WRITABLE`; it is made.
        files: How many files a process may open.
        cpus: Its processors, by control group.
        memory: Its bytes of memory, by control group.
    """
    if os.getuid():
        missing("no root: only root can mount, and make control groups")
    writable.mkdir(parents=True)
    os.chown(writable, USER, USER)
    with control_group(cpus, memory) as groups:
        # Python itself may be in a directory that only root can search.
        search = "-all,+dac_read_search"
        yield [
            "env", f"CONTROL_GROUPS={' '.join(map(str, groups))}",
            "unshare", "--mount", "sh", "-c", _RESTRICT, "sh", str(writable), str(files),
            "setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups",
            f"--inh-caps={search}", f"--ambient-caps={search}", "--",
        ]  # fmt: skip


@contextlib.contextmanager
def control_group(cpus: float, memory: int) -> Iterator[list[Path]]:
    """Make a control group, as its directories: one of version 2, or one for each controller of version 1."""
    quota = round(cpus * 100_000)
    settings = {"": {"cpu.max": f"{quota} 100000", "memory.max": f"{memory}"}}
    if (_CONTROL_GROUPS / "cpu").is_dir():
        settings = {"cpu": {"cpu.cfs_quota_us": f"{quota}"}, "memory": {"memory.limit_in_bytes": f"{memory}"}}
    name = f"fdtcc-{secrets.token_hex(4)}"
    groups = [_CONTROL_GROUPS / controller / name for controller in settings]
    try:
        for group, values in zip(groups, settings.values(), strict=True):
            group.mkdir()
            for file, value in values.items():
                (group / file).write_text(value)
        yield groups
    finally:
        for group in groups:
            with contextlib.suppress(FileNotFoundError):
                wait_until(partial(_is_removed, group), 20, what=f"{group} is empty")


def _is_removed(group: Path) -> bool:
    """Try to remove a control group; what outlives its parent, such as a process of Celery's pool, is killed."""
    for process in (group / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)
    try:
        group.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True
