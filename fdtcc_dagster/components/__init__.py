"""Datasets declared in YAML: the components of this package for `dg`.

They turn YAML into the objects that users declare in Python, and may import everything but `demo`.
"""

from fdtcc_dagster.components.component import FoundryDatasetsComponent

__all__ = ["FoundryDatasetsComponent"]
