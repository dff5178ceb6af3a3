"""How many may be connected: in all, and of one address."""

from forebay.gateway.client_address import TrustedProxies
from forebay.gateway.crowd import Crowd, CrowdConfig

HERE = ("203.0.113.9", 1)


def test_one_too_many_is_turned_away_until_one_leaves() -> None:
    crowd = Crowd(CrowdConfig(connections_max=2))
    first, second = crowd.enter(HERE), crowd.enter(None)
    assert crowd.enter(HERE) is None
    assert (first, second, crowd.present) == ("local", "local", 2)
    assert first is not None
    crowd.leave(first)
    assert crowd.enter(HERE) is not None


def test_an_address_has_its_own_limit_and_is_forgotten_when_it_has_gone() -> None:
    crowd = Crowd(CrowdConfig(per_address_max=1))
    place = crowd.enter(HERE)
    assert place == "203.0.113.9"
    assert crowd.enter(HERE) is None
    assert crowd.enter(("::ffff:203.0.113.9", 1)) is None
    other = crowd.enter(("203.0.113.10", 1))
    assert other is not None
    assert (crowd.present, crowd.addresses) == (2, 2)
    crowd.leave(place)
    crowd.leave(other)
    assert (crowd.present, crowd.addresses) == (0, 0)


def test_a_network_of_64_bits_is_one_address() -> None:
    crowd = Crowd(CrowdConfig(per_address_max=1))
    assert crowd.enter(("2001:db8::1", 1)) == "2001:db8::/64"
    assert crowd.enter(("2001:db8::ffff:2%eth0", 1)) is None
    assert crowd.enter(("2001:db8:0:1::1", 1)) == "2001:db8:0:1::/64"


def test_a_trusted_proxy_is_not_counted_by_its_address() -> None:
    config = CrowdConfig(per_address_max=1, trusted=TrustedProxies.parse("203.0.113.0/24"))
    crowd = Crowd(config)
    places = [crowd.enter(HERE) for _ in range(3)]
    assert places == ["local"] * 3
    assert (crowd.present, crowd.addresses) == (3, 0)
