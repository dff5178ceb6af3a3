"""The smallest request there is: who answers it can answer."""

from forebay.core.request import Chat, Message, Request, RequestId, Role, Route, Sampling, Text
from forebay.engine.protocol import EngineInfo, Feature


def first_request(info: EngineInfo, now: float, wait_s_max: float) -> Request:
    """Return a request for one token that whoever asks waits for at most `wait_s_max` seconds."""
    chat = Feature.TEXT not in info.supports
    hello = Message(role=Role.USER, content="Hello")
    return Request(
        id=RequestId("first-token"),
        route=Route.PROBE,
        model="",
        prompt=Chat(messages=(hello,)) if chat else Text(text="Hello"),
        sampling=Sampling(tokens_max=1),
        received=now,
        # The worker keeps deadlines too; the asker's must pass first: it has the better words.
        deadline=now + 2.0 * wait_s_max,
    )
