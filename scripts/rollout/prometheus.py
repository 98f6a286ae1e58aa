"""Asks any Prometheus-compatible endpoint, Managed Service for Prometheus included, over its HTTP API."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import requests.exceptions

from scripts.rollout.observe import Counts, Family, MetricsError, Span, by_bounds
from scripts.rollout.windows import Histogram

TIMEOUT_SECONDS = (5, 10)
# Cloud Run's own counts as Managed Service for Prometheus names them; any other endpoint does not know them
REQUEST_COUNT, REQUEST_CLASS = "run_googleapis_com:request_count", "response_code_class"


class Prometheus:
    """Metrics from PromQL.

    `increase` is asked for each window; it knows restarts of counters and extrapolates to the window's ends.
    """

    def __init__(self, url: str, session: Any, *, revision_label: str = "revision_name") -> None:
        """Prepare.

        Args:
            url: what comes before `/api/v1/query_range`.
            session: sends requests, with credentials where they are needed.
            revision_label: the label that names the revision.
        """
        self._url, self._session, self._label = url.rstrip("/"), session, revision_label

    def counters(self, family: Family, revision: str, span: Span) -> Counts:
        """See `observe.Source`."""
        found: dict[int, dict[str, float]] = {}
        name = family.by or self._label
        over = f"{self._selector(family.name, family, revision)}[{span.window_seconds}s]"
        query = f"sum by ({name}) (increase({over}))" if family.by else f"max by ({name}) (max_over_time({over}))"
        for labels, index, value in self._range(query, span):
            found.setdefault(index, {})[labels.get(name, "")] = value
        return found

    def platform(self, revision: str, span: Span) -> Counts:
        """See `observe.Source`."""
        found: dict[int, dict[str, float]] = {}
        selector = f'{REQUEST_COUNT}{{monitored_resource="cloud_run_revision",revision_name="{revision}"}}'
        query = f"sum by ({REQUEST_CLASS}) (increase({selector}[{span.window_seconds}s]))"
        for labels, index, value in self._range(query, span):
            found.setdefault(index, {})[labels.get(REQUEST_CLASS, "")] = value
        return found

    def histograms(self, family: Family, revision: str, span: Span) -> Mapping[int, Histogram]:
        """See `observe.Source`."""
        cumulative: dict[int, list[tuple[float, float]]] = {}
        selector = self._selector(f"{family.name}_bucket", family, revision)
        for labels, index, value in self._range(f"sum by (le) (increase({selector}[{span.window_seconds}s]))", span):
            cumulative.setdefault(index, []).append((float(labels["le"]), value))
        return {index: by_bounds(bounds) for index, bounds in cumulative.items()}

    def _selector(self, name: str, family: Family, revision: str) -> str:
        conditions = [f'{self._label}="{revision}"', *(f'{label}=~"{value}"' for label, value in family.where)]
        return f"{name}{{{','.join(conditions)}}}"

    def _range(self, query: str, span: Span) -> list[tuple[dict[str, str], int, float]]:
        length = span.window_seconds
        asked = {"query": query, "start": span.begin_seconds + length, "end": span.end_seconds, "step": length}
        try:
            reply = self._session.get(f"{self._url}/api/v1/query_range", params=asked, timeout=TIMEOUT_SECONDS)
            body = reply.json() if reply.status_code == 200 else {}
            if body.get("status") != "success":
                raise MetricsError(f"{self._url}: {reply.status_code} {reply.text[:200]}")
            return [
                (series["metric"], span.index(float(moment)), float(value))
                for series in body["data"]["result"]
                for moment, value in series["values"]
                if math.isfinite(float(value))
            ]
        except (requests.exceptions.RequestException, ValueError, KeyError, TypeError, AttributeError) as error:
            raise MetricsError(f"{self._url}: {error}") from error
