"""A PCCS for one simulated platform: serves its collateral as Intel's service does, version 4 of the API.

Collateral is issued anew for every request, so it is always fresh. The three documents of one verification come from
different requests; each is signed for itself, so this does no harm.
"""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass

import dcap_qvl
from aiohttp import web

from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class RunningPccs:
    """A PCCS that listens at `url`."""

    url: str
    _runner: web.AppRunner

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()


async def start_pccs(platform: SimulatedPlatform, host: str = "127.0.0.1", port: int = 0) -> RunningPccs:
    """Serve the platform's collateral over plain HTTP (collateral is signed); port 0 takes any free one.

    Raises:
        ConfigurationError: the address cannot be used.
    """
    runner = web.AppRunner(application(platform), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise ConfigurationError("the PCCS cannot listen", got=str(error)) from error
    address = runner.addresses[0]
    name = f"[{host}]" if ":" in host else host
    return RunningPccs(f"http://{name}:{address[1]}", runner)


def application(platform: SimulatedPlatform) -> web.Application:
    """The routes that quote verifiers use."""

    async def pck_crl(request: web.Request) -> web.Response:
        kind = "processor" if platform.machine.instance_id is None else "platform"
        if request.query.get("ca") != kind:
            raise web.HTTPNotFound(text=f"this machine was certified by the {kind} CA")
        collateral = platform.collateral()
        crl = collateral.pck_crl
        body = crl if request.query.get("encoding") == "der" else crl.hex().encode()
        return _answer(body, "SGX-PCK-CRL-Issuer-Chain", collateral.pck_crl_issuer_chain)

    async def tcb_info(request: web.Request) -> web.Response:
        fmspc = platform.machine.fmspc.hex()
        if request.query.get("fmspc", "").lower() != fmspc:
            raise web.HTTPNotFound(text=f"only TCB info for FMSPC {fmspc} is served here")
        collateral = _collateral(platform, request)
        body = _signed("tcbInfo", collateral.tcb_info, collateral.tcb_info_signature)
        return _answer(body, "TCB-Info-Issuer-Chain", collateral.tcb_info_issuer_chain)

    async def qe_identity(request: web.Request) -> web.Response:
        collateral = _collateral(platform, request)
        body = _signed("enclaveIdentity", collateral.qe_identity, collateral.qe_identity_signature)
        return _answer(body, "SGX-Enclave-Identity-Issuer-Chain", collateral.qe_identity_issuer_chain)

    async def root_ca_crl(_: web.Request) -> web.Response:
        return web.Response(body=platform.collateral().root_ca_crl.hex().encode())

    app = web.Application()
    app.add_routes(
        [
            web.get("/sgx/certification/v4/pckcrl", pck_crl),
            web.get("/sgx/certification/v4/rootcacrl", root_ca_crl),
            web.get("/{tee:sgx|tdx}/certification/v4/tcb", tcb_info),
            web.get("/{tee:sgx|tdx}/certification/v4/qe/identity", qe_identity),
        ]
    )
    return app


def _collateral(platform: SimulatedPlatform, request: web.Request) -> dcap_qvl.QuoteCollateralV3:
    return platform.collateral(request.match_info["tee"].upper())


def _answer(body: bytes, header: str, chain: str) -> web.Response:
    return web.Response(body=body, headers={header: urllib.parse.quote(chain)})


def _signed(name: str, document: str, signature: bytes) -> bytes:
    # The document goes out byte for byte, because its text is what was signed.
    return f'{{"{name}":{document},"signature":"{signature.hex()}"}}'.encode()
