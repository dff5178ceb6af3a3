"""Another Forebay behind the upstream engine keeps an engine's promises."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from forebay.core.clock import MONOTONIC
from forebay.engine.protocol import Engine
from forebay.engines.upstream import KIND, UpstreamEngine
from forebay.engines.upstream_config import UpstreamConfig
from forebay.testing.engine_contract import EngineContract
from tests.support.events import EventList
from tests.support.server import Server, serving

CONTEXT = 512


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("upstream")
    settings = [f"scripted.context_tokens_max={CONTEXT}", "scripted.decode_s=0.001"]
    options = [word for text in settings for word in ("--set", text)]
    with serving(folder, "--engine", "scripted", *options) as server:
        yield server


class TestUpstream(EngineContract):
    @pytest.fixture
    async def engine(self, server: Server) -> AsyncIterator[Engine]:
        config = UpstreamConfig(urls=server.url, context_tokens_max=CONTEXT, features="+embeddings")
        engine = KIND.connect(config, now=MONOTONIC, log=EventList())
        assert isinstance(engine, UpstreamEngine)
        await engine.start()
        yield engine
        await engine.stop()
        assert not any(upstream.load or upstream.connections for upstream in engine.upstreams)
