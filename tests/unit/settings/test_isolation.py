"""What closed mode turns off because tenants would share it."""

from forebay.settings import Sources, load


def test_in_closed_mode_tenants_share_no_prefix_cache_unless_that_is_said() -> None:
    closed = "access.mode=closed"
    for assignments, cached in (((), True), ((closed,), False)):
        found = load(Sources(assignments=assignments))
        assert found.settings.engines["openvino"].prefix_cache is cached
    said = load(Sources(assignments=(closed, "openvino.prefix_cache=true")))
    assert said.settings.engines["openvino"].prefix_cache is True
    by_mode = load(Sources(assignments=(closed,)))
    assert {
        each.set_by for each in by_mode.effective if each.setting.key.endswith("prefix_cache")
    } == {closed}
