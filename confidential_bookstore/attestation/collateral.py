"""Where collateral comes from: TCB info, QE identity, their issuers' certificates and two CRLs.

All of it is signed, so no source is trusted; a wrong one can only make verification fail. What a source gives out never
holds a PCK certificate chain: dcap-qvl would prefer that one to the quote's own.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import dcap_qvl
from cryptography import x509

from confidential_bookstore.attestation.quote import Quote
from confidential_bookstore.attestation.roots import MALFORMED
from confidential_bookstore.errors import CollateralUnavailable, ConfigurationError

_FRESH_SECONDS = 3600.0
_RETRY_SECONDS = 60.0  # how long what is held serves on when the source is away
_LONG_AGO = dt.datetime.fromtimestamp(0, dt.UTC)


class CollateralSource(Protocol):
    """Anything that has collateral for a quote."""

    async def collateral_for(self, quote: Quote) -> dcap_qvl.QuoteCollateralV3:
        """Collateral for the quote's platform and TEE.

        Raises:
            CollateralUnavailable: there is none to be had.
        """
        ...


@dataclass(frozen=True, slots=True)
class DirectoryCollateral:
    """Files `<fmspc>-<tee>.json`, for example `00606a000000-SGX.json`, in the JSON form of `QuoteCollateralV3`."""

    path: Path

    def file_for(self, fmspc: str, tee: str) -> Path:
        """Where the collateral of a platform (FMSPC, 12 hex digits) and TEE ("SGX", "TDX") is kept."""
        return self.path / f"{fmspc.lower()}-{tee.upper()}.json"

    async def collateral_for(self, quote: Quote) -> dcap_qvl.QuoteCollateralV3:
        """See `CollateralSource`."""
        file = self.file_for(quote.fmspc, quote.tee)
        try:
            return _without_pck_chain(dcap_qvl.QuoteCollateralV3.from_json(file.read_text(encoding="utf-8")))
        except OSError as error:
            raise CollateralUnavailable("collateral cannot be read", got=f"{file}: {error.strerror}") from error
        except ValueError as error:
            raise CollateralUnavailable("collateral is malformed", got=f"{file}: {error}") from error


@dataclass(frozen=True, slots=True)
class PccsCollateral:
    """A provisioning certificate caching service (or Intel's PCS), asked over HTTP with API version 4.

    `timeout` is in seconds and covers all requests for one quote together.
    """

    url: str
    timeout: float = 10.0

    async def collateral_for(self, quote: Quote) -> dcap_qvl.QuoteCollateralV3:
        """See `CollateralSource`."""
        try:
            async with asyncio.timeout(self.timeout):
                return _without_pck_chain(await dcap_qvl.get_collateral(self.url, quote.raw))
        except TimeoutError as error:
            raise CollateralUnavailable(
                "PCCS does not answer", got=self.url, expected=f"an answer within {self.timeout:g} s"
            ) from error
        except ValueError as error:
            raise CollateralUnavailable("PCCS has no collateral for this quote", got=f"{self.url}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Held:
    collateral: dcap_qvl.QuoteCollateralV3
    fresh_until: float
    expires: float


class CachedCollateral:
    """Keeps what a source gave, per FMSPC, CA and TEE: asks again every hour, and does without until it expires.

    So revocations are noticed within the hour, and a source that is away does no harm while what it gave is valid.
    Requests at the same time share one fetch. Expired collateral is never given out, not even when fresh collateral
    cannot be had.

    Args:
        source: asked when nothing valid is held.
        clock: Unix seconds.
    """

    def __init__(self, source: CollateralSource, clock: Callable[[], float] = time.time) -> None:
        self._source = source
        self._clock = clock
        self._held: dict[tuple[str, str, str], _Held] = {}
        self._fetches: dict[tuple[str, str, str], asyncio.Task[_Held]] = {}

    async def collateral_for(self, quote: Quote) -> dcap_qvl.QuoteCollateralV3:
        """See `CollateralSource`."""
        key = (quote.fmspc, quote.ca, quote.tee)
        held = self._held.get(key)
        if held is not None and held.fresh_until > self._clock():
            return held.collateral
        try:
            return (await self._fetch(key, quote)).collateral
        except CollateralUnavailable:
            if held is None or held.expires <= self._clock():
                raise
            again = min(held.expires, self._clock() + _RETRY_SECONDS)
            self._held[key] = dataclasses.replace(held, fresh_until=again)
            return held.collateral

    async def _fetch(self, key: tuple[str, str, str], quote: Quote) -> _Held:
        fetch = self._fetches.get(key)
        if fetch is None:
            fetch = self._fetches[key] = asyncio.create_task(self._ask_source(key, quote))
            fetch.add_done_callback(lambda done: self._finish(key, done))
        await asyncio.wait([fetch])  # and not `await fetch`: whoever is cancelled must not cancel it for the others
        return fetch.result()

    async def _ask_source(self, key: tuple[str, str, str], quote: Quote) -> _Held:
        collateral = await self._source.collateral_for(quote)
        expires = expiry(collateral)
        held = self._held[key] = _Held(collateral, min(expires, self._clock() + _FRESH_SECONDS), expires)
        return held

    def _finish(self, key: tuple[str, str, str], fetch: asyncio.Task[_Held]) -> None:
        del self._fetches[key]
        if not fetch.cancelled():
            fetch.exception()  # retrieved, in case nobody waits any more


def configured_collateral(directory: Path | None, pccs_url: str) -> CollateralSource:
    """What settings name, cached: a directory, or else a PCCS.

    Raises:
        ConfigurationError: neither is set.
    """
    if directory is not None:
        return CachedCollateral(DirectoryCollateral(directory))
    if pccs_url:
        return CachedCollateral(PccsCollateral(pccs_url))
    raise ConfigurationError("no collateral to verify quotes with", hint="set CBS_PCCS_URL or CBS_COLLATERAL_DIR")


def expiry(collateral: dcap_qvl.QuoteCollateralV3) -> float:
    """When the first part of the collateral runs out, in Unix seconds.

    Raises:
        CollateralUnavailable: a part cannot be read.
    """
    documents = (collateral.tcb_info, collateral.qe_identity)
    chains = (
        collateral.pck_crl_issuer_chain.encode(),
        collateral.tcb_info_issuer_chain.encode(),
        collateral.qe_identity_issuer_chain.encode(),
    )
    try:
        ends = [dt.datetime.fromisoformat(json.loads(document)["nextUpdate"]) for document in documents]
        for chain in chains:
            ends += [certificate.not_valid_after_utc for certificate in x509.load_pem_x509_certificates(chain)]
        for crl in (collateral.root_ca_crl, collateral.pck_crl):
            ends.append(x509.load_der_x509_crl(crl).next_update_utc or _LONG_AGO)
        return min(ends).timestamp()
    except (*MALFORMED, KeyError, RecursionError) as error:
        raise CollateralUnavailable("collateral is malformed", got=repr(error)) from error


def _without_pck_chain(collateral: dcap_qvl.QuoteCollateralV3) -> dcap_qvl.QuoteCollateralV3:
    return dcap_qvl.QuoteCollateralV3(
        pck_crl_issuer_chain=collateral.pck_crl_issuer_chain,
        root_ca_crl=collateral.root_ca_crl,
        pck_crl=collateral.pck_crl,
        tcb_info_issuer_chain=collateral.tcb_info_issuer_chain,
        tcb_info=collateral.tcb_info,
        tcb_info_signature=collateral.tcb_info_signature,
        qe_identity_issuer_chain=collateral.qe_identity_issuer_chain,
        qe_identity=collateral.qe_identity,
        qe_identity_signature=collateral.qe_identity_signature,
    )
