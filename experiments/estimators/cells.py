"""The cells of the study: an estimator, a number of samples, and a number of passes."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from evidence.report.compare import COMPARED, apart
from evidence.report.paired import by_seed

ALPHA = 0.7
NAMES = {"iwae": "IWAE", "stl": "STL", "dreg": "DReG", "vr_iwae": f"VR-IWAE, alpha = {ALPHA}", "tvo": "TVO"}
KS = (5, 10, 50)
PASSES = 1920  # 4 million steps of 24 of 50,000 images
NLL, SNR = "test/nll", "test/snr_encoder"
BUT_LENGTH = tuple(name for name in COMPARED if name != "budget")

Kind = tuple[str, int]  # objective and k
Cell = tuple[str, int, int]  # objective, k and passes


class Cells(NamedTuple):
    """Like runs and the row of their `summary`, by objective, k and passes."""

    runs: dict[Cell, pd.DataFrame]
    rows: dict[Cell, "pd.Series[str]"]

    @classmethod
    def of(cls, chosen: pd.DataFrame, results: pd.DataFrame) -> "Cells":
        """Of the runs that are chosen, and their summaries."""
        if chosen.empty:
            return cls({}, {})
        key = ["objective", "k", "passes"]
        runs = {(o, int(k), int(passes)): like for (o, k, passes), like in chosen.groupby(key)}
        return cls(
            runs,
            {(row["objective"], int(row["k"]), int(row["passes"])): row for _, row in results.iterrows()},
        )

    def lengths(self, kind: Kind) -> list[int]:
        """The passes of its cells, ascending."""
        return sorted(passes for *of, passes in self.runs if tuple(of) == kind)

    def end(self, kinds: Iterable[Kind]) -> int | None:
        """The most passes at which each of them has a cell."""
        common = set.intersection(*(set(self.lengths(kind)) for kind in kinds))
        return max(common, default=None)

    def by_seed(self, kind: Kind, passes: int, metric: str) -> "pd.Series[float]":
        """The metric of a cell by seed."""
        return by_seed(self.runs[*kind, passes], metric)

    def less_iwae(self, cell: Cell) -> "pd.Series[float]":
        """The NLL less the IWAE's after the same passes, by the seeds that both have."""
        base = self.runs.get(("iwae", *cell[1:]))
        if base is None:
            return pd.Series(dtype=float)
        return (by_seed(self.runs[cell], NLL) - by_seed(base, NLL)).dropna()

    def at(self, kind: Kind, decoder_passes: float) -> "pd.Series[float]":
        """The NLL by seed after so many decoder passes an image, linear in their logarithm between two cells."""
        lengths = self.lengths(kind)
        ends = pd.concat([self.by_seed(kind, passes, NLL) for passes in lengths], axis=1).dropna()
        logs = np.log([kind[1] * passes for passes in lengths])
        values = [np.interp(np.log(decoder_passes), logs, row) for row in ends.to_numpy()]
        return pd.Series(values, ends.index, dtype=float)

    def apart(self, cells: Iterable[Cell]) -> str:
        """Why the figures of these cells cannot be compared, except for their length. Empty where they can."""
        return apart([self.rows[cell] for cell in cells if cell in self.rows], BUT_LENGTH)
