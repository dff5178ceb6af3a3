"""What Alertmanager writes to people: each alert with its runbook and its dashboard.

Go templates, in the configuration itself: a file of templates beside it would be one more thing
that can be missing at three in the morning.
"""

from typing import Final

SUBJECT: Final = (
    '[{{ .Status | toUpper }}{{ if eq .Status "firing" }} {{ .Alerts.Firing | len }}{{ end }}]'
    " {{ .GroupLabels.service }}"
    "{{ with .GroupLabels.alertname }} {{ . }}{{ end }}"
    "{{ with .GroupLabels.model }} ({{ . }}){{ end }}"
)

SLACK_TEXT: Final = """\
{{ range .Alerts -}}
*{{ .Labels.alertname }}* {{ .Status }} since {{ .StartsAt.UTC.Format "2006-01-02 15:04:05" }} UTC
{{ .Annotations.summary }}
{{ .Annotations.description }}
<{{ .Annotations.runbook_url }}|Runbook> · <{{ .Annotations.dashboard_url }}|Dashboard>

{{ end }}"""

MAIL_TEXT: Final = """\
{{ range .Alerts -}}
{{ .Labels.alertname }} ({{ .Labels.severity }}), {{ .Status }}
  {{ .Annotations.summary }}
  {{ .Annotations.description }}
  since      {{ .StartsAt.UTC.Format "2006-01-02 15:04:05" }} UTC
{{- if eq .Status "resolved" }}
  until      {{ .EndsAt.UTC.Format "2006-01-02 15:04:05" }} UTC{{ end }}
  runbook    {{ .Annotations.runbook_url }}
  dashboard  {{ .Annotations.dashboard_url }}

{{ end }}"""

PAGE: Final = "{{ (index .Alerts 0).Annotations.summary }}"
PAGE_RUNBOOK: Final = "{{ (index .Alerts 0).Annotations.runbook_url }}"
PAGE_DASHBOARD: Final = "{{ (index .Alerts 0).Annotations.dashboard_url }}"
PAGE_DETAILS: Final = {
    "alerts": "{{ range .Alerts }}{{ .Annotations.summary }} {{ .Annotations.description }}"
    " {{ end }}",
    "runbook": PAGE_RUNBOOK,
    "dashboard": PAGE_DASHBOARD,
}
