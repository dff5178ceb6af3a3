"""The page of the HTTP API, read from the tables that the gateway works by."""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from forebay.gateway import parameters
from forebay.gateway.capabilities import typed_bounds
from forebay.gateway.embeddings_parameters import EMBEDDINGS
from forebay.gateway.embeddings_schemas import EmbeddingsCall
from forebay.gateway.native_parameters import NATIVE
from forebay.gateway.parameters import Parameter, Verdict
from forebay.gateway.responses_parameters import RESPONSES
from forebay.gateway.responses_schemas import ResponsesCall
from forebay.gateway.schemas import ChatCall, TextCall

_HEAD: Final = """\
# HTTP API

OpenAI's API: point any OpenAI client's base URL at `http://host:port/v1`. `/docs` lets you try it
in a browser, without the internet; `/openapi.json` describes it to programs.

| Path | Method | What |
| --- | --- | --- |
| `/v1/chat/completions` | POST | Answer a conversation, whole or as a stream |
| `/v1/completions` | POST | Continue a text, whole or as a stream |
| `/v1/responses` | POST | Answer a conversation as items, whole or as semantic events |
| `/v1/embeddings` | POST | Make a vector of each input, where the model's engine can |
| `/generate` | POST | Answer one prompt, or each of several |
| `/generate_stream` | POST | Answer a prompt, an event per token |
| `/generate_batch` | POST | Answer many prompts: one entry each, in order |
| `/infer` | POST | Answer a prompt by a version of a model |
| `/models`, `/model/info`, `/status` | GET | What is served, what answers by default, how it is |
| `/v1/models`, `/v1/models/{id}` | GET | The models that are served |
| `/v1/capabilities` | GET | What each model's API honours, refuses, warns of, with its bounds |
| `/v1/streams/{id}` | GET | The rest of a keyed stream, after `Last-Event-ID` |
| `/v1/requests`, `/v1/requests/{id}` | GET | [Receipts](receipts.md): where a request's time went |
| `/livez` | GET | Does the event loop turn? 200 while draining too |
| `/readyz` | GET | Should new requests come here? 503 says why not |
| `/startupz` | GET | Has the first real token been made? |
| `/health` | GET | Readiness and the load of every model |
| `/metrics`, `/prometheus` | GET | Every [metric](metrics.md), as text or OpenMetrics |
| `/admin/ledger` | GET | What came in, how it ended, what is in flight, and what is held by whom |
| `/admin/slo` | GET | What is left of each [objective's](slo.md) error budget, how fast it goes |
| `/admin/reload` | POST | Read the settings again: what was applied, and what needs a restart |
| `/admin/models` | GET | Every model on offer: in memory or not, its size, versions, hits, misses |
| `/admin/models/load`, `/admin/models/unload` | POST | `{"model"}`: bring it into memory, or let \
it finish its work and leave |
| `/admin/versions/add`, `/admin/versions/remove` | POST | `{"model", "version", "source"}`: put a \
LoRA adapter on offer as `model:version`, beside what runs; withdraw one |
| `/admin/routes`, `/admin/routes/restart` | GET, POST | Where each route leads and how its \
candidate does; `{"route"}`: begin its rollout again |

With `access.mode=closed` ([accounts](accounts.md)) there are also:

| Path | Method | What |
| --- | --- | --- |
| `/auth/login`, `/auth/logout` | POST | `{"username", "password"}` for a token; end it |
| `/auth/me`, `/auth/password` | GET, POST | Who am I; `{"current", "new"}`: another password |
| `/v1/usage` | GET | What was used, and what is left of [budgets](budgets.md); also as CSV |
| `/admin/users`, `/admin/users/update` | GET, POST | List users, make one, change one |
| `/admin/tenants`, `/admin/tenants/update` | GET, POST | List tenants, change one's limits |
| `/admin/keys`, `/admin/keys/revoke`, `/admin/keys/rotate` | GET, POST | List API keys, make \
one, end one, replace one |
| `/admin/budgets`, `/admin/budgets/remove` | GET, POST | List budgets, set one, remove one |
| `/admin/audit` | GET | Who did what |

In open mode `/admin` answers only the server's own machine: the server listens on loopback, `Host`
names it so, and no header says that a proxy passed the request on or that a web page sent it. In
closed mode every route but the probes and `/auth/login` asks for a credential, as
`Authorization: Bearer <key or token>` or `X-API-Key: <key>`; [which right each asks
for](route-access.md).

Bodies are JSON in UTF-8. `X-Request-ID` (1 to 128 of `A-Z a-z 0-9 . _ -`) is taken, given back and
logged; without one, an id is made. An [error](errors.md) names the field at fault,
where there is one, in `param`.

A stream is server-sent events. Its status line is sent with the first token, not before, so an
overload is a 503. A failure after that is an event `{"error": ...}`. `data: [DONE]` ends every
stream under `/v1` but those of `/v1/responses`, whether it failed or not. A client that leaves,
streaming or not, ends the work for it.

## `/generate` and its kin

Short calls for whoever needs no conversation. Nothing but the prompt is required; without `model`
the first of `GET /models` answers. `max_new_tokens` and `max_tokens` are one; without a number
`gateway.generate_tokens` are made at most. `do_sample: false` is greedy, and what it makes
meaningless (`temperature`, `top_p`, ...) is named in `x-forebay-warning`. Errors are RFC 9457
problems; `param` names the field. All the headers below work here too, and `X-API-Key` is a
credential where there is no `Authorization`.

**What a prompt is.** A user's turn, put into the model's chat template, for that is what an
instruct model answers. `raw: true` continues the prompt as it stands;
`gateway.generate_prompts: raw` makes that the rule. A model without a template always continues.

`POST /generate` answers `{"id", "model", "text", "finish_reason", "metrics"}`. `metrics` has
`ttft`, `tpot` and `total_time` in seconds, `tokens_generated`, `tokens_per_second` and
`prompt_tokens`, by the definitions of the [glossary](glossary.md).

`POST /generate_stream` sends `data: {"token", "text", "finished", "metrics"}` per token; `text` is
all of it so far. The event with `"finished": true` is the last, and no `[DONE]` follows. A failure
is an event `{"token": "", "finished": true, "error": {...}}`. Where a reader is slower than the
model, an event may hold several tokens.

`POST /generate_batch` (and `/generate` with `prompts`) answers `{"id", "model", "results",
"metrics"}`. There is one entry per prompt, in order: `{"index", "id", "text", "finish_reason",
"metrics"}`, or `{"index", "error"}`. What fails, an empty prompt or an overload, fails alone. Each
prompt is a request of its own, with its own turn at the door, its own record, and the id
`<id>-<index>`. At most `gateway.batch_running_max` of a batch are at the door or beyond at once,
and unless `X-Priority` says otherwise interactive requests go first. More than
`gateway.batch_prompts_max` are a 413. A client that leaves ends them all. An `Idempotency-Key`
stands for the whole batch: sent again, each prompt gets the answer it had, and what failed is made
now; another batch under the same key is a 422 in its entries.

`POST /infer` answers `{"result", "metadata": {"model", "version", "tokens_generated",
"response_time", "generation_time"}}`. `base_model` and `adapter_version` choose as
`model: base:version` does; a model's own weights are the version `default`. What is not served is a
404 that lists what is. `generation_time` is the engine's; it is 0 where nothing was made for this
request.

An answer that is given again under a key has the same text; its `metrics` and times are those of
this delivery.

`GET /models` lists `{"base_model", "versions", "description"}`. `GET /model/info` tells of the
model that answers by default: engine, context, load. `GET /status` says `healthy`, or why not, and
what is in memory.

## Tools

Where the model's chat template takes `tools`, and has the model write its calls in a form that is
read here (`<tool_call>{JSON}</tool_call>` as Hermes and Qwen, `{"name", "parameters"}` as Llama 3,
`[TOOL_CALLS] [{JSON}]` as Mistral), chat completions and responses take functions, calls and
results. `GET /v1/capabilities` tells: `features` has `tools`. With `gateway.tools_generic` the
other models are told of tools by a system message.

| `tool_choice` | What happens |
| --- | --- |
| `auto` | The model decides. Its arguments are its own words, passed on as they come and not \
checked: check them. What it writes that is no call of a tool that was offered is content, word \
for word; half a call is never content. `strict` has no effect, and is warned of |
| `required`, a function | The answer is nothing but calls, and their arguments satisfy the \
functions' schemas: a grammar sees to it. Which schemas a grammar enforces is what \
`response_format` takes; another is a 400 where the function is `strict`, and elsewhere allows any \
object and is warned of. An answer that `max_tokens` cuts short may hold half a call |
| `none` | The model is not told of the tools |

`parallel_tool_calls: false`, or a function as the choice, gives at most one call. With tools that
may be called there are no `logprobs` and no other `response_format`.

## `/v1/responses`

Nothing is stored: `input` is the whole conversation, `output` items can be put into the next one as
they are, and what builds on stored answers is refused by name. A stream is typed events with
`sequence_number`s; the last is `response.completed`, or `response.incomplete` where
`max_output_tokens` cut it short, or `error`.

## `/v1/embeddings`

One vector per input, in their order, of length 1 where it is made here, as numbers or as `base64`
(little-endian float32). Each input is a request of its own, with its own turn at the door, its own
record, and, where there are several, the id `<id>-<index>`; at most `gateway.batch_running_max` of
them are at the door or beyond at once, and several are of class `batch` unless `X-Priority` says
otherwise. The first input that fails fails the call, and `param` says which: `input[3]`. Nothing is
kept, as the same input has the same vector: `Idempotency-Key` and `Last-Event-ID` are refused. The
engines `transformers` and `scripted` make vectors, and `upstream` passes on, as they are, those of
servers that do, if `upstream.features` has `+embeddings` (for a model that does nothing else,
`+embeddings,-chat,-text`); `GET /v1/capabilities` tells (`features` has `embeddings`), and a 400
names the models that can.

What a vector is worth depends on the model. `transformers` takes the mean, over all tokens, of what
a causal language model last computes of them. Such a model was trained to say the next word, not to
tell texts apart: with SmolLM2-135M, sentences that say the same in other words came to a cosine of
0.91 to 0.95, and ones that have nothing in common to 0.62 to 0.83. So near duplicates and broad
subjects are found; for search, put a model made for retrieval behind `upstream`.

## Headers

| Header | What it asks for |
| --- | --- |
| `Idempotency-Key` | 1 to 255 printable ASCII characters; a UUID will do. The same key and \
request again gets the same answer, byte for byte, with `Idempotent-Replayed: true`: from the \
store, or from the generation while it runs. Tokens are made, and counted, once. Another request \
under the same key is a 422. Keys of two credentials never meet |
| `x-forebay-attach: false` | While the key's first request still runs: 409, not its answer |
| `Last-Event-ID` | With the same keyed request, or with `GET` of the path in `x-forebay-stream`: \
go on after that event. The `id:` lines of keyed streams count from 1 and name their answer, as \
`17-3f2a9c1d`. An answer that is no more kept, or was made anew since, is a 410; a stranger's is \
a 404 |
| `X-Request-Timeout` | Seconds, from receipt to the answer's end. What cannot be done in that \
time is refused at once, with the time after which it can |
| `X-Request-Deadline-Ms` | The same as a moment: Unix time in milliseconds |
| `X-Priority` | `interactive` (the default) or `batch`, which lets the others go first |
| `Cache-Control` | `no-store`: neither read nor keep. `no-cache`: make it anew. `max-age=60`: an \
answer of that age serves, also where the request is not repeatable |
| `x-forebay-ticket` | Comes with a 503; sent back at the advertised time, it keeps the turn |

Greedy (`temperature: 0`) and seeded requests are *repeatable*: equal ones of one credential that
run at the same time share one generation, and later ones are answered from memory while it
lasts. `x-forebay-cache` says `hit`, `miss`, or `bypass` where nothing was looked for.

## Parameters

Each is **honoured**, **refused** with a 400 that names it, or **warned** of: accepted without
effect, and named in the header `x-forebay-warning`. An unknown name is refused with the nearest
known one. `null` is as good as nothing. A parameter that is left out takes the model's own
default: `GET /v1/capabilities` tells them (greedy for the default model). A *neutral* value is
one that every engine can honour, so it
always passes. What is honoured here may be refused by a model whose engine cannot do it;
`/v1/capabilities` tells, and has the bounds that depend on model and configuration.

A message's `content` is a text, or parts of `type: text`, which are joined by line feeds. The role
`developer` is the system's newer name and is treated as `system`. A message's `name` is warned of.
"""
_MEANT_MAX: Final = 1_000_000
"""Bounds beyond this only keep numbers in their type; a server's own are much nearer."""


