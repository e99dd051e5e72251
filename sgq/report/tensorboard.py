"""One TensorBoard run a job: one folder, one event file, tags that never change their names."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sgq.report.files import writable_folder

if TYPE_CHECKING:
    import torch

    from sgq.report.rows import ReportRow, RuntimeRow

EVENT_FILES = "events.out.tfevents.*"


class TensorBoardRun:
    """The event file of one job, as a context manager; tensorboard is imported on entering.

    Leaving it normally removes the event files that an earlier job left in the folder, so that two
    jobs never mix in one curve; an exception keeps those and removes its own, so that earlier results
    stay as they were. Raises UsageError on entering when the folder cannot be written.

    >>> with TensorBoardRun("runs/gat-taq") as run:                                   # doctest: +SKIP
    ...     run.epoch(0, loss=1.9, accuracy_val=0.31)
    ...     run.result(row, settings={"model": "gat", "data": "cora"})
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._earlier: list[Path] = []
        self._writer: Any = None
        self._epochs = 0

    def __enter__(self) -> TensorBoardRun:
        writable_folder(self.folder)
        from torch.utils.tensorboard import SummaryWriter

        self._earlier = sorted(self.folder.glob(EVENT_FILES))
        self._writer = SummaryWriter(str(self.folder))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        files = set(self.folder.glob(EVENT_FILES))
        for path in set(self._earlier) if kind is None else files - set(self._earlier):
            path.unlink(missing_ok=True)

    def epoch(self, epoch: int, *, loss: float, accuracy_val: float | None = None) -> None:
        """Add one epoch to the curves `train/loss` and `val/accuracy` (0 to 1)."""
        self._epochs = max(self._epochs, epoch + 1)
        self._writer.add_scalar("train/loss", loss, epoch)
        if accuracy_val is not None:
            self._writer.add_scalar("val/accuracy", accuracy_val, epoch)

    def bits(self, bits: Mapping[str, float]) -> None:
        """Write `bits/<site>`: the average width of each site over its rows."""
        for site, width in bits.items():
            self._writer.add_scalar(f"bits/{site}", width, 0)

    def clipping(self, site: str, values: torch.Tensor, *, lower: float, upper: float) -> None:
        """Write a histogram `values/<site>` and the range that is kept of it, `clip/<site>/lower|upper`."""
        self._writer.add_histogram(f"values/{site}", values.detach().float().cpu(), 0)
        self._writer.add_scalar(f"clip/{site}/lower", lower, 0)
        self._writer.add_scalar(f"clip/{site}/upper", upper, 0)

    def picture(self, rows: Sequence[ReportRow]) -> None:
        """Write the picture of accuracy against memory as the image `accuracy_against_memory`."""
        import numpy as np
        from PIL import Image

        from sgq.report.picture import picture_png

        with Image.open(io.BytesIO(picture_png(rows))) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._writer.add_image("accuracy_against_memory", pixels, 0, dataformats="HWC")

    def runtime(self, rows: Sequence[RuntimeRow]) -> None:
        """Write what was measured: `runtime/<way to run>/median_s`, `peak_bytes` and `file_bytes`."""
        for row in rows:
            prefix = f"runtime/{row.name.replace(' ', '_')}"
            self._writer.add_scalar(f"{prefix}/median_s", row.median_s, 0)
            self._writer.add_scalar(f"{prefix}/peak_bytes", float(row.peak_bytes), 0)
            self._writer.add_scalar(f"{prefix}/file_bytes", float(row.file_bytes), 0)

    def result(self, row: ReportRow, *, settings: Mapping[str, str | int | float | bool]) -> None:
        """Write the job's figures and its one hparams entry; call it once, at the end.

        Scalars: `test/accuracy`, `memory/packed_bytes`, `memory/ratio` (against dense fp32), and
        `val/accuracy` of the chosen epoch as the point after the curve's last one. The same tags are the
        metrics of the hparams entry, `settings` its parameters.
        """
        from torch.utils.tensorboard.summary import hparams

        figures: dict[str, float | None] = {
            "val/accuracy": row.accuracy_val,
            "test/accuracy": row.accuracy_test,
            "memory/packed_bytes": float(row.packed_bytes),
            "memory/ratio": row.ratio_dense,
        }
        known = {tag: figure for tag, figure in figures.items() if figure is not None}
        for tag, figure in known.items():
            self._writer.add_scalar(tag, figure, self._epochs)
        # SummaryWriter.add_hparams opens an event file of its own in a subfolder: a second run.
        for summary in hparams(dict(settings), known):
            self._writer.file_writer.add_summary(summary)
