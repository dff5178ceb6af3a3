"""The smallest request is one that the engine can answer."""

import pytest

from forebay.core.request import Chat, Text
from forebay.engine.first_token import first_request
from forebay.engine.protocol import EngineInfo, Feature


@pytest.mark.parametrize(
    ("supports", "prompt", "embed"),
    [
        ({Feature.CHAT, Feature.TEXT, Feature.EMBEDDINGS}, Text, False),
        ({Feature.CHAT, Feature.EMBEDDINGS}, Chat, False),
        ({Feature.EMBEDDINGS}, Text, True),
    ],
)
def test_the_first_request_is_of_a_kind_that_is_supported(
    supports: set[Feature], prompt: type, *, embed: bool
) -> None:
    info = EngineInfo(name="e", context_tokens_max=9, running_max=1, supports=frozenset(supports))
    request = first_request(info, 1.0, 2.0)
    assert isinstance(request.prompt, prompt)
    assert request.sampling.embed is embed
    assert request.sampling.tokens_max == (0 if embed else 1)
