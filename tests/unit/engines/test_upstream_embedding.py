"""How an upstream is asked for a vector, and what is taken for one."""

import base64
import json
import struct
from typing import Any

import msgspec
import pytest

from forebay.core.request import Prompt, Text, TokenIds
from forebay.engines.upstream_embedding import body_of, finished
from forebay.engines.upstream_fault import Fault, Reason

VECTOR = struct.pack("<3f", 0.5, -0.25, 2.0)


def answer(*vectors: Any, **facts: Any) -> bytes:
    data = [{"object": "embedding", "index": 0, "embedding": vector} for vector in vectors]
    usage = {"prompt_tokens": 4, "total_tokens": 4}
    return json.dumps({"object": "list", "data": data, "usage": usage} | facts).encode()


@pytest.mark.parametrize(
    ("prompt", "given"), [(Text(text="a town"), "a town"), (TokenIds(ids=(5, 6)), [5, 6])]
)
def test_an_input_is_asked_for_alone_and_as_numbers(prompt: Prompt, given: object) -> None:
    body = msgspec.json.decode(body_of("m", prompt))
    assert body == {"model": "m", "input": given, "encoding_format": "float"}


@pytest.mark.parametrize("said", [[0.5, -0.25, 2.0], base64.b64encode(VECTOR).decode()])
def test_numbers_and_base64_are_the_same_vector_passed_on_as_it_is(said: object) -> None:
    found = finished(answer(said))
    assert found.embedding == VECTOR
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (4, 0)


def test_what_does_not_count_its_tokens_counts_none() -> None:
    assert finished(answer([1.0], usage=None)).usage.prompt_tokens == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>", Reason.NOT_JSON),
        (b"{}", Reason.NOT_JSON),
        (answer(["a"]), Reason.NOT_JSON),
        (answer([None]), Reason.NOT_JSON),
        (answer(), Reason.NONSENSE),
        (answer([1.0], [1.0]), Reason.NONSENSE),
        (answer([]), Reason.NONSENSE),
        (answer([1e300]), Reason.NONSENSE),
        (answer([0.0] * ((1 << 20) + 1)), Reason.NONSENSE),
        (answer("AAA"), Reason.NONSENSE),
        (answer("AAAA"), Reason.NONSENSE),
        (answer(base64.b64encode(struct.pack("<f", float("nan"))).decode()), Reason.NONSENSE),
        (answer([1.0], usage={"prompt_tokens": -1}), Reason.NONSENSE),
        (answer([1.0], usage={"prompt_tokens": 10**12}), Reason.NONSENSE),
    ],
)
def test_what_is_no_vector_is_a_fault(body: bytes, reason: Reason) -> None:
    with pytest.raises(Fault) as fault:
        finished(body)
    assert fault.value.reason is reason
