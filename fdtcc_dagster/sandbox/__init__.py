r"""The embedded container: a real server that speaks the container's protocol, for demos and tests.

```python
from fdtcc_dagster.sandbox import SandboxContainer, faults

with SandboxContainer() as container:
    container.set_live("orders", "id,amount\n1,9.5\n")
    container.inject("orders", faults.TruncatedBody())
    ...  # a client of container.host and container.port
```

`python -m fdtcc_dagster.sandbox ROOT` serves a directory of versions until it is interrupted, and
`pytest_plugins = ["fdtcc_dagster.sandbox.pytest_plugin"]` in a `conftest.py` gives the fixture `sandbox_container`.

What it does is described in docs/protocol.md, case by case. It imports nothing of the package, so that it cannot share
a mistake of the client.
"""

from fdtcc_dagster.sandbox import faults
from fdtcc_dagster.sandbox.container import SandboxContainer
from fdtcc_dagster.sandbox.pandas_csv import to_pandas_csv
from fdtcc_dagster.sandbox.store import version_file_name

__all__ = ["SandboxContainer", "faults", "to_pandas_csv", "version_file_name"]
