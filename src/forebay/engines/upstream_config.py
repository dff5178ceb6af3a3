"""Where upstreams are, how they are asked, and what bounds each of them."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from forebay.core.knob import knob
from forebay.engine.protocol import CannotLoad

_UPSTREAMS_MAX: Final = 64
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9a-f:.]{2,45}")
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]{1,64}){0,8}")
_KEY: Final = re.compile(r"[!-~]{0,4096}")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamConfig:
    """Servers that speak OpenAI's dialect, and what is taken from them."""

    urls: str = knob(
        "",
        "Addresses of the servers that answer, as http://10.0.0.7:8000/v1, separated by commas; "
        "all serve the same model. https:// is verified; a redirect or a proxy is not followed.",
    )
    model: str = knob("", "The model's name there; empty: the only one that they list.")
    api_key: str = knob("", "Key that the servers ask for, sent as a bearer token.", secret=True)
    server: str = knob(
        "auto",
        "What program they run, which decides what they can be asked; auto asks them.",
        choices=(
            *("auto", "openai", "vllm", "sglang", "tgi", "llama-server", "ollama", "forebay"),
            "other",
        ),
    )
    features: str = knob(
        "",
        "What they can be asked besides (+top_k,+embeddings) and what not (-n), by commas.",
    )
    context_tokens_max: int = knob(
        0,
        "Prompt and completion together; 0: what they say of themselves, or no limit of ours.",
        minimum=0,
        maximum=10_000_000,
    )
    ca_file: str = knob("", "File of certificates to trust for https; empty: the system's.")
    connections_max: int = knob(
        128, "Requests at once to each server; more wait.", minimum=1, maximum=10_000
    )
    connect_s_max: float = knob(
        3.0, "Longest wait for a connection, in seconds.", minimum=0.05, maximum=60.0
    )
    idle_s: float = knob(
        4.0,
        "How long an idle connection is kept, in seconds; shorter than the servers keep it.",
        minimum=0.1,
        maximum=3_600.0,
    )
    silence_s_max: float = knob(
        120.0,
        "Longest silence in a stream, its beginning included, in seconds.",
        minimum=0.1,
        maximum=3_600.0,
    )
    start_s_max: float = knob(
        60.0,
        "Longest wait for the first server to answer at the start, in seconds.",
        minimum=0.1,
        maximum=3_600.0,
    )
    probe_s: float = knob(
        2.0, "How often each server is asked how it is, in seconds.", minimum=0.05, maximum=600.0
    )
    probe_s_max: float = knob(
        2.0, "Longest wait for the answer to that, in seconds.", minimum=0.05, maximum=60.0
    )
    failures_max: int = knob(
        5, "Failures in a row after which a server is left alone.", minimum=1, maximum=1_000
    )
    rest_s: float = knob(
        1.0,
        "How long a server is left alone before it is tried by a token, in seconds.",
        minimum=0.05,
        maximum=600.0,
    )
    retries_max: int = knob(
        2,
        "How often a request that nothing was passed on of goes to another server.",
        minimum=0,
        maximum=10,
    )
    retry_share_max: float = knob(
        0.2, "Most such retries, as a share of the requests.", minimum=0.0, maximum=1.0
    )
    retries_per_s_min: float = knob(
        10.0, "Retries a second that are allowed besides that share.", minimum=0.0, maximum=1e6
    )
    affinity_bytes: int = knob(
        2_048,
        "Beginning of a prompt by which it goes to the server that knows it; 0: by load alone.",
        minimum=0,
        maximum=1_000_000,
    )
    busier_ratio_max: float = knob(
        2.0,
        "How many times the load of the least busy server a prompt's own may have.",
        minimum=1.0,
        maximum=1_000.0,
    )
    busier_max: int = knob(
        4, "Requests that it may have more than that.", minimum=0, maximum=10_000
    )
    head_bytes_max: int = knob(
        32_768, "Longest head of an answer, in bytes.", minimum=1_024, maximum=1_048_576
    )
    line_bytes_max: int = knob(
        1_048_576, "Longest line of a stream, in bytes.", minimum=1_024, maximum=67_108_864
    )
    answer_bytes_max: int = knob(
        16_777_216, "Longest whole answer, in bytes.", minimum=1_024, maximum=1_073_741_824
    )
    stream_bytes_max: int = knob(
        268_435_456, "Longest stream, in bytes.", minimum=1_024, maximum=1_099_511_627_776
    )
    unread_bytes_max: int = knob(
        262_144,
        "Bytes of an answer that wait for a slow reader before no more are taken in.",
        minimum=4_096,
        maximum=67_108_864,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where one server is."""

    secure: bool
    host: str
    port: int
    path: str
    """What stands before `/v1`; empty or beginning with a slash."""

    @property
    def authority(self) -> str:
        """Host and port, as a Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    @property
    def name(self) -> str:
        """What it is called in logs and by the affinity."""
        return f"{'https' if self.secure else 'http'}://{self.authority}{self.path}"


def addresses_of(config: UpstreamConfig) -> tuple[Address, ...]:
    """Return where the upstreams are; raises CannotLoad with the fix."""
    texts = [text.strip() for text in config.urls.split(",") if text.strip()]
    if not texts:
        raise CannotLoad("Set upstream.urls to the servers' addresses, as http://10.0.0.7:8000/v1.")
    if len(texts) > _UPSTREAMS_MAX:
        raise CannotLoad(f"upstream.urls has {len(texts)} addresses; at most {_UPSTREAMS_MAX}.")
    found = tuple(map(_address, texts))
    if len(set(found)) < len(found):
        raise CannotLoad("upstream.urls names one address twice; each counts once.")
    if not _KEY.fullmatch(config.api_key):
        raise CannotLoad("upstream.api_key has characters that no header takes; found ***.")
    return found


def _address(text: str) -> Address:
    fix = "Write it as http://10.0.0.7:8000/v1, without user, query or fragment."
    wrong = CannotLoad(f"upstream.urls: '{text[:80]}' is no address. {fix}")
    if "@" in text:
        raise CannotLoad(f"upstream.urls: one has a user in it; that is upstream.api_key. {fix}")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise wrong from None
    path = parts.path.rstrip("/").removesuffix("/v1")
    known = parts.scheme in {"http", "https"} and not (parts.query or parts.fragment)
    if not (known and _HOST.fullmatch(parts.hostname or "") and _PATH.fullmatch(path)):
        raise wrong
    secure = parts.scheme == "https"
    port = (443 if secure else 80) if port is None else port
    return Address(secure=secure, host=parts.hostname or "", port=port, path=path)
