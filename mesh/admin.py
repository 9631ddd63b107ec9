"""Envoy's admin interface over its Unix socket: is it ready, which versions are in force, was something rejected."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
from pathlib import Path

from confidential_bookstore.errors import MeshError

_SECONDS = 5.0
_LIVE = b"LIVE"


async def is_live(admin: Path) -> bool:
    """Whether it has a first configuration, and listens.

    Raises:
        MeshError: it does not answer.
    """
    return (await _get(admin, "/ready")).strip() == _LIVE


async def texts(admin: Path) -> dict[str, str]:
    """Its statistics that are texts, by name; among them which version of each file is in force.

    Raises:
        MeshError: it does not answer.
    """
    stats = json.loads(await _get(admin, "/stats?type=TextReadouts&format=json")).get("stats", ())
    return {each["name"]: str(each["value"]) for each in stats if "name" in each}


async def rejections(admin: Path) -> int:
    """How many updates it has rejected since it was started.

    Raises:
        MeshError: it does not answer.
    """
    stats = json.loads(await _get(admin, "/stats?filter=update_rejected$&format=json")).get("stats", ())
    return sum(int(each["value"]) for each in stats if "value" in each)


async def _get(admin: Path, path: str) -> bytes:
    return await asyncio.to_thread(_get_now, admin, path)


def _get_now(path_of_socket: Path, path: str) -> bytes:
    connection = _UnixConnection(path_of_socket)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise MeshError("a sidecar does not answer", got=f"{path_of_socket}: {error}") from error
    finally:
        connection.close()
    if response.status not in (http.HTTPStatus.OK, http.HTTPStatus.SERVICE_UNAVAILABLE):  # 503: it is not live yet
        raise MeshError("a sidecar answers otherwise than Envoy", got=f"{path}: HTTP {response.status}")
    return body


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket. The system takes 107 bytes of path; the folder's may be longer."""

    def __init__(self, path: Path) -> None:
        super().__init__("envoy", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)
