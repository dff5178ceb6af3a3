"""The configuration of Prometheus: what it scrapes, which rules it follows, whom it tells."""

from typing import Final

_TEXT: Final = """\
# Made by `forebay monitoring write`. Yours to set: the targets of the job `forebay`.
#
# Start it with --enable-feature=exemplar-storage, and the buckets of durations lead to traces:
# then Prometheus asks for OpenMetrics, in which Forebay writes trace ids beside them.
global:
  scrape_interval: 15s
  scrape_timeout: 10s
  evaluation_interval: 30s

rule_files:
  - rules/*.yml

alerting:
  alertmanagers:
    - static_configs:
        - targets: ["127.0.0.1:9093"]

scrape_configs:
  # Alerts go by this name: a server that cannot be scraped is `up{job="forebay"} == 0`.
  - job_name: forebay
    metrics_path: /metrics
    static_configs:
      - targets: ["127.0.0.1:8000"]
    # With access.mode=closed: a key whose user may read metrics, in a file of its own.
    # authorization:
    #   credentials_file: /etc/prometheus/secrets/forebay_key
    # With server.tls_certificate:
    # scheme: https
  - job_name: prometheus
    static_configs:
      - targets: ["127.0.0.1:9090"]
  - job_name: alertmanager
    static_configs:
      - targets: ["127.0.0.1:9093"]

# To Grafana Cloud, as its page "Send metrics" says: address, user number, and a token in a file.
#remote_write:
#  - url: https://prometheus-prod-01-eu-west-0.grafana.net/api/prom/push
#    basic_auth:
#      username: "123456"
#      password_file: /etc/prometheus/secrets/grafana_cloud_token
#    send_exemplars: true
#    write_relabel_configs:
#      # Only ours, and what alerts and records made of it: the rest is not paid for.
#      - source_labels: [__name__]
#        regex: "(llm|forebay|slo|process)[_:].*|up|ALERTS.*"
#        action: keep
"""


def prometheus() -> str:
    """Return the text of the configuration."""
    return _TEXT
