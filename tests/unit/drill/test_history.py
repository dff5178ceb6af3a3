"""The model that histories of keys are held against: a register that is written once."""

from forebay.drill.history import Op, violations


def op(client: int, body: bytes | None, *, key: str = "k", ended: float = 0.0) -> Op:
    return Op(key=key, client=client, asked=0.0, ended=ended or float(client), body=body)


def test_the_same_bytes_for_everybody_are_allowed() -> None:
    assert violations([op(1, b"a"), op(2, b"a"), op(3, b"b", key="other")]) == []


def test_a_second_answer_to_a_key_is_found() -> None:
    (found,) = violations([op(1, b"a"), op(2, b"b"), op(3, b"a")])
    assert "client 2" in found
    assert "client 1" in found


def test_the_first_answer_that_anybody_got_is_the_one_that_counts() -> None:
    (found,) = violations([op(1, b"late", ended=9.0), op(2, b"early", ended=1.0)])
    assert found.startswith("key k: client 1")


def test_a_client_without_an_answer_is_found() -> None:
    assert violations([op(1, b"a"), op(2, None)]) == ["key k: client 2 got no answer in 1 tries"]
