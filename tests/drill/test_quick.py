"""The quick form of every drill that takes seconds; `make drill` runs the full ones."""

from pathlib import Path

import pytest

from forebay.drill import catalogue, running

QUICK = ("single-flight", "cancels", "vanish", "gateway")


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_drill_passes_in_its_quick_form(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (drill,) = catalogue.named([name])
    result = running.run(drill, "scripted", quick=True, models=tmp_path, say=lambda *_, **__: None)
    with capsys.disabled():
        print("\n" + "\n".join("  ".join(line) for line in running.lines(result)))
    assert result.passed, running.as_tables([result])
