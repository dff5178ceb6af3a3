"""Drill: many clients ask the same at once, and the engine makes one answer."""

import asyncio
from typing import Final

import uvloop

from forebay.drill.client import Seen, ask, chat
from forebay.drill.findings import Findings, exactly
from forebay.drill.rest import until_rest
from forebay.drill.server import Server
from forebay.drill.stage import Drill, Stage

CLIENTS: Final = 50
_TOKENS: Final = 24
_REST_S_MAX: Final = 10.0


async def _together(server: Server, model: str) -> list[Seen]:
    """Ask one thing many times at once: half of the clients whole, half of them as a stream."""
    bodies = [
        chat(
            model,
            "What is a river, and where does it go?",
            max_tokens=_TOKENS,
            ignore_eos=True,
            temperature=0,
            stream=number % 2 == 0,
        )
        for number in range(CLIENTS)
    ]
    return list(await asyncio.gather(*(ask(server.target, body) for body in bodies)))


def run(stage: Stage) -> Findings:
    """Ask together, and count what was made."""
    scripted = stage.engine == "scripted"
    settings = ("scripted.decode_s=0.02", "scripted.prefill_s=0.1") if scripted else ()
    model = "scripted" if scripted else "smollm2-135m-instruct"
    with stage.serving(*settings) as server:
        stage.say(f"{CLIENTS} clients ask the same")
        seen = uvloop.run(_together(server, model))
        rest = until_rest(server, _REST_S_MAX)
        made = server.metric("llm_answers_total", source="engine")
    answered = [each for each in seen if each.ok]
    gates = (
        exactly("answers made", made, 1),
        exactly("clients answered", len(answered), CLIENTS),
        exactly("different texts", len({each.text for each in answered}), 1),
        exactly("received less outcomes and in flight", rest.imbalance, 0),
    )
    return Findings(gates=gates, figures={"clients": CLIENTS, "outcomes": dict(rest.outcomes)})


SINGLE_FLIGHT: Final = Drill(
    name="single-flight",
    about="50 clients ask the same at temperature 0: one generation",
    run=run,
    engines=("scripted", "auto"),
)
