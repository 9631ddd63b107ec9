"""Metrics, events and health over plain HTTP, for the operator's network only. Off by default.

/metrics   Prometheus' text format          /livez    the process answers
/events    activations and refusals, JSON   /readyz   it would activate marbles; 503 and the reason otherwise
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from coordinator.deployment.live import LiveDeployment
from coordinator.deployment.state import Phase
from coordinator.monitoring import prometheus
from coordinator.monitoring.events import EventLog
from coordinator.monitoring.metrics import (
    ActivationCounters,
    GrpcMetrics,
    HttpMetrics,
    coordinator_families,
    exposition,
)
from coordinator.transport.json_text import go_json

NOT_READY: Final[Mapping[Phase, str]] = {
    Phase.UNINITIALIZED: "the coordinator has not started yet\n",
    Phase.RECOVERY: "the sealed state waits for recovery secrets\n",
    Phase.ACCEPTING_MANIFEST: "no manifest has been set\n",
}
READY: Final = "ok\n"
READY_WITHOUT_QUOTES: Final = "ok, in interoperability mode: marbles are admitted without a quote\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitoring:
    """The pages.

    Attributes:
        http: of the client API.
        grpc: of the Marble API.
        version: of the coordinator,
        commit: that it was built from.
        interoperability: marbles are admitted without a quote.
    """

    live: LiveDeployment
    events: EventLog
    counters: ActivationCounters
    http: HttpMetrics = field(default_factory=HttpMetrics)
    grpc: GrpcMetrics = field(default_factory=GrpcMetrics)
    version: str = ""
    commit: str = ""
    interoperability: bool = False

    async def answer(self, request: web.Request) -> web.Response:
        """Any request at all."""
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, text="method not allowed\n")
        phase = self.live.current.state.phase
        match request.path:
            case "/metrics":
                return web.Response(body=self._metrics(phase), headers={"Content-Type": prometheus.CONTENT_TYPE})
            case "/events":
                return web.Response(body=go_json(self.events.entries()), content_type="application/json")
            case "/readyz":
                return self._readiness(phase)
            case "/livez":
                return web.Response(text=READY)
            case _:
                return web.Response(status=404, text="not found\n")

    def _readiness(self, phase: Phase) -> web.Response:
        if phase in NOT_READY:
            return web.Response(status=503, text=NOT_READY[phase])
        return web.Response(text=READY_WITHOUT_QUOTES if self.interoperability else READY)

    def _metrics(self, phase: Phase) -> bytes:
        families = (
            *coordinator_families(int(phase), self.version, self.commit),
            *self.counters.families,
            *self.grpc.families,
            *self.http.families,
        )
        return exposition(families).encode("utf-8", "replace")  # a manifest's names may be no text
