"""The command `fdtcc`. Its modules import Dagster, Polars and the client only where a command needs them."""
