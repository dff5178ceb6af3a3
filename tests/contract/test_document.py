"""docs/engines.md tells the truth: its table is what engines declare, its engine runs."""

import json
import os
import re
import subprocess
import sys
import types
import urllib.request
from pathlib import Path

import pytest

from forebay.engine.protocol import Feature, StepEngine
from forebay.engine.registry import EngineKind, UnknownEngine, find, runnable
from forebay.testing.step_engine_contract import Driver, StepEngineContract, sampling
from tests.support.models import artefact_of
from tests.support.server import Server, free_port

DOCUMENT = Path(__file__).parents[2] / "docs" / "engines.md"
MARKOV = "An engine whose model is a table"
BY_TEMPLATE = {Feature.CHAT, Feature.TOOLS}


def code() -> str:
    """Return the block of the document that is a whole engine."""
    text = DOCUMENT.read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (found,) = (str(block) for block in blocks if MARKOV in block)
    return found


def columns() -> dict[str, dict[Feature, str]]:
    """Return engine -> feature -> cell of the table."""
    lines = DOCUMENT.read_text("utf-8").splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("| Feature |"))
    _, *engines = (cell.strip() for cell in lines[head].strip("|").split("|"))
    found: dict[str, dict[Feature, str]] = {engine: {} for engine in engines}
    for line in lines[head + 2 :]:
        if not line.startswith("|"):
            break
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        for engine, cell in zip(engines, cells, strict=True):
            found[engine][Feature(name.strip("`"))] = cell
    return found


def declared(engine: str) -> frozenset[Feature]:
    """Load an engine with the default model, and ask it."""
    try:
        kind = find(engine)
    except UnknownEngine:
        pytest.skip(f"{engine} is not among the installed engines")
    if not runnable(engine):
        pytest.skip(f"the library of {engine} is not installed")
    assert isinstance(kind, EngineKind)
    folder = artefact_of("smollm2-135m-instruct", kind.form).path if kind.form else None
    small = {"kv_cache_bytes": 128 << 20} if kind.form else {}
    loaded = kind.make(kind.config(**small), folder)
    try:
        return loaded.info.supports
    finally:
        loaded.close()


def test_the_table_has_a_line_for_every_feature_and_no_unknown_word() -> None:
    for engine, cells in columns().items():
        assert set(cells) == set(Feature), engine
        assert set(cells.values()) <= {"yes", "no", "template", "set"}, engine
        assert {feature for feature, cell in cells.items() if cell == "template"} <= BY_TEMPLATE


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(name, marks=[] if name == "scripted" else [pytest.mark.model])
        for name in columns()
    ],
)
@pytest.mark.filterwarnings("ignore")  # of the libraries
def test_the_table_says_what_an_engine_declares(engine: str) -> None:
    cells = columns()[engine]
    sure = {feature for feature, cell in cells.items() if cell == "yes"}
    perhaps = {feature for feature, cell in cells.items() if cell == "template"}
    found = declared(engine)
    assert found - perhaps == sure, "correct docs/engines.md"


def markov() -> types.ModuleType:
    """Run the document's code as a module."""
    module = types.ModuleType("markov")
    sys.modules["markov"] = module  # dataclasses look their module up
    exec(compile(code(), str(DOCUMENT), "exec"), module.__dict__)  # noqa: S102 - our own document
    return module


class TestTheDocumentsEngine(StepEngineContract):
    @pytest.fixture
    def engine(self) -> StepEngine:
        module = markov()
        engine: StepEngine = module.MarkovEngine(module.MarkovConfig())
        return engine

    def test_it_says_what_it_has_read(self, driver: Driver) -> None:
        id = driver.submit("the ca", sampling(2_000, ignore_eos=False, temperature=1.0))
        driver.finish()
        said = "".join(map(chr, driver.tokens(id)))
        assert said
        assert set(said) <= set("the cat sat on the mat. rate oat saw")
        assert driver.outputs[id][-1].tokens_hidden == 1


def test_the_documents_engine_is_served(tmp_path: Path) -> None:
    (tmp_path / "markov.py").write_text(code(), encoding="utf-8")
    facts = tmp_path / "markov-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: markov\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[forebay.engines]\nmarkov = markov:KIND\n")
    port = free_port()
    command = [sys.executable, "-m", "forebay", "serve", "--engine", "markov", "--port", str(port)]
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environ)
    server = Server(process=process, port=port, log=log)
    try:
        server.until_ready()
        body = {"model": "markov", "prompt": "the c", "temperature": 0, "max_tokens": 2}
        request = urllib.request.Request(
            f"{server.url}/v1/completions",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert json.load(answer)["choices"][0]["text"] == "at"
    finally:
        server.stop()
