"""What the gateway takes from a client, and how long it waits for one."""

from dataclasses import dataclass

from forebay.core.knob import knob


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """Bounds of one HTTP request."""

    head_bytes_max: int = knob(
        65_536,
        "Largest head of a request (its line and headers), in bytes; a larger one is refused with "
        "431.  A body's chunks may take as much beside what is in them.",
        minimum=1_024,
        maximum=1_048_576,
    )
    headers_max: int = knob(
        100,
        "Most headers of a request; more are refused with 431.",
        minimum=1,
        maximum=10_000,
    )
    url_bytes_max: int = knob(
        8_192,
        "Longest target of a request (path and query), in bytes; a longer one is refused with 414.",
        minimum=64,
        maximum=1_048_576,
    )
    head_s_max: float = knob(
        15.0,
        "Longest time from a connection's start, or from a head's first byte, to the head's end, "
        "in seconds; then it is cut.",
        minimum=0.01,
        maximum=600.0,
    )
    chunks_max: int = knob(
        8_192,
        "Most chunks of a chunked body; more are refused with 400.",
        minimum=16,
        maximum=1_000_000,
    )
    cors_origins: str = knob(
        "",
        "Origins, comma-separated, whose pages may call this server from a browser, as in "
        "https://chat.example.org.  Empty: none.",
    )
    body_bytes_max: int = knob(
        1_048_576,
        "Largest request body, in bytes; a larger one is refused with 413.",
        minimum=1_024,
        maximum=67_108_864,
        live=True,
    )
    discard_bytes_max: int = knob(
        67_108_864,
        "Most bytes of a too large body that are read, and thrown away, before the refusal.",
        minimum=0,
        maximum=1_073_741_824,
        live=True,
    )
    body_s_max: float = knob(
        30.0,
        "Longest time for a request body to arrive, in seconds; then 408.",
        minimum=0.1,
        maximum=600.0,
        live=True,
    )
    messages_max: int = knob(
        512,
        "Most messages in one chat request.",
        minimum=1,
        maximum=100_000,
        live=True,
    )
    parts_max: int = knob(
        64,
        "Most content parts in one message.",
        minimum=1,
        maximum=10_000,
        live=True,
    )
    prompt_bytes_max: int = knob(
        524_288,
        "Largest prompt (all its texts together), in bytes of UTF-8.",
        minimum=1,
        maximum=67_108_864,
        live=True,
    )
    n_max: int = knob(
        16,
        "Most choices (n) in one request.",
        minimum=1,
        maximum=1_024,
        live=True,
    )
    stops_max: int = knob(
        16,
        "Most stop strings in one request.",
        minimum=1,
        maximum=1_024,
        live=True,
    )
    stop_bytes_max: int = knob(
        256,
        "Longest stop string, in bytes of UTF-8.",
        minimum=1,
        maximum=65_536,
        live=True,
    )
    schema_bytes_max: int = knob(
        65_536,
        "Largest JSON schema in response_format, in bytes.",
        minimum=2,
        maximum=16_777_216,
        live=True,
    )
    server_timing: bool = knob(
        default=True,
        help="Say in the header Server-Timing of answers where their time went, as far as it is "
        "known when the head is sent.",
        live=True,
    )
    generate_tokens: int = knob(
        256,
        "Most tokens that /generate and its kin make where the client names no number.",
        minimum=1,
        maximum=1_000_000_000,
        live=True,
    )
    generate_prompts: str = knob(
        "chat",
        "What a prompt of /generate and its kin is where the client does not say: chat, a user's"
        " turn in the model's template; raw, a text to continue.  Without a template always raw.",
        choices=("chat", "raw"),
        live=True,
    )
    batch_prompts_max: int = knob(
        1_024,
        "Most prompts in one batch; a larger one is refused with 413.",
        minimum=1,
        maximum=100_000,
        live=True,
    )
    batch_running_max: int = knob(
        32,
        "Most prompts of one batch that run or wait for a place at once.",
        minimum=1,
        maximum=10_000,
        live=True,
    )
    embedding_inputs_max: int = knob(
        2_048,
        "Most inputs in one call of /v1/embeddings; more are refused with 413.  As many run at once"
        " as of a batch.",
        minimum=1,
        maximum=100_000,
        live=True,
    )
    tools_max: int = knob(
        128,
        "Most tools in one request.",
        minimum=1,
        maximum=1_024,
        live=True,
    )
    tool_calls_max: int = knob(
        16,
        "Most tool calls in one message, given or made under tool_choice: required.",
        minimum=1,
        maximum=1_024,
        live=True,
    )
    tools_generic: bool = knob(
        default=False,
        help="Offer tools to models whose chat template takes none, by a system message.",
        live=True,
    )
    request_s_max: float = knob(
        600.0,
        "Longest time from a request's receipt to its end, in seconds; then 504.",
        minimum=0.1,
        maximum=86_400.0,
        live=True,
    )
    send_s_max: float = knob(
        30.0,
        "Longest time for a client to take what was written to it, in seconds; then it is cut.",
        minimum=0.1,
        maximum=3_600.0,
    )
    flush_bytes_max: int = knob(
        65_536,
        "Most bytes of a stream that are joined before they are written.",
        minimum=1,
        maximum=16_777_216,
        live=True,
    )
