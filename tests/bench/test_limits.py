from benchmarks import limits


async def test_what_limits_add_is_measured_and_reported() -> None:
    figures = await limits.measure(5)
    assert all(figure.us > 0.0 for figure in figures)
    assert figures[0].ratio == 1.0
    assert [figure.name for figure in figures[1:]] == [
        "enter, nothing limited",
        "of, nothing limited",
        "enter, in memory",
        "of, in memory",
        "headers",
    ]
    assert "| headers |" in limits.report(figures)
