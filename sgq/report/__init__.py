"""Writers of results: terminal tables, a TensorBoard run, a picture, a self-contained HTML page.

They know no job: they take the plain rows of `sgq.report.rows` (a comparison of models) and of
`sgq.report.study_rows` (a search over many) and write them. Import a writer from its own module; nothing
heavy (matplotlib, tensorboard) is loaded before it is used.
"""

from __future__ import annotations

from sgq.report.rows import MemoryRow, Report, ReportRow, RuntimeRow, SiteRow
from sgq.report.study_rows import ReferenceRow, StudyReport, TrialRow

__all__ = [
    "MemoryRow",
    "ReferenceRow",
    "Report",
    "ReportRow",
    "RuntimeRow",
    "SiteRow",
    "StudyReport",
    "TrialRow",
]
