"""All features of an index as a sequence and as a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from sonde.display import Block, Drawn, Grid, Line
from sonde.errors import UsageError
from sonde.features.feature import Feature
from sonde.features.folder import IndexFolder


class FeatureTable(Sequence[Feature], Drawn):
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
        """A pyarrow.Table with a row for each feature.

        Its columns are feature, count, density, maximum, mean, and top and bottom tokens where the model has a head.

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

    def __repr__(self) -> str:
        return f"FeatureTable({len(self):,} features)"

    def draw(self, n: int = 20) -> list[Block]:
        """The first n features."""
        more = [Line(f"and {len(self) - n:,} more")] if len(self) > n else []
        return [features_grid(self[:n]), *more]


def features_grid(features: Sequence[Feature]) -> Grid:
    """Features with their density, maximum, label and usual tokens, one a row."""
    labels = features[0].index.labels.of([feature.number for feature in features]) if features else {}
    rows = []
    for feature in features:
        label = labels[feature.number].label if feature.number in labels else ""
        tokens = ", ".join(feature.usual_tokens())
        rows.append([str(feature.number), f"{feature.density:.3%}", f"{feature.maximum:.2f}", label, tokens])
    return Grid(rows, ("feature", "density", "maximum", "label", "fires at"), right=(0, 1, 2))
