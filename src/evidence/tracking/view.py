"""Writes the view of an experiment's page: which columns and charts it shows, and in which order.

MLflow keeps a saved view as a tag of the experiment, and opens it by its key in the address. The form of the tag is
that of MLflow 3.17's page (`compareRunCharts`, `selectedColumns` ...), which no documentation describes. A page that
does not know it shows its own columns.
"""

import json
from typing import Any

KEY = "evidence"
TAG = f"mlflow.sharedViewState.{KEY}"
QUERY = f"workflowType=machine_learning&viewStateShareKey={KEY}"  # of the address that opens it
# The columns in their order, with their widths in pixels. The page shows those of ALWAYS in any case.
COLUMNS = {
    "attributes.`Run Name`": 165,
    "runDateAndNestInfo": 50,
    "params.`objective`": 80,
    "params.`k`": 50,
    "params.`model`": 90,
    "params.`seed`": 60,
    "params.`passes`": 65,
    "metrics.`test/nll`": 80,
    "metrics.`test/nll_se`": 95,
    "metrics.`test/active_units`": 125,
    "duration": 75,
}
ALWAYS = ("attributes.`Run Name`", "runDateAndNestInfo", "duration")
SECTIONS = ("valid", "test", "train", "speed")  # in this order; MLflow adds the others behind them
CURVES = ("valid/nll", "valid/active_units")
BARS = ("test/nll", "test/active_units", "test/effective_sample_size", "test/kl")


def value() -> str:
    """What the tag holds: JSON of a named view, whose state is JSON too.

    Runs are sorted by their test/nll. Sorted by time, the page would show a sweep as one closed row.
    """
    state = {
        "selectedColumns": [name for name in COLUMNS if name not in ALWAYS],
        "columnOrder": [*COLUMNS],
        "columnWidths": COLUMNS,
        "orderByKey": "metrics.`test/nll`",
        "orderByAsc": True,
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": [*map(_curve, CURVES), *map(_bar, BARS)],
        "compareRunSections": [*map(_section, SECTIONS)],
        "isAccordionReordered": True,
    }
    return json.dumps({"name": KEY, "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)})


def _curve(metric: str) -> dict[str, Any]:
    line = {
        "type": "LINE",
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }
    return _card(metric) | line


def _bar(metric: str) -> dict[str, Any]:
    return _card(metric) | {"type": "BAR"}


def _card(metric: str) -> dict[str, Any]:
    section, _, name = metric.partition("/")
    return {
        "uuid": metric,
        "metricKey": metric,
        "displayName": name,
        "metricSectionId": section,
        "runsCountToCompare": 20,
        "deleted": False,
        "isGenerated": True,
    }


def _section(name: str) -> dict[str, Any]:
    # Charts that the page adds go behind those of a section that is said to be reordered.
    shown = {"display": True, "isReordered": True, "deleted": False, "isGenerated": True}
    return {"uuid": name, "name": name, **shown}
