"""What `/metrics` tells, under the names that dashboards for LangGraph servers know (`lg_api_...`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from heddle_server.http.options import Figures

_LABELS = ("method", "path", "status")


class RequestMetrics:
    """Counts requests by method, route and status. `path` is the route's pattern, never what a client made up."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._requests = Counter(
            "lg_api_http_requests", "Requests served, by route and status.", _LABELS, registry=registry
        )
        self._latency = Histogram(
            "lg_api_http_requests_latency_seconds",
            "Time from the request to the end of its answer.",
            _LABELS,
            registry=registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
        )
        self._known: dict[tuple[str, str, int], tuple[Any, Any]] = {}

    def count(self, method: str, path: str, status: int, seconds: float) -> None:
        """One request. Methods are the client's word too, so unknown ones share a label."""
        key = (method, path, status)
        if (pair := self._known.get(key)) is None:
            labels = (method if method in _METHODS else "OTHER", path, str(status))
            pair = (self._requests.labels(*labels), self._latency.labels(*labels))
            if labels[0] == method:
                self._known[key] = pair
        pair[0].inc()
        pair[1].observe(seconds)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class _FiguresCollector(Collector):
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        f = self._figures
        yield GaugeMetricFamily("lg_api_num_pending_runs", "Runs that wait for a worker.", f.pending_runs)
        yield GaugeMetricFamily("lg_api_num_running_runs", "Runs being executed.", f.running_runs)
        yield GaugeMetricFamily(
            "lg_api_pending_runs_wait_time_max", "Seconds the oldest due run has waited.", f.longest_wait_seconds
        )
        yield GaugeMetricFamily("lg_api_workers_max", "Runs this process may execute at once.", f.slots)
        yield GaugeMetricFamily("lg_api_workers_active", "Runs this process executes now.", f.slots_taken)
        yield GaugeMetricFamily("lg_api_workers_available", "Free slots of this process.", f.slots - f.slots_taken)


def as_text(registry: CollectorRegistry, figures: Figures | None) -> bytes:
    """Prometheus text. `figures` None: they cannot be had now, so they are left out rather than made up."""
    text = generate_latest(registry)
    if figures is not None:
        current = CollectorRegistry()
        current.register(_FiguresCollector(figures))
        text += generate_latest(current)
    return text


def as_json(registry: CollectorRegistry, figures: Figures | None) -> dict[str, Any]:
    api: dict[str, list[dict[str, Any]]] = {}
    for metric in registry.collect():
        for sample in metric.samples:
            if sample.name.startswith("lg_api_") and not sample.name.endswith("_created"):
                name = sample.name.removeprefix("lg_api_")
                api.setdefault(name, []).append({"labels": dict(sample.labels), "value": sample.value})
    answer: dict[str, Any] = {"queue": None, "workers": None, "api": api}
    if figures is not None:
        answer["queue"] = {
            "n_pending": figures.pending_runs,
            "n_running": figures.running_runs,
            "pending_runs_wait_time_max_secs": figures.longest_wait_seconds,
        }
        free = figures.slots - figures.slots_taken
        answer["workers"] = {"max": figures.slots, "active": figures.slots_taken, "available": free}
    return answer