def http_api_page() -> str:
    """Return the page: paths, rules, and a table of parameters per dialect."""
    chat = _table("/v1/chat/completions", ChatCall, parameters.CHAT)
    text = _table("/v1/completions", TextCall, parameters.TEXT)
    responses = _table("/v1/responses", ResponsesCall, RESPONSES)
    embeddings = _table("/v1/embeddings", EmbeddingsCall, EMBEDDINGS)
    native = [line for path, (kind, rows) in NATIVE.items() for line in _table(path, kind, rows)]
    return "\n".join([_HEAD, *chat, *text, *responses, *embeddings, *native])


def _table(path: str, call: type[Struct], table: tuple[Parameter, ...]) -> Iterator[str]:
    bounds = typed_bounds(call)
    yield f"### `{path}`"
    yield ""
    yield "| Parameter | What happens | Bounds | Neutral | Note |"
    yield "| --- | --- | --- | --- | --- |"
    for row in sorted(table, key=lambda parameter: parameter.name):
        happens = row.verdict.value if row.verdict is Verdict.HONOURED else f"**{row.verdict}**"
        limits = ", ".join(
            _bound(name, at) for name, at in bounds[row.name].items() if abs(at) < _MEANT_MAX
        )
        neutral = ", ".join(f"`{_shown(value)}`" for value in row.neutral)
        yield f"| `{row.name}` | {happens} | {limits} | {neutral} | {row.note} |"
    yield ""


def _bound(name: str, at: float) -> str:
    signs = {"minimum": ">=", "maximum": "<=", "exclusiveMinimum": ">", "exclusiveMaximum": "<"}
    return f"{signs[name]} {at}"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).replace("'", '"')
