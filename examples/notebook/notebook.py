# %% [markdown]
# # Looking at a dataset
#
# A notebook as a script: editors run its cells one by one, and `python examples/notebook/notebook.py` all of them. It
# needs the sandbox, `fdtcc sandbox examples/container`, or a container of your own.

# %%
import tempfile
from pathlib import Path

import dagster as dg
import polars as pl

import fdtcc_dagster as fd

HOST, PORT = "localhost", 8888
folder = tempfile.TemporaryDirectory()  # removed when the program ends
here = Path(folder.name)

# %% [markdown]
# ## A pull, and nothing else
#
# `pull_sync` works in notebooks, too, where an event loop is running already. The window ended long ago, so the
# container answers with the version that was pulled in it, or not at all.

# %%
snapshot = fd.FDTCC(HOST, PORT).pull_sync(
    "orders", "2026-01-05T06:00:00+00:00", "2026-01-12T04:00:00+00:00", directory=here
)
print(snapshot.origin, snapshot.size_bytes, "bytes", snapshot.sha256[:8])

# %% [markdown]
# Without a schema, types are inferred over the whole file. `scan` with a schema is strict.

# %%
schema = {"id": "Int64", "customer": "String", "amount": "Decimal(12, 2)", "ordered_at": "Datetime(us, UTC)"}
rows = snapshot.scan(schema)
print(rows.group_by("customer").agg(pl.col("amount").sum()).sort("customer").collect())

# %% [markdown]
# ## Which windows does the calendar give?

# %%
mondays = fd.Schedule([{"cycle": "weekly", "day": "Monday", "time": "04:00:00"}])
orders = fd.FoundryDataset("orders", mondays, start="2026-01-05", schema=schema)
for each in orders.windows(count=3):
    print(each.partition_key, each.window, "requested at", *each.requested_at)

# %% [markdown]
# ## What a pipeline has stored
#
# In a project, Dagster stores the partitions. Here two of them are materialized first.

# %%
resources = {
    "foundry_container": fd.FoundryContainerResource(host=HOST, port=PORT),
    "io_manager": fd.FoundryParquetIOManager(base_dir=str(here / "data")),
}
for key in ("2026-01-05", "2026-01-12"):
    dg.materialize(fd.build_foundry_assets([orders]), partition_key=key, resources=resources)

# %%
stored = pl.scan_parquet(here / "data" / "orders" / "*.parquet", include_file_paths="file")
partition = pl.col("file").str.extract(r"([\d-]+)\.parquet$").alias("partition")
print(stored.group_by(partition).agg(pl.len().alias("rows"), pl.col("amount").sum()).sort("partition").collect())
