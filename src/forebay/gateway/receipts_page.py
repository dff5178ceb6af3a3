"""A receipt as a page for people: a waterfall that needs no script, no image and no other file."""

import base64
import hashlib
from html import escape
from typing import TYPE_CHECKING, Final

import msgspec

from forebay.gateway.exchange import Header

if TYPE_CHECKING:
    from forebay.gateway.receipts import PartBody, ReceiptBody

_MEANINGS: Final = {
    "wait": "bytes lay here before the event loop came to them",
    "access": "who asks, and may it",
    "parse": "the body came and became a request",
    "lookup": "an answer made before was looked for",
    "guard": "the input guard read it",
    "load": "the model was brought into memory",
    "queue": "it waited for a place",
    "route": "to the engine, and the first token's way back",
    "prefill": "the prompt was read, the first token made",
    "decode": "the other tokens were made",
    "join": "another request's answer was read as it was made",
    "replay": "a kept answer was read",
    "items": "its requests were served",
    "flush": "from the last token to the last byte",
}
_BAR_WIDTH_MIN: Final = 0.3
"""Per cent: what is too short to see is still shown."""
_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1a1d21;--soft:#5b6470;--line:#d9dee4;--paper:#fff;
--here:#2f6fde;--engine:#1f9d62;--wait:#d9822b;--bad:#c93a3a}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#9aa4b0;--line:#343b44;
--paper:#15181c;--here:#6ea3ff;--engine:#4cc38a;--wait:#f0a85a;--bad:#ff7b7b}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:60rem;padding:1.25rem;background:var(--paper);color:var(--ink);
font:15px/1.45 system-ui,sans-serif}
h1{font-size:1.15rem;margin:0;overflow-wrap:anywhere}
p{margin:.25rem 0 1rem;color:var(--soft)}
.ok{color:var(--engine)}.bad{color:var(--bad)}b{color:var(--ink)}
.row{display:grid;grid-template-columns:5rem 1fr 6.5rem;gap:.6rem;align-items:center;
padding:.2rem 0;border-top:1px solid var(--line)}
.row svg{width:100%;height:1.05rem;display:block}
.row span:nth-of-type(2){text-align:right;font-variant-numeric:tabular-nums}
.row small{grid-column:1/-1;color:var(--soft);margin-top:-.15rem}
.wait,.queue,.load,.lookup{fill:var(--wait)}
.prefill,.decode,.items,.join,.replay{fill:var(--engine)}
.access,.parse,.guard,.route,.flush{fill:var(--here)}
.track{fill:var(--line);opacity:.35}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1rem;margin:1.25rem 0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
@media(max-width:34rem){body{padding:.8rem}.row{grid-template-columns:4.2rem 1fr 5.4rem;gap:.4rem}
dl{grid-template-columns:1fr;gap:.05rem}dd{margin-bottom:.45rem}}
"""
_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest())
POLICY: Final[tuple[Header, ...]] = (
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'sha256-%b'; frame-ancestors 'none'; base-uri 'none';"
        b" form-action 'none'" % _HASH,
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"vary", b"accept"),
)


def page_of(receipt: "ReceiptBody") -> bytes:
    """Return the page of a receipt; whatever clients chose is escaped."""
    rows = "".join(_row(part, receipt.total_ms) for part in receipt.parts)
    facts = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in _facts(receipt)
    )
    tone = "ok" if receipt.outcome == "ok" else "bad"
    ended = "" if receipt.ended_in == "flush" else f", ended in <b>{escape(receipt.ended_in)}</b>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Request {escape(receipt.id)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>Request {escape(receipt.id)}</h1>"
        f'<p><b class="{tone}">{escape(receipt.outcome)} {receipt.status}</b>'
        f" after <b>{_shown(receipt.total_ms)}</b>{ended} &middot; {escape(receipt.model)}"
        f" &middot; {escape(receipt.route)} &middot; {escape(receipt.began_at)}</p>"
        f"<main>{rows}</main><dl>{facts}</dl></body></html>"
    ).encode()


def _row(part: "PartBody", total_ms: float) -> str:
    share = 100 / total_ms if total_ms else 0.0
    width = max(part.duration_ms * share, _BAR_WIDTH_MIN)
    start = min(part.start_ms * share, 100 - width)
    label = f"{part.part}: {_shown(part.duration_ms)}"
    return (
        f'<div class="row"><span>{part.part}</span>'
        f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'<rect class="track" width="100" height="10"></rect>'
        f'<rect class="{part.part}" x="{start:.3f}" width="{width:.3f}" height="10"></rect></svg>'
        f"<span>{_shown(part.duration_ms)}</span><small>{_MEANINGS[part.part]}</small></div>"
    )


def _facts(receipt: "ReceiptBody") -> list[tuple[str, str]]:
    """Return what else is known, in words."""
    found = [(name.replace("_", " "), _words(value)) for name, value in _said(receipt)]
    if receipt.tokens is not None:
        found.append(
            ("tokens", f"{receipt.tokens.prompt} prompt, {receipt.tokens.completion} completion")
        )
    if (first := receipt.first_token) is not None:
        expected = "not said" if first.forecast_ms is None else _shown(first.forecast_ms)
        actual = "none" if first.actual_ms is None else _shown(first.actual_ms)
        found.append(("first token", f"{actual}; forecast at the door: {expected}"))
    if receipt.cost is not None:
        found.append(("cost", receipt.cost))
    found.append(("event loop stalled", _shown(receipt.loop_stall_ms)))
    found.append(("bytes", f"{receipt.body_bytes} in, {receipt.answer_bytes} out"))
    if receipt.part_of:
        found.append(("part of", receipt.part_of))
    if receipt.items:
        found.append(("items", f"{receipt.items}: {receipt.id}-0 and on"))
    if receipt.error:
        found.append(("error", receipt.error))
    return found


def _said(receipt: "ReceiptBody") -> list[tuple[str, object]]:
    who = [("tenant", receipt.tenant), ("user", receipt.user)]
    asked = [("asked", f"{receipt.method} {receipt.path}"), ("stream", receipt.stream)]
    decided = msgspec.to_builtins(receipt.decisions).items()
    return [(name, value) for name, value in (*asked, *who, *decided) if value is not None]


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _shown(ms: float) -> str:
    return f"{ms / 1_000:,.2f} s" if ms >= 10_000 else f"{ms:,.2f} ms"  # noqa: PLR2004 - for people
