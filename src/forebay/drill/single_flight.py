"""Drill: many clients ask the same at once, and the engine makes one answer."""

import asyncio
from typing import Final

import uvloop

from forebay.drill.client import Seen, ask, chat
from forebay.drill.findings import Findings, Gate, exactly
from forebay.drill.rest import until_rest
from forebay.drill.server import Server
from forebay.drill.stage import Drill, Stage

CLIENTS: Final = 50
_TOKENS: Final = 24
_REST_S_MAX: Final = 10.0


async def _together(server: Server, model: str, *, stream: bool) -> list[Seen]:
    """Ask one thing many times at once."""
    body = chat(
        model,
        f"What is a river? {'In parts' if stream else 'All at once'}, please.",
        max_tokens=_TOKENS,
        ignore_eos=True,
        temperature=0,
        stream=stream,
    )
    return list(await asyncio.gather(*(ask(server.target, body) for _ in range(CLIENTS))))


def run(stage: Stage) -> Findings:
    """Ask together, whole answers and then streams, and count what was made.

    Not both at once: a stream never joins an answer that is made whole, of which the engine says
    nothing before its end, so that it would hang on which of them came first.
    """
    scripted = stage.engine == "scripted"
    settings = ("scripted.decode_s=0.02", "scripted.prefill_s=0.1") if scripted else ()
    model = "scripted" if scripted else "smollm2-135m-instruct"
    gates: list[Gate] = []
    with stage.serving(*settings) as server:
        made = 0.0
        for stream, what in ((False, "whole"), (True, "streams")):
            stage.say(f"{CLIENTS} clients ask the same: {what}")
            seen = uvloop.run(_together(server, model, stream=stream))
            rest = until_rest(server, _REST_S_MAX)
            before, made = made, server.metric("llm_answers_total", source="engine")
            answered = [each for each in seen if each.ok]
            gates += (
                exactly(f"{what}: answers made", made - before, 1),
                exactly(f"{what}: clients answered", len(answered), CLIENTS),
                exactly(f"{what}: different texts", len({each.text for each in answered}), 1),
            )
    gates.append(exactly("received less outcomes and in flight", rest.imbalance, 0))
    return Findings(
        gates=tuple(gates), figures={"clients": 2 * CLIENTS, "outcomes": dict(rest.outcomes)}
    )


SINGLE_FLIGHT: Final = Drill(
    name="single-flight",
    about="50 clients ask the same at temperature 0: one generation",
    run=run,
    engines=("scripted", "auto"),
)
