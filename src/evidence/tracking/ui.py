"""Prints the address of each experiment's page in MLflow, with columns and charts chosen: `make ui`."""

import argparse
import os
import sys
from pathlib import Path

from evidence import project
from evidence.errors import UserError
from evidence.passwords import masked
from evidence.tracking import addresses, view
from evidence.tracking.calls import store_errors
from evidence.tracking.stores import experiments, reader


def pages(root: Path, server: str) -> dict[str, str]:
    """The address of the page of each experiment that has runs of this program, by the experiment's name.

    The view is written where it is missing.

    Raises: NoStore where there is no store; UserError where it cannot be used.
    """
    client, uri = reader(root)
    with store_errors(uri):
        found = [
            each
            for each in experiments(client)
            if client.search_runs([each.experiment_id], "tags.record LIKE '%'", max_results=1)
        ]
        for each in found:
            if each.tags.get(view.TAG) != view.value():
                client.set_experiment_tag(each.experiment_id, view.TAG, view.value())
    return {each.name: f"{server}/#/experiments/{each.experiment_id}/runs?{view.QUERY}" for each in found}


def main(words: list[str]) -> int:
    """Print the addresses at the server that `mlflow ui` starts with these options, or at MLFLOW_TRACKING_URI."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", "-p", default="5000")
    port = parser.parse_known_args(words)[0].port
    server = addresses.server(os.environ.get("MLFLOW_TRACKING_URI")) or f"http://127.0.0.1:{port}"
    try:
        for name, address in pages(project.root(), server).items():
            print(f"the runs of {name}: {address}")
    except UserError as error:
        print(f"evidence: {masked(str(error))}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
