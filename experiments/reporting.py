"""From the finished runs in MLflow, and what was measured beside them, to the report."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from evidence.report import page
from evidence.report.frame import ROOT, finished
from evidence.report.study import Study

FOLDER = ROOT / "outputs" / "report"


def write(studies: Sequence[Study], keep: bool = False) -> tuple[Path, str]:
    """The page, and in a line for each study how its claims fare; `keep` puts the figures beside the studies too."""
    sections, links, lines = [], {}, []
    for study in studies:
        folder = FOLDER / study.name
        folder.mkdir(parents=True, exist_ok=True)
        runs = finished(study.experiment or study.name)
        found = study.find(runs, folder)
        sections.append(page.Section(study, found))
        if len(runs):
            for name, where, url in zip(runs["run"], runs["folder"], runs["url"], strict=True):
                links[name] = page.Links(os.path.relpath(Path(ROOT, where), FOLDER), url)
        verdicts = [claim.holds for claim in found.claims]
        counts = (verdicts.count(True), verdicts.count(False), verdicts.count(None))
        lines.append("{:14} claims: {} hold, {} do not, {} not measured".format(study.target, *counts))
    written = page.write(sections, links, FOLDER)
    for section in sections if keep else []:
        _keep(section)
    return written, "\n".join(lines)


def _keep(section: page.Section) -> None:
    """results.csv and the pictures, beside the study's own files."""
    if section.findings.results.empty:
        return
    here, there = FOLDER / section.study.name, ROOT / "experiments" / section.study.name
    for name in ("results.csv", *(picture.file for picture in section.findings.pictures)):
        shutil.copyfile(here / name, there / name)
