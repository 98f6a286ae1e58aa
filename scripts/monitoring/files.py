"""Makes the files in deploy/monitoring that say again what others there say: dashboards, and policies of the alerts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[2] / "deploy/monitoring"
# stands for the notification channel, which every project has its own of
CHANNEL = "${CHANNEL}"
COLUMNS, WIDTH, HEIGHT = 2, 24, 16
REGION_OF_GRAFANA = (12, 8)

# what the platform itself measures, with or without the sidecar; alert → metric, and from where on
OF_PLATFORM = {
    "RookeryMemory": ("run.googleapis.com/container/memory/utilizations", 0.85),
    "RookeryCpu": ("run.googleapis.com/container/cpu/utilizations", 0.9),
}
# Cloud Monitoring evaluates no recording rules, so its alert is a plain PSI of the features over a day
DRIFT = """\
(
  sum by (digest, kind, name) (
    (
      (increase(rookery_drift_rows_total[24h]) + 0.5) / on (digest, kind, name) group_left ()
        sum by (digest, kind, name) (increase(rookery_drift_rows_total[24h]) + 0.5)
      - on (digest, kind, name, bin)
      (max by (digest, kind, name, bin) (rookery_drift_reference_rows) + 0.5) / on (digest, kind, name) group_left ()
        sum by (digest, kind, name) (max by (digest, kind, name, bin) (rookery_drift_reference_rows) + 0.5)
    )
    * on (digest, kind, name, bin)
    ln(
      (increase(rookery_drift_rows_total[24h]) + 0.5) / on (digest, kind, name) group_left ()
        sum by (digest, kind, name) (increase(rookery_drift_rows_total[24h]) + 0.5)
      / on (digest, kind, name, bin)
      (
        (max by (digest, kind, name, bin) (rookery_drift_reference_rows) + 0.5) / on (digest, kind, name) group_left ()
          sum by (digest, kind, name) (max by (digest, kind, name, bin) (rookery_drift_reference_rows) + 0.5)
      )
    )
  ) > 0.25
)
  and on (digest, kind, name)
sum by (digest, kind, name) (increase(rookery_drift_rows_total[24h])) > 500
""".replace(
    "increase(rookery_drift_rows_total[24h])",
    "sum by (digest, kind, name, bin) (increase(rookery_drift_rows_total[24h]))",
)


def rendered() -> dict[Path, str]:
    """Return every file that is made, by its path."""
    panels = yaml.safe_load((FOLDER / "panels.yml").read_text())
    files = {FOLDER / "dashboard.json": dashboard(panels), FOLDER / "grafana.json": grafana(panels)}
    for rule in alerts():
        files[FOLDER / f"policies/{rule['alert']}.json"] = policy(rule)
    return {path: json.dumps(value, indent=2, ensure_ascii=False) + "\n" for path, value in files.items()}


def alerts() -> list[dict[str, Any]]:
    """Return the alerts of both files of rules, as they stand there."""
    groups = [
        group
        for name in ("rookery.rules.yml", "drift.rules.yml")
        for group in yaml.safe_load((FOLDER / name).read_text())["groups"]
    ]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def policy(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return Cloud Monitoring's form of an alert."""
    name, summary = rule["alert"], rule["annotations"]["summary"]
    return {
        "displayName": name,
        "userLabels": {"rookery": name.lower()},
        "severity": "CRITICAL" if rule["labels"]["severity"] == "page" else "WARNING",
        "documentation": {
            "mimeType": "text/markdown",
            "subject": re.sub(r"\s*\{\{.*?\}\}", "", summary),
            "content": f"Made by `make generated`. What to do: DEPLOYMENT.md, section {name}.",
        },
        "combiner": "OR",
        "conditions": [_condition(rule)],
        "alertStrategy": {"autoClose": "86400s"},
        "notificationChannels": [CHANNEL],
    }


def _condition(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is watched."""
    name, wait = rule["alert"], f"{int(rule['for'][:-1]) * 60}s"
    if name in OF_PLATFORM:
        metric, threshold = OF_PLATFORM[name]
        return {
            "displayName": name,
            "conditionThreshold": {
                "filter": f'resource.type = "cloud_run_revision" AND metric.type = "{metric}"',
                "aggregations": [{"alignmentPeriod": "60s", "perSeriesAligner": "ALIGN_PERCENTILE_99"}],
                "comparison": "COMPARISON_GT",
                "thresholdValue": threshold,
                "duration": wait,
            },
        }
    # what the controller writes is no metric of Prometheus there: cloud.google.com/monitoring/promql/promql-mapping
    query = rule["expr"].replace("rookery_rollout_", "custom_googleapis_com:rookery_rollout_")
    query = DRIFT if name == "RookeryDrift" else query
    prometheus = {
        "query": query,
        "duration": wait,
        "evaluationInterval": "60s",
        "alertRule": name,
        # a project that nothing has reported to yet has none of the metrics
        "disableMetricValidation": True,
    }
    return {"displayName": name, "conditionPrometheusQueryLanguage": prometheus}


def dashboard(panels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return Cloud Monitoring's dashboard."""
    tiles = []
    for index, panel in enumerate(panels):
        sets = [
            {
                "plotType": "LINE",
                "legendTemplate": re.sub(r"\{\{(\w+)\}\}", r"${metric.labels.\1}", name),
                "timeSeriesQuery": {"prometheusQuery": query},
            }
            for name, query in panel["queries"].items()
        ]
        row, column = divmod(index, COLUMNS)
        place = {"xPos": column * WIDTH, "yPos": row * HEIGHT, "width": WIDTH, "height": HEIGHT}
        tiles.append({**place, "widget": {"title": panel["title"], "xyChart": {"dataSets": sets}}})
    layout = {"columns": COLUMNS * WIDTH, "tiles": tiles}
    return {"displayName": "Rookery", "labels": {"rookery": ""}, "mosaicLayout": layout}


def grafana(panels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return Grafana's dashboard; exemplars lead from the latency to traces."""
    width, height = REGION_OF_GRAFANA
    source = {"type": "prometheus", "uid": "${source}"}
    shown = [
        {
            "id": index + 1,
            "type": "timeseries",
            "title": panel["title"],
            "datasource": source,
            "gridPos": {"x": index % 2 * width, "y": index // 2 * height, "w": width, "h": height},
            "fieldConfig": {"defaults": {"unit": panel["unit"]}, "overrides": []},
            "targets": [
                {
                    "refId": chr(ord("A") + place),
                    "expr": query,
                    "legendFormat": name,
                    "exemplar": "rookery_request_seconds_bucket" in query,
                }
                for place, (name, query) in enumerate(panel["queries"].items())
            ],
        }
        for index, panel in enumerate(panels)
    ]
    variable = {"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    return {
        "title": "Rookery",
        "uid": "rookery",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [variable]},
        "panels": shown,
    }


def write() -> None:
    """Write every file that is made."""
    for path, text in rendered().items():
        path.write_text(text)
