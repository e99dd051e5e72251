"""Writers of results: terminal tables, a TensorBoard run, a picture, a self-contained HTML page.

They know no job: they take the plain rows of `sgq.report.rows` and write them. Import a writer from its
own module; nothing heavy (matplotlib, tensorboard) is loaded before it is used.
"""

from __future__ import annotations

from sgq.report.rows import MemoryRow, Report, ReportRow, RuntimeRow, SiteRow

__all__ = ["MemoryRow", "Report", "ReportRow", "RuntimeRow", "SiteRow"]
