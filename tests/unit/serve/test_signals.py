import signal

import pytest

from forebay.serve import signals
from forebay.serve.signals import Signals


def heard(monkeypatch: pytest.MonkeyPatch, *, before: bool, after: bool, nohup: bool) -> Signals:
    """Return what is heard of one SIGHUP, with or without a terminal before and after it."""
    terminals = iter((before, after))
    monkeypatch.setattr(signals, "_has_terminal", lambda: next(terminals))
    ignored = signal.SIG_IGN if nohup else signal.SIG_DFL
    monkeypatch.setattr(signal, "getsignal", lambda _: ignored)
    found = Signals()
    found._hang_up()
    return found


@pytest.mark.parametrize(
    ("before", "after", "nohup"),
    [(False, False, False), (True, True, False), (True, False, True)],
    ids=["a service", "in a terminal that stays", "told to outlive its terminal"],
)
def test_sighup_asks_for_the_settings_to_be_read_again(
    monkeypatch: pytest.MonkeyPatch, *, before: bool, after: bool, nohup: bool
) -> None:
    found = heard(monkeypatch, before=before, after=after, nohup=nohup)
    assert (found.reread.is_set(), found.first.is_set()) == (True, False)


def test_sighup_of_a_terminal_that_is_gone_asks_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    found = heard(monkeypatch, before=True, after=False, nohup=False)
    assert (found.reread.is_set(), found.first.is_set()) == (False, True)


def test_the_second_signal_asks_to_hurry() -> None:
    found = Signals()
    found._stop()
    assert (found.first.is_set(), found.second.is_set()) == (True, False)
    found._stop()
    assert found.second.is_set()
