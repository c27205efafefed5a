"""All features of an index as a sequence and as a table."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from sonde.errors import UsageError
from sonde.features.feature import Feature
from sonde.features.folder import IndexFolder


class FeatureTable(Sequence[Feature]):
    """All features of an index: a sequence of `Feature`, and one row each for whatever reads Arrow's tables.

    pandas.DataFrame.from_arrow(index.features), polars.DataFrame(index.features), pyarrow.table(index.features)
    """

    def __init__(self, index: IndexFolder) -> None:
        self._index = index

    def __len__(self) -> int:
        return self._index.n_features

    @overload
    def __getitem__(self, number: int) -> Feature: ...
    @overload
    def __getitem__(self, number: slice) -> list[Feature]: ...
    def __getitem__(self, number: int | slice) -> Feature | list[Feature]:
        if isinstance(number, slice):
            return [Feature.of(self._index, feature) for feature in range(len(self))[number]]
        if not -len(self) <= number < len(self):
            raise IndexError(f"feature {number} of {len(self)}")
        return Feature.of(self._index, range(len(self))[number])

    def to_arrow(self) -> Any:
        """A pyarrow.Table: feature, count, density, maximum, mean, and top and bottom tokens where the model has a head.

        Raises UsageError where pyarrow is not installed.
        """
        try:
            import pyarrow
        except ImportError as error:
            raise UsageError("a table of features needs pyarrow: pip install 'sonde[table]'") from error
        statistics = self._index.statistics
        columns: dict[str, Any] = {"feature": np.arange(len(self))}
        columns |= {name: np.ascontiguousarray(statistics[name]) for name in ("count", "density", "maximum", "mean")}
        for which in ("top", "bottom"):
            if f"{which}_logit_tokens" in statistics:
                tokens = statistics[f"{which}_logit_tokens"]
                text = {token: self._index.text.token(token) for token in np.unique(tokens).tolist()}
                columns[f"{which}_tokens"] = [[text[token] for token in row] for row in tokens.tolist()]
        return pyarrow.table(columns)

    def to_parquet(self, path: str | Path) -> None:
        """Write the table as a Parquet file; raises UsageError where pyarrow is not installed."""
        table = self.to_arrow()
        import pyarrow.parquet

        pyarrow.parquet.write_table(table, path)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{feature.number}</td><td>{feature.density:.3%}</td><td>{feature.maximum:.3g}</td>"
            f"<td>{html.escape(', '.join(feature.usual_tokens()))}</td></tr>"
            for feature in self[:20]
        )
        head = "<tr><th>feature</th><th>density</th><th>maximum</th><th>fires at</th></tr>"
        more = f"<p>and {len(self) - 20:,} more</p>" if len(self) > 20 else ""
        return f"<table>{head}{rows}</table>{more}"
