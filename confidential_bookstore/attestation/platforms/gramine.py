"""SGX under Gramine: quotes and sealing keys from the pseudo-files below `/dev/attestation`.

Source: Gramine documentation, "Attestation and secret provisioning". Needs `sgx.remote_attestation = "dcap"` in the
Gramine manifest. Inside the enclave these files are Gramine's own; the host cannot replace them. What it could replace
is the quote, which the quoting enclave makes outside: so the quote must contain the report that the CPU makes inside.
"""

from __future__ import annotations

import threading
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from confidential_bookstore.attestation.platforms.device_files import DeviceFiles
from confidential_bookstore.attestation.platforms.interface import (
    SEALING_KEY_SIZE,
    SealPolicy,
    require_counter,
    require_report_data,
)
from confidential_bookstore.errors import CounterUnavailable, PlatformError, SealingUnavailable

DIRECTORY = Path("dev/attestation")

_QUOTE_HEADER_SIZE = 48
_REPORT_BODY_SIZE = 384
_SGX_KEY_SIZE = 16  # what EGETKEY returns
_KEY_FILES = {SealPolicy.UNIQUE_KEY: "_sgx_mrenclave", SealPolicy.PRODUCT_KEY: "_sgx_mrsigner"}


class GraminePlatform:
    """`Platform` inside a Gramine enclave. Safe to use from several threads."""

    def __init__(self, directory: Path, files: DeviceFiles | None = None) -> None:
        self._directory = directory
        self._files = files or DeviceFiles()
        # user_report_data and quote are one register for the whole process.
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Always `gramine`."""
        return "gramine"

    def quote(self, report_data: bytes) -> bytes:
        """An SGX quote over these 64 bytes.

        Raises:
            PlatformError: no DCAP attestation in this enclave, or the quoting service does not answer or gives a quote
                of another enclave.
        """
        require_report_data(report_data)
        try:
            with self._lock:
                kind = self._files.read(self._directory / "attestation_type").decode("ascii", "replace").strip()
                if kind != "dcap":
                    raise PlatformError(
                        "Gramine does not attest with DCAP",
                        got=repr(kind),
                        expected="'dcap'",
                        hint='set sgx.remote_attestation = "dcap" in the Gramine manifest',
                    )
                self._files.write(self._directory / "user_report_data", report_data)
                report = self._local_report()
                quote = self._files.read(self._directory / "quote")
        except OSError as error:
            raise PlatformError("Gramine did not give a quote", got=str(error)) from error
        if quote[_QUOTE_HEADER_SIZE : _QUOTE_HEADER_SIZE + _REPORT_BODY_SIZE] != report:
            raise PlatformError("the host gave a quote that is not of this enclave")
        return quote

    def _local_report(self) -> bytes:
        """The body of EREPORT's report over the present `user_report_data`, for this enclave itself as the target."""
        target = self._files.read(self._directory / "my_target_info")
        self._files.write(self._directory / "target_info", target)
        return self._files.read(self._directory / "report")[:_REPORT_BODY_SIZE]

    def sealing_key(self, policy: SealPolicy) -> bytes:
        """EGETKEY's 16 bytes, expanded to 32.

        Raises:
            SealingUnavailable: Gramine has no such key.
        """
        try:
            key = self._files.read(self._directory / "keys" / _KEY_FILES[policy])
        except OSError as error:
            raise SealingUnavailable("Gramine did not give a sealing key", got=str(error)) from error
        if len(key) != _SGX_KEY_SIZE:
            raise SealingUnavailable(
                "SGX sealing key has the wrong size", got=f"{len(key)} bytes", expected=f"{_SGX_KEY_SIZE} bytes"
            )
        info = b"confidential-bookstore gramine sealing key v1\0" + policy.value.encode()
        return HKDF(hashes.SHA256(), SEALING_KEY_SIZE, salt=None, info=info).derive(key)

    def raise_counter(self, counter_id: bytes, value: int) -> int:
        """SGX on Linux has no monotonic counters: the service that kept them is gone since 2020.

        Raises:
            CounterUnavailable: always.
        """
        require_counter(counter_id, value)
        raise CounterUnavailable("SGX on Linux has no monotonic counters")
