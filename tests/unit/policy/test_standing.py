from forebay.policy.standing import Standing


def test_a_queue_stands_once_it_was_not_empty_for_the_interval() -> None:
    standing = Standing(2.0)
    standing.filled(10.0)
    assert not standing.at(11.9)
    assert standing.at(12.0)


def test_more_who_come_do_not_begin_the_interval_again() -> None:
    standing = Standing(2.0)
    standing.filled(10.0)
    standing.filled(11.5)
    assert standing.at(12.0)


def test_a_queue_that_was_empty_begins_again() -> None:
    standing = Standing(2.0)
    standing.filled(10.0)
    standing.emptied()
    assert not standing.at(13.0)
    standing.filled(13.0)
    assert not standing.at(14.0)
