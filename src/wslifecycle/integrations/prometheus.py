"""What a server's connections do, for Prometheus: `pip install 'wslifecycle[prometheus]'`.

    counters = Counters()
    server = await start_server(app, options=Options(counters=counters))
    metrics = asgi_app(counters)  # an ASGI app of its own, to be mounted at /metrics

To show it with whatever else a process counts, register a `Collector(counters)` with its registry.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, make_asgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector as _Collector

from wslifecycle.runtime.counters import Counters


class Collector(_Collector):
    """Shows `Counters` as five metrics, whose names begin with `wslifecycle_`."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        told = self._counters.snapshot()
        states = GaugeMetricFamily(
            "wslifecycle_connections", "Connections that are in a state of the wire.", labels=["state"]
        )
        for state, count in told["states"].items():
            states.add_metric([state], count)
        yield states
        for name, label, says in (
            ("events", "event", "What happened on connections, by the names of the spec."),
            ("refused", "rule", "What apps were refused, by the number of the rule."),
            ("answered", "status", "Answers to handshakes."),
        ):
            counted = CounterMetricFamily(f"wslifecycle_{name}", says, labels=[label])
            for key, count in told[name].items():
                counted.add_metric([key], count)
            yield counted
        outcomes = CounterMetricFamily(
            "wslifecycle_outcomes",
            "Connections that have ended: where on the wire, by which event, and with which code.",
            labels=["wire", "by", "code"],
        )
        for one in told["outcomes"]:
            outcomes.add_metric([one["wire"], one["by"], str(one["code"])], one["count"])
        yield outcomes


def asgi_app(counters: Counters) -> Any:
    """An ASGI app that answers every request with the metrics of `counters`, in the formats of Prometheus."""
    registry = CollectorRegistry()
    registry.register(Collector(counters))
    return make_asgi_app(registry)
