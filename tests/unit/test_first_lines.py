import signal
import sys

import pytest

from forebay import __main__ as program


@pytest.mark.parametrize(
    ("arguments", "status"), [(["serve", "--port", "0"], 0), (["pull"], 143), ([], 143)]
)
def test_a_server_that_has_not_begun_has_stopped_well_and_another_command_has_not(
    arguments: list[str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["forebay", *arguments])
    with pytest.raises(SystemExit) as ended:
        program._leave(signal.SIGTERM, None)
    assert ended.value.code == status
