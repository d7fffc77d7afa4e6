"""One dataset of Foundry as a partitioned asset: all that it takes."""

import fdtcc_dagster as fd

mondays = fd.Schedule([{"cycle": "weekly", "day": "Monday", "time": "04:00:00"}])

defs = fd.build_foundry_definitions(
    [fd.FoundryDataset("orders", mondays, start="2026-01-05")],
    resource=fd.FoundryContainerResource(host="localhost", port=8888),
    io_manager=fd.FoundryParquetIOManager(base_dir="data"),
)
