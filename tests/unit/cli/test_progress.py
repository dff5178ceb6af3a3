import pytest

from forebay.cli.progress import PlainLines, described, showing
from forebay.core.clock import ManualClock
from forebay.models.stages import Progress, Stage, Unit


def fetched(done: int, total: int = 200_000_000) -> Progress:
    return Progress(stage=Stage.FETCH, done=done, total=total, unit=Unit.BYTES)


@pytest.mark.parametrize(
    ("progress", "elapsed_s", "expected"),
    [
        (fetched(50_000_000), 2.0, "fetching: 25 %, 50.0 MB, 25.0 MB/s"),
        (fetched(50_000_000, total=0), 2.0, "fetching: 50.0 MB, 25.0 MB/s"),
        (fetched(0), 0.0, "fetching"),
        (Progress(stage=Stage.COMPRESS, done=3, total=4, unit=Unit.TENSORS), 1.0, None),
        (Progress(stage=Stage.WAIT, done=3, total=0, unit=Unit.STEPS), 1.0, None),
    ],
)
def test_progress_is_told_in_words(
    progress: Progress, elapsed_s: float, expected: str | None
) -> None:
    words = {
        Stage.COMPRESS: "compressing to int8: 75 %",
        Stage.WAIT: "waiting for another preparation",
    }
    assert described(progress, elapsed_s) == (expected or words[progress.stage])


def test_plain_lines_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    clock = ManualClock()
    lines = PlainLines(clock)
    for done in range(0, 101, 10):
        lines(fetched(done * 2_000_000))
        clock.advance(1.0)
    lines(Progress(stage=Stage.UNPACK, done=0, total=1, unit=Unit.STEPS))
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in told] == [
        "fetching",
        "fetching: 50 %",
        "fetching: 100 %",
        "unpacking",
    ]


def test_without_a_terminal_there_are_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with showing() as report:
        report(fetched(0))
    assert capsys.readouterr().err == "fetching\n"


def test_on_a_terminal_there_are_bars(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with showing() as report:
        for done in (0, 100_000_000, 200_000_000):
            report(fetched(done))
    told = capsys.readouterr().err
    assert "fetching" in told
    assert "100 %" in told


def test_a_model_that_is_prepared_shows_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with showing():
        pass
    assert capsys.readouterr().err == ""
