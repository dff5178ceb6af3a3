"""Our Alertmanager's configuration for a drill: other addresses, a faster clock, else the same."""

from pathlib import Path

import yaml

from forebay.drill.alertmanager import at_hand
from forebay.drill.sinks import Sinks

CONFIG = """\
global: {smtp_smarthost: "mail.example.org:587", smtp_auth_password_file: /etc/password}
route:
  receiver: all
  group_wait: 30s
  routes: [{receiver: all, group_interval: 1h30m, repeat_interval: 12h}]
inhibit_rules: [{source_matchers: ['severity="page"'], equal: [area]}]
receivers:
- name: all
  slack_configs: [{api_url_file: /etc/slack, text: "{{ .Alerts }}"}]
  webhook_configs: [{url: "https://example.org"}]
"""


def test_it_delivers_here_and_keeps_routes_texts_and_inhibitions(tmp_path: Path) -> None:
    sinks = Sinks()
    sinks.mail_port, sinks.web_port = 25, 80
    found = at_hand(CONFIG, speed=60.0, sinks=sinks, folder=tmp_path)
    before = yaml.safe_load(CONFIG)
    (receiver,) = found["receivers"]
    assert found["global"]["smtp_smarthost"] == "127.0.0.1:25"
    assert found["inhibit_rules"] == before["inhibit_rules"]
    assert receiver["slack_configs"][0]["text"] == "{{ .Alerts }}"
    assert receiver["webhook_configs"] == [{"url": "http://127.0.0.1:80/webhook"}]
    slack = Path(receiver["slack_configs"][0]["api_url_file"])
    assert slack.read_text(encoding="utf-8") == "http://127.0.0.1:80/slack"
    assert Path(found["global"]["smtp_auth_password_file"]).read_text(encoding="utf-8")


def test_its_intervals_pass_as_much_faster(tmp_path: Path) -> None:
    route = at_hand(CONFIG, speed=60.0, sinks=Sinks(), folder=tmp_path)["route"]
    assert route["group_wait"] == "500ms"
    assert route["routes"][0]["group_interval"] == "1m30s"
    assert route["routes"][0]["repeat_interval"] == "12m"
