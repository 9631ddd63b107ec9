"""The first code that runs inside an enclave: it is put into every image as `__main__`.

It decides what of the host's environment enters, makes native modules importable from the image, and runs the enclave's
module. It imports only the standard library, because nothing else is importable before it has run; and it never falls
back to a file outside the image.

The simulated CPU starts it with an almost empty environment, since the dynamic loader and the interpreter would act on
variables before the first measured instruction; the host's environment comes as a sealed file. Under Gramine there is
no such file: there, `os.environ` is what the host (or Gramine's manifest) gave.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib.machinery
import importlib.util
import json
import os
import runpy
import select
import signal
import sys
import zipimport
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

# Set by the launcher: descriptor numbers of the CPU's socket and of the host's environment.
CPU_VARIABLE = "CBS_SIMULATED_CPU"
HOST_ENVIRONMENT_VARIABLE = "CBS_HOST_ENVIRONMENT"
CONFIG_PATH = "measured/enclave.json"
NATIVE_PATH = "measured/native.json"  # names of all shared objects in the image

_PR_SET_PDEATHSIG = 1
# Parts of the standard library that no enclave needs. They are not measured, and cannot be imported either.
NOT_MEASURED = frozenset({"test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip"})
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h


def allowed_environment(entries: Iterable[Mapping[str, Any]], host: Mapping[str, str]) -> dict[str, str]:
    """The variables that enter: the host's where the entry says `fromHost`, else the entry's own value.

    Args:
        entries: `env` of enclave.json, whose form was checked before it was signed.
        host: what the host offers.
    """
    environment = {}
    for entry in entries:
        name, value = entry["name"], entry.get("value")
        if entry.get("fromHost"):
            value = host.get(name, value)
        if value is not None:
            environment[name] = value
    return environment


def parse_environment(block: bytes) -> dict[str, str]:
    """`NAME=VALUE` entries, each ended by a null byte; entries without a name are dropped."""
    entries = (os.fsdecode(entry).partition("=") for entry in block.split(b"\0"))
    return {name: value for name, separator, value in entries if name and separator}


class NativeModules:
    """Imports native modules (`*.so`) of the image, each from a sealed copy in memory."""

    def __init__(self, image: zipimport.zipimporter, names: Iterable[str]) -> None:
        self._image = image
        self._names = frozenset(names)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The import system's question, `importlib.abc.MetaPathFinder.find_spec`.

        Raises:
            ModuleNotFoundError: the module is of a part of the standard library that is not measured.
        """
        del path, target
        if not NOT_MEASURED.isdisjoint(name.split(".")):
            raise ModuleNotFoundError(f"{name} is not measured, so it cannot be imported in an enclave", name=name)
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            entry = name.replace(".", "/") + suffix
            if entry in self._names:
                location = self._in_memory(entry)
                loader = importlib.machinery.ExtensionFileLoader(name, location)
                return importlib.util.spec_from_file_location(name, location, loader=loader)
        return None

    def preload_libraries(self) -> None:
        """Load the libraries that wheels bring along (`*.libs/`), so that modules find them by name, not on disk.

        Raises:
            OSError: one of them cannot be loaded.
        """
        left = sorted(name for name in self._names if ".libs/" in name)
        while left:
            failed, error = [], None
            for name in left:
                try:
                    ctypes.CDLL(self._in_memory(name), mode=ctypes.RTLD_GLOBAL)
                except OSError as reason:  # it may need one of the others
                    failed.append(name)
                    error = reason
            if error is not None and len(failed) == len(left):
                raise error
            left = failed

    def _in_memory(self, entry: str) -> str:
        # The descriptor stays open: a number used twice would make the dynamic loader mistake one library for another.
        descriptor = os.memfd_create(entry, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        content = memoryview(self._image.get_data(entry))
        while content:
            content = content[os.write(descriptor, content) :]
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        return f"/proc/self/fd/{descriptor}"


def end_with_launcher(cpu_socket: int) -> None:
    """An enclave does not outlive its CPU: have the kernel end this process when the launcher's thread ends."""
    if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        sys.exit("the kernel does not tie the enclave to its launcher")
    # If the launcher ended before that call, its end of the socket is closed already.
    poll = select.poll()
    poll.register(cpu_socket, 0)
    if poll.poll(0):
        sys.exit("the simulated CPU is gone")


def keep_heap_small() -> None:
    """Have glibc hand large buffers back to the kernel when they are freed, and share its arenas among threads.

    Otherwise the heap keeps the size of the native modules that pass through it, 10 MB and more (mallopt(3)).
    """
    with contextlib.suppress(AttributeError):  # other C libraries have no mallopt, and other habits
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 256 * 1024)
        mallopt(_M_ARENA_MAX, 2)


def host_environment() -> dict[str, str]:
    """What the host offers."""
    number = os.environ.get(HOST_ENVIRONMENT_VARIABLE)
    if number is None:
        return dict(os.environ)
    with os.fdopen(int(number), "rb") as file:
        return parse_environment(file.read())


def main() -> None:
    """Set the process up and run the enclave's module."""
    location = sys.argv[0]
    image = zipimport.zipimporter(location)
    config = json.loads(image.get_data(CONFIG_PATH))
    cpu_socket = os.environ.get(CPU_VARIABLE)
    if cpu_socket is not None:
        os.set_inheritable(int(cpu_socket), False)
        end_with_launcher(int(cpu_socket))
    environment = allowed_environment(config.get("env", []), host_environment())
    if cpu_socket is not None:
        environment[CPU_VARIABLE] = cpu_socket
    os.environ.clear()
    os.environ.update(environment)
    keep_heap_small()
    native = NativeModules(image, json.loads(image.get_data(NATIVE_PATH)))
    sys.meta_path.insert(0, native)
    native.preload_libraries()
    runpy.run_module(config["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
