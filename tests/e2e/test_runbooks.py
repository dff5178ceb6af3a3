"""Every command of every runbook, run against a real server, Prometheus and Alertmanager."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from tests.support.runbooks import MENDING, Command, Page, index, pages
from tests.support.watched import Watched, needs_programs, watched
from tests.tidy.test_runbooks import NOT_RUN

pytestmark = needs_programs

PAGES: Final = (index(), *pages())
LAST: Final = "kill -TERM"
"""What ends the server runs when all else has run."""
Outputs = Mapping[str, tuple[int, str]]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outputs]:
    """Run what only looks, all at once; then what changes something, one after the other."""
    with watched(tmp_path_factory.mktemp("watched")) as rig:
        rig.run("forebay users create mallory")
        rig.warm_up()
        yield outputs_of(rig)


def outputs_of(rig: Watched) -> Outputs:
    commands = [command for page in PAGES for command in page.commands()]
    looking = {each.text for each in commands if each.heading != MENDING}
    mending = {each.text for each in commands} - looking
    ending = {text for text in mending if text.startswith(LAST)}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(looking, pool.map(rig.run, looking), strict=True))
    for text in (*sorted(mending - ending), *ending):
        if text not in NOT_RUN:
            found[text] = rig.run(text, NAME="mallory")
    assert rig.server.process.wait(timeout=30) == 0
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_pages_commands_show_what_it_says(page: Page, outputs: Outputs) -> None:
    wrong = [
        f"$ {command.text}\n{objection}\n{output}"
        for command in page.commands()
        if command.text not in NOT_RUN
        for status, output in (outputs[command.text],)
        for objection in objections(command, status, output)
    ]
    assert not wrong, "\n\n".join(wrong)


def objections(command: Command, status: int, output: str) -> Iterator[str]:
    if status != 0:
        yield f"ended with {status}"
    if command.expected is not None:
        yield from command.expected.objections(output)
