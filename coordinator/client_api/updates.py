"""Updates: proposing, acknowledging, cancelling, and the log of all that has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web

from confidential_bookstore.errors import ManifestError, NoUpdatePending
from coordinator.client_api.authentication import Identify
from coordinator.client_api.envelope import success
from coordinator.deployment import updates
from coordinator.deployment.deployment import Deployment
from coordinator.deployment.live import LiveDeployment
from coordinator.deployment.state import Phase
from coordinator.deployment.updates import UpdateOutcome
from coordinator.manifest.users import UserSpec
from coordinator.monitoring.events import Clock
from coordinator.transport.json_text import go_map

log = structlog.get_logger()

Who = Identify[UserSpec]
Step = Callable[[Deployment], tuple[Deployment, UpdateOutcome]]


@dataclass(frozen=True, slots=True)
class UpdateEndpoints:
    """The update log, updates, and those that wait for acknowledgments.

    Attributes:
        tolerant: unknown keys in a manifest are warnings.
    """

    live: LiveDeployment
    clock: Clock
    tolerant: bool

    async def log(self, _who: Identify[None], _nothing: None) -> web.Response:
        """GET /api/v2/update."""
        return success({"updateLog": self._lines()})

    async def log_v1(self, _who: Identify[None], _nothing: None) -> web.Response:
        """GET /update: one text."""
        return success("".join(f"{line}\n" for line in self._lines()))

    async def update(self, who: Who, raw: bytes) -> web.Response:
        """POST /api/v2/update."""
        outcome = await self._update(who, raw)
        return success(
            {
                "missingAcknowledgments": outcome.missing_acknowledgments,
                "missingUsers": outcome.missing_users,
                **_recovery_secrets(outcome),
            }
        )

    async def update_v1(self, who: Who, raw: bytes) -> web.Response:
        """POST /update."""
        await self._update(who, raw)
        return success(None)

    async def pending(self, _who: Identify[None], _nothing: None) -> web.Response:
        """GET /api/v2/update-manifest and /update-manifest."""
        pending = self.live.current.pending
        if pending is None:
            raise NoUpdatePending("no update in progress")
        return success(
            {
                "manifest": pending.raw,
                "message": updates.waiting_message(pending),
                "missingUsers": pending.missing_users,
            }
        )

    async def acknowledge(self, who: Who, raw: bytes) -> web.Response:
        """POST /api/v2/update-manifest."""
        outcome = await self._acknowledge(who, raw)
        return success(
            {
                "message": outcome.message,
                "missingUsers": outcome.missing_users,
                "missingAcknowledgments": outcome.missing_acknowledgments,
                **_recovery_secrets(outcome),
            }
        )

    async def acknowledge_v1(self, who: Who, raw: bytes) -> web.Response:
        """POST /update-manifest."""
        return success((await self._acknowledge(who, raw)).message)

    async def cancel(self, who: Who, _nothing: None) -> web.Response:
        """POST /api/v2/update-cancel."""
        await self._cancel(who)
        return success({"message": updates.CANCELLED})

    async def cancel_v1(self, who: Who, _nothing: None) -> web.Response:
        """POST /update-cancel."""
        await self._cancel(who)
        return success(updates.CANCELLED)

    def _lines(self) -> tuple[str, ...]:
        deployment = self.live.current
        deployment.state.require(Phase.ACCEPTING_MARBLES)
        return deployment.update_log

    async def _update(self, who: Who, raw: bytes) -> UpdateOutcome:
        def step(deployment: Deployment) -> tuple[Deployment, UpdateOutcome]:
            return updates.update(deployment, raw, who(deployment), self.clock(), tolerant=self.tolerant)

        return await self._step("update", step)

    async def _acknowledge(self, who: Who, raw: bytes) -> UpdateOutcome:
        def step(deployment: Deployment) -> tuple[Deployment, UpdateOutcome]:
            return updates.acknowledge(deployment, raw, who(deployment), self.clock(), tolerant=self.tolerant)

        try:
            return await self._step("update acknowledged", step)
        except ManifestError:
            # All have agreed to what cannot be: as in MarbleRun, the update is over.
            await self.live.change(lambda deployment: updates.fail(deployment, self.clock()))
            raise

    async def _cancel(self, who: Who) -> None:
        await self.live.change(lambda deployment: updates.cancel(deployment, who(deployment), self.clock()))
        log.info("update cancelled")

    async def _step(self, event: str, step: Step) -> UpdateOutcome:
        outcome = await self.live.change_slowly(step)
        log.info(event, missing_acknowledgments=outcome.missing_acknowledgments)
        return outcome


def _recovery_secrets(outcome: UpdateOutcome) -> dict[str, Any]:
    """Left out if there are none."""
    return {"recoverySecrets": go_map(outcome.recovery_secrets)} if outcome.recovery_secrets else {}
