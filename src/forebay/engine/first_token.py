"""The smallest request there is: who answers it can answer."""

import asyncio

from forebay.core.errors import EngineError, Invalid
from forebay.core.request import Chat, Message, Request, RequestId, Role, Route, Sampling, Text
from forebay.engine.protocol import Engine, EngineInfo, Feature


def first_request(info: EngineInfo, now: float, wait_s_max: float) -> Request:
    """Return a request for one token that whoever asks waits for at most `wait_s_max` seconds."""
    chat = Feature.TEXT not in info.supports
    embed = chat and Feature.CHAT not in info.supports  # there are servers that do nothing else
    hello = Message(role=Role.USER, content="Hello")
    return Request(
        id=RequestId("first-token"),
        route=Route.PROBE,
        model="",
        prompt=Chat(messages=(hello,)) if chat and not embed else Text(text="Hello"),
        sampling=Sampling(tokens_max=0, embed=True) if embed else Sampling(tokens_max=1),
        received=now,
        # The worker keeps deadlines too; the asker's must pass first: it has the better words.
        deadline=now + 2.0 * wait_s_max,
    )


async def make_one_token(engine: Engine, now: float, wait_s_max: float) -> None:
    """Return once an engine has answered the smallest request; raises EngineError if it does not.

    Waits at most `wait_s_max` seconds from `now`.
    """
    try:
        async with asyncio.timeout(wait_s_max):
            async for _ in engine.generate(first_request(engine.info, now, wait_s_max)):
                pass
    except TimeoutError:
        raise EngineError("The engine was loaded, but made no token in time.") from None
    except Invalid as error:
        raise EngineError(f"The engine refused its first token. {error.message}") from None
