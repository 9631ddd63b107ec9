"""Metrics, events and health over plain HTTP, for the operator's network only. Off by default.

/metrics   Prometheus' text format          /livez    the process answers
/events    activations and refusals, JSON   /readyz   it would activate marbles; 503 otherwise
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from coordinator.client_api.envelope import go_json
from coordinator.deployment.live import LiveDeployment
from coordinator.deployment.state import Phase
from coordinator.monitoring.events import ActivationCounters, EventLog

_METRICS_FORMAT = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitoring:
    """The pages."""

    live: LiveDeployment
    events: EventLog
    counters: ActivationCounters

    async def answer(self, request: web.Request) -> web.Response:
        """Any request at all."""
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, text="method not allowed\n")
        phase = self.live.current.state.phase
        if request.path == "/metrics":
            body = self.counters.exposition(int(phase)).encode()
            return web.Response(body=body, headers={"Content-Type": _METRICS_FORMAT})
        if request.path == "/events":
            return web.Response(body=go_json(self.events.entries()), content_type="application/json")
        if request.path == "/readyz" and phase is not Phase.ACCEPTING_MARBLES:
            return web.Response(status=503, text="no manifest has been set\n")
        healthy = request.path in ("/livez", "/readyz")
        return web.Response(status=200 if healthy else 404, text="ok\n" if healthy else "not found\n")
