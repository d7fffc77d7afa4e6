"""An environment that is older than these tests leaves them out; `make test-scale` installs what they need."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("dagster_celery") and find_spec("dagster_postgres") else ["test_*"]
