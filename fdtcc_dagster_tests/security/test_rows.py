"""No row or body is quoted: whole runs are searched for a value, and only one that does not fit may be found."""

from __future__ import annotations

import re
from typing import Any

from fdtcc_dagster import FoundryContainerResource
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.security.witness import Witness

MAIL = "jane.doe@example.com"
ROWS = f"1,{MAIL}\n" * 3
TEXTS: dict[str, Any] = {"schema": {"id": "String", "mail": "String"}}
CASES: list[tuple[str, str, faults.Fault | None, dict[str, Any]]] = [
    ("which may be a row", f"{MAIL},1\n{ROWS}", None, TEXTS),
    ("row 4 has a quote", f'id,mail\n{ROWS}{MAIL},"x"y\n', None, TEXTS),
    ("has more than 200 bytes", f'id,mail\n{ROWS}1,"{ROWS * 5}', None, TEXTS),
    ("'one' is not an Int64", f"id,mail\none,{MAIL}\n", None, {"schema": {"id": "Int64", "mail": "String"}}),
    # The rest of the body may be read with what came before it, or be dropped with the connection.
    ("is damaged|SHA-256", f"id,mail\n{ROWS}", faults.WrongLength(-10), TEXTS),
]
"""A pattern of the error's text, the CSV, the fault of its download, and the declaration."""


def test_no_run_shows_a_row(witness: Witness) -> None:
    for said, csv, fault, settings in CASES:
        with SandboxContainer() as container:
            container.set_live("orders", csv)
            if fault is not None:
                container.inject("orders", fault)
            resource = FoundryContainerResource(host="127.0.0.1", port=container.port, attempts=1, max_record_bytes=200)
            result = witness.run(resource, **settings)
        assert not result.success, said
        assert re.search(said, witness.failure(result))
    assert MAIL not in witness.written()
