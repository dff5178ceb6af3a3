"""Redis for tests: a real server, links to it, and what is said of its comings and goings."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from forebay.core.clock import MONOTONIC
from forebay.drill import redis_server
from forebay.drill.redis_server import RedisServer, running_redis
from forebay.serve.redis_link import RedisLink, StoreConfig

needs_redis = pytest.mark.skipif(
    not redis_server.is_installed(), reason="redis-server is not installed"
)


class Said:
    """The events that were logged."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, /, **fields: str | float | bool | None) -> None:
        self.events.append((event, fields))

    @property
    def names(self) -> list[str]:
        """Their names, in order."""
        return [name for name, _ in self.events]


def a_link(url: str, said: Said | None = None, **facts: Any) -> RedisLink:
    """Return a link that is not opened yet; patient, unless `facts` say otherwise."""
    config = replace(StoreConfig(url=url, timeout_s=1.0), **facts)
    return RedisLink(config, now=MONOTONIC, log=said or Said())


def a_running_redis() -> Iterator[RedisServer]:
    """Run a server while a fixture lives."""
    with running_redis() as server:
        yield server
