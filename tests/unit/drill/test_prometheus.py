"""Our Prometheus's configuration for a drill: those at hand are scraped and told, each second."""

from pathlib import Path

import yaml

from forebay.bench.client import Target
from forebay.drill.prometheus import Watched, at_hand
from forebay.monitoring.prometheus import prometheus


def watched(folder: Path, key: str = "", ca_file: Path | None = None) -> Watched:
    return Watched(
        folder=folder,
        server=Target(host="127.0.0.1", port=1),
        alertmanager=Target(host="127.0.0.1", port=2),
        speed=60.0,
        ca_file=ca_file,
        key=key,
    )


def test_it_scrapes_as_our_configuration_has_it_and_nobody_else(tmp_path: Path) -> None:
    before, found = yaml.safe_load(prometheus()), at_hand(watched(tmp_path))
    (ours,) = (each for each in before["scrape_configs"] if each["job_name"] == "forebay")
    assert found["scrape_configs"] == [ours | {"static_configs": [{"targets": ["127.0.0.1:1"]}]}]
    assert found["rule_files"] == before["rule_files"]
    (manager,) = found["alerting"]["alertmanagers"]
    assert manager["static_configs"] == [{"targets": ["127.0.0.1:2"]}]
    assert set(found["global"].values()) == {"1s"}


def test_a_key_is_shown_from_a_file_as_the_documents_say(tmp_path: Path) -> None:
    (scrape,) = at_hand(watched(tmp_path, key="secret"))["scrape_configs"]
    assert Path(scrape["authorization"]["credentials_file"]).read_text() == "secret"
    assert "scheme" not in scrape


def test_with_tls_it_trusts_one_authority(tmp_path: Path) -> None:
    (scrape,) = at_hand(watched(tmp_path, ca_file=tmp_path / "a.pem"))["scrape_configs"]
    assert scrape["scheme"] == "https"
    assert scrape["tls_config"] == {"ca_file": str(tmp_path / "a.pem")}
