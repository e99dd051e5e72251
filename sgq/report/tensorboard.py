"""One TensorBoard run a job or study: one folder, one event file, tags that never change their names."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from sgq.report.files import writable_folder

if TYPE_CHECKING:
    import torch

    from sgq.report.rows import ReportRow, RuntimeRow
    from sgq.report.study_rows import StudyReport, TrialRow

Settings: TypeAlias = Mapping[str, str | int | float | bool]

EVENT_FILES = "events.out.tfevents.*"


class EventFile:
    """The event file of one folder, as a context manager; tensorboard is imported on entering.

    Leaving it normally removes the event files that an earlier job left in the folder, so that two
    jobs never mix in one curve; an exception keeps those and removes its own, so that earlier results
    stay as they were. Raises UsageError on entering when the folder cannot be written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._earlier: list[Path] = []
        self._writer: Any = None

    def __enter__(self) -> Self:
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

    def _scalar(self, tag: str, figure: float | None, step: int) -> None:
        if figure is not None:
            self._writer.add_scalar(tag, figure, step)

    def _image(self, tag: str, png: bytes) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(io.BytesIO(png)) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._writer.add_image(tag, pixels, 0, dataformats="HWC")

    def _result(self, figures: Mapping[str, float | None], settings: Settings, *, step: int) -> None:
        """Write figures as scalars, and as the metrics of an hparams entry with `settings`."""
        from torch.utils.tensorboard.summary import hparams

        known = {tag: figure for tag, figure in figures.items() if figure is not None}
        for tag, figure in known.items():
            self._scalar(tag, figure, step)
        # SummaryWriter.add_hparams opens an event file of its own in a subfolder: a second run.
        for summary in hparams(dict(settings), known):
            self._writer.file_writer.add_summary(summary)


class TensorBoardRun(EventFile):
    """The event file of one job: curves of training, figures of sites, and the result.

    >>> with TensorBoardRun("runs/gat-taq") as run:                                   # doctest: +SKIP
    ...     run.epoch(0, loss=1.9, accuracy_val=0.31)
    ...     run.result(row, settings={"model": "gat", "data": "cora"})
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        self._epochs = 0

    def epoch(self, epoch: int, *, loss: float, accuracy_val: float | None = None) -> None:
        """Add one epoch to the curves `train/loss` and `val/accuracy` (0 to 1)."""
        self._epochs = max(self._epochs, epoch + 1)
        self._scalar("train/loss", loss, epoch)
        self._scalar("val/accuracy", accuracy_val, epoch)

    def bits(self, bits: Mapping[str, float]) -> None:
        """Write `bits/<site>`: the average width of each site over its rows."""
        for site, width in bits.items():
            self._scalar(f"bits/{site}", width, 0)

    def clipping(self, site: str, values: torch.Tensor, *, lower: float, upper: float) -> None:
        """Write a histogram `values/<site>` and the range that is kept of it, `clip/<site>/lower|upper`."""
        self._writer.add_histogram(f"values/{site}", values.detach().float().cpu(), 0)
        self._scalar(f"clip/{site}/lower", lower, 0)
        self._scalar(f"clip/{site}/upper", upper, 0)

    def picture(self, rows: Sequence[ReportRow]) -> None:
        """Write the picture of accuracy against memory as the image `accuracy_against_memory`."""
        from sgq.report.picture import picture_png

        self._image("accuracy_against_memory", picture_png(rows))

    def runtime(self, rows: Sequence[RuntimeRow]) -> None:
        """Write what was measured: `runtime/<way to run>/median_s`, `peak_bytes` and `file_bytes`."""
        for row in rows:
            prefix = f"runtime/{row.name.replace(' ', '_')}"
            self._scalar(f"{prefix}/median_s", row.median_s, 0)
            self._scalar(f"{prefix}/peak_bytes", row.peak_bytes, 0)
            self._scalar(f"{prefix}/file_bytes", row.file_bytes, 0)

    def result(self, row: ReportRow, *, settings: Settings) -> None:
        """Write the job's figures and its one hparams entry; call it once, at the end.

        Scalars: `test/accuracy`, `memory/packed_bytes`, `memory/ratio` (against dense fp32), and
        `val/accuracy` of the chosen epoch as the point after the curve's last one. The same tags are the
        metrics of the hparams entry, `settings` its parameters.
        """
        figures = {
            "val/accuracy": row.accuracy_val,
            "test/accuracy": row.accuracy_test,
            "memory/packed_bytes": row.packed_bytes,
            "memory/ratio": row.ratio_dense,
        }
        self._result(figures, settings, step=self._epochs)


class TensorBoardStudy(EventFile):
    """The event file of one study.

    >>> with TensorBoardStudy("runs/gat-bits") as run:                                # doctest: +SKIP
    ...     run.trials(study.trials)
    ...     run.result(study)
    """

    def trials(self, trials: Sequence[TrialRow]) -> None:
        """Write `trial/accuracy_val` (0 to 1) and `trial/packed_bytes`; the step is the trial's number."""
        for trial in trials:
            self._scalar("trial/accuracy_val", trial.accuracy_val, trial.number)
            self._scalar("trial/packed_bytes", trial.packed_bytes, trial.number)

    def search(self, study: StudyReport) -> None:
        """Write `search/hypervolume` and `search/best_packed_bytes`; the step counts evaluations."""
        for evaluations, volume in study.hypervolume:
            self._scalar("search/hypervolume", volume, evaluations)
        for evaluations, trial in study.best_so_far:
            self._scalar("search/best_packed_bytes", trial.packed_bytes, evaluations)

    def bits(self, trial: TrialRow) -> None:
        """Write `bits/<axis>` of a trial for each axis of bits."""
        for axis, choice in trial.assignment:
            if isinstance(choice, int):
                self._scalar(f"bits/{axis}", choice, 0)

    def picture(self, study: StudyReport) -> None:
        """Write the picture of the study as the image `accuracy_against_memory`."""
        from sgq.report.study_picture import study_png

        self._image("accuracy_against_memory", study_png(study))

    def result(self, study: StudyReport) -> None:
        """Write the best trial's figures and the study's one hparams entry; call it once, at the end.

        Scalars: `val/accuracy` and `memory/packed_bytes`, as in the run of a job; none without a best
        trial. They are the metrics of the hparams entry, the sampler and the settings its parameters.
        """
        figures: dict[str, float | None] = {}
        best = study.best_row
        if best is not None:
            figures = {"val/accuracy": best.accuracy_val, "memory/packed_bytes": best.packed_bytes}
        self._result(figures, {"sampler": study.sampler, **dict(study.settings)}, step=0)
