"""TDX guests: quotes through configfs-tsm, in Linux 6.7 and later.

Source: Linux kernel, Documentation/ABI/testing/configfs-tsm-report. Each quote is one entry: a directory whose
attributes the kernel provides. Nothing is left behind.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

from confidential_bookstore.attestation.platforms.device_files import DeviceFiles
from confidential_bookstore.attestation.platforms.interface import SealPolicy, require_counter, require_report_data
from confidential_bookstore.errors import CounterUnavailable, PlatformError, SealingUnavailable

DIRECTORY = Path("sys/kernel/config/tsm/report")


class TdxPlatform:
    """`Platform` inside a TDX guest. Safe to use from several threads."""

    def __init__(self, directory: Path, files: DeviceFiles | None = None) -> None:
        self._directory = directory
        self._files = files or DeviceFiles()

    @property
    def name(self) -> str:
        """Always `tdx`."""
        return "tdx"

    def quote(self, report_data: bytes) -> bytes:
        """A TDX quote over these 64 bytes.

        Raises:
            PlatformError: another kind of guest, no right to use configfs, or the quoting service does not answer.
        """
        require_report_data(report_data)
        try:
            with self._entry() as entry:
                provider = self._files.read(entry / "provider").decode("ascii", "replace").strip()
                if provider != "tdx_guest":
                    raise PlatformError("this guest is not a TDX guest", got=repr(provider), expected="'tdx_guest'")
                self._files.write(entry / "inblob", report_data)
                quote = self._files.read(entry / "outblob")
                # The kernel counts writes: more than ours means that the quote may be over somebody else's data.
                generation = self._files.read(entry / "generation").decode("ascii", "replace").strip()
                if generation != "1":
                    raise PlatformError("another process wrote to our configfs entry", got=generation, expected="1")
                return quote
        except OSError as error:
            raise PlatformError(
                "the kernel did not give a TDX quote",
                got=str(error),
                hint="configfs-tsm needs the right to write there",
            ) from error

    def sealing_key(self, policy: SealPolicy) -> bytes:
        """TDX has no sealing keys.

        Raises:
            SealingUnavailable: always.
        """
        raise SealingUnavailable(
            "TDX has no sealing key",
            got=policy.value,
            hint="the coordinator then needs its recovery keys at every start",
        )

    def raise_counter(self, counter_id: bytes, value: int) -> int:
        """TDX has no monotonic counters.

        Raises:
            CounterUnavailable: always.
        """
        require_counter(counter_id, value)
        raise CounterUnavailable("TDX has no monotonic counters")

    @contextlib.contextmanager
    def _entry(self) -> Iterator[Path]:
        entry = self._directory / f"confidential-bookstore-{secrets.token_hex(8)}"
        self._files.mkdir(entry)
        try:
            yield entry
        finally:
            self._files.rmdir(entry)
