"""Progress, shown: bars on a terminal, a few plain lines elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

import typer

from forebay.core.clock import MONOTONIC, Clock
from forebay.models.stages import Progress, Report, Stage, Unit

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

_LINE_S: Final = 5.0
"""Between two plain lines of one stage."""


@contextmanager
def showing() -> Iterator[Report]:
    """Show what is reported until the body ends, on stderr."""
    if not sys.stderr.isatty():
        yield PlainLines(MONOTONIC)
        return
    bars = _Bars()
    try:
        yield bars
    finally:
        bars.close()


class PlainLines:
    """A line when a stage begins, when it ends, and now and then between."""

    def __init__(self, now: Clock) -> None:
        """Pace the lines on the clock `now`."""
        self._now = now
        # The whole mutable state: the stage that is shown, when it began, and when it last spoke.
        self._stage: Stage | None = None
        self._began = 0.0
        self._spoke = 0.0

    def __call__(self, progress: Progress) -> None:
        """Show progress, or keep quiet."""
        now = self._now()
        fresh = progress.stage is not self._stage
        if fresh:
            self._stage, self._began = progress.stage, now
        finished = progress.total > 0 and progress.done >= progress.total
        if fresh or finished or now - self._spoke >= _LINE_S:
            self._spoke = now
            typer.echo(described(progress, now - self._began), err=True)


def described(progress: Progress, elapsed_s: float) -> str:
    """Return progress in words: stage, how far, how fast."""
    parts = []
    if progress.total and progress.done:
        parts.append(f"{progress.done * 100 // progress.total} %")
    if progress.unit is Unit.BYTES and progress.done:
        parts.append(f"{progress.done / 1e6:.1f} MB")
        if elapsed_s > 0:
            parts.append(f"{progress.done / 1e6 / elapsed_s:.1f} MB/s")
    return f"{progress.stage}: {', '.join(parts)}" if parts else str(progress.stage)


class Steps:
    """What a drill is doing, and how far it is; a line for each step where there is no terminal."""

    def __init__(self, title: str) -> None:
        """Show it under a title."""
        self._title = title
        self._rich: RichProgress | None = None
        self._task: TaskID | None = None
        self._said = ""

    def __enter__(self) -> Self:
        """Start a bar, if there is a terminal."""
        if sys.stderr.isatty():
            self._rich = _rich_progress()
            self._rich.start()
            self._task = self._rich.add_task(self._title, total=None, words="")
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        if self._rich is not None:
            self._rich.stop()

    def __call__(self, what: str, done: float = 0, total: float = 0) -> None:
        """Show a step, and how much of it is done (0 of 0: unknown)."""
        if self._rich is not None and self._task is not None:
            self._rich.update(self._task, completed=done, total=total or None, words=what)
        elif what != self._said:
            typer.echo(f"{self._title}: {what}", err=True)
        self._said = what


def _rich_progress() -> "RichProgress":
    """Return bars; rich is imported only where there is something to show."""
    from rich.console import Console  # noqa: PLC0415 - see above
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - see above
    from rich.progress import Progress as RichProgress  # noqa: PLC0415 - see above

    return RichProgress(
        TextColumn("{task.description:<22}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[words]}"),
        console=Console(stderr=True),
    )


class _Bars:
    """A bar per stage."""

    def __init__(self) -> None:
        self._rich: RichProgress | None = None
        self._tasks: dict[Stage, TaskID] = {}

    def __call__(self, progress: Progress) -> None:
        rich = self._started()
        task = self._tasks.get(progress.stage)
        if task is None:
            for earlier in self._tasks.values():
                rich.update(earlier, completed=rich.tasks[earlier].total or 0)
                rich.stop_task(earlier)
            task = self._tasks[progress.stage] = rich.add_task(progress.stage, words="")
        elapsed_s = rich.get_time() - (rich.tasks[task].start_time or 0.0)
        words = described(progress, elapsed_s).removeprefix(progress.stage).lstrip(": ")
        rich.update(task, completed=progress.done, total=progress.total or None, words=words)

    def close(self) -> None:
        if self._rich is not None:
            self._rich.stop()

    def _started(self) -> "RichProgress":
        if self._rich is None:
            # A model that is prepared already reports nothing, and then rich is not imported.
            self._rich = _rich_progress()
            self._rich.start()
        return self._rich
