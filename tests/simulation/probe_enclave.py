"""Becomes services/probe/__main__.py of the test enclave: does what its first argument says and prints JSON."""

import errno
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from confidential_bookstore.attestation.enclave import MeasuredConfig
from confidential_bookstore.attestation.platforms import SealPolicy, find_platform
from confidential_bookstore.errors import PlatformError


def say(value):
    sys.stdout.write(json.dumps(value) + "\n")


def environ():
    return dict(os.environ)


def quotes(*report_data):
    platform = find_platform()
    return [platform.name, *(platform.quote(bytes.fromhex(data)).hex() for data in report_data)]


def sealing_keys():
    platform = find_platform()
    return {policy.name: platform.sealing_key(policy).hex() for policy in SealPolicy}


def count(value):
    return find_platform().raise_counter(bytes(32), int(value))


def write_image():
    try:
        with Path(IMAGE).open("r+b", buffering=0) as image:
            image.write(b"x")
    except OSError as error:
        return errno.errorcode[error.errno]
    return "written"


def importable(*names):
    found = []
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        found.append(name)
    return found


def outside():
    """Files of modules that are neither in the image nor in the standard library."""
    files = {getattr(module, "__file__", None) or "" for module in sys.modules.values()}
    return sorted(file for file in files if file and not file.startswith(("/proc/self/fd/", sys.base_prefix)))


def native():
    """Native modules of other people's wheels, from the image."""
    import dcap_qvl
    import google.protobuf
    import grpc
    import sqlalchemy
    import sqlcipher3

    connection = sqlcipher3.connect(":memory:")
    version = connection.execute("pragma cipher_version").fetchone()[0]
    connection.close()
    return [grpc.__file__, sqlalchemy.__file__, google.protobuf.__file__, dcap_qvl.__version__, version, outside()]


def grandchild():
    """Which sockets a child of the enclave inherits, even if it is started carelessly."""
    find_platform()
    code = "import os; print([os.readlink('/proc/self/fd/' + fd) for fd in os.listdir('/proc/self/fd') if fd > '2'])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, close_fds=False).stdout
    return "socket:" in said.decode()


def malformed(packet):
    platform = find_platform()
    with socket.socket(fileno=os.dup(int(os.environ["CBS_SIMULATED_CPU"]))) as raw:
        raw.settimeout(10)
        raw.send(bytes.fromhex(packet))
        answer = raw.recv(100)
    try:
        platform.quote(bytes(64))
    except PlatformError as error:
        return [answer.hex(), str(error)]
    return [answer.hex(), "answered"]


def measured():
    loaded = MeasuredConfig.load()
    return [loaded.config.name, loaded.config.product_id, loaded.trust_root_pem.decode()]


def fail():
    raise RuntimeError("on purpose")


def stay():
    say(os.getpid())
    time.sleep(60)


def report_signals():
    """Waits for a signal and says which one came."""
    expected = [signal.SIGTERM, signal.SIGINT]
    signal.pthread_sigmask(signal.SIG_BLOCK, expected)
    say("ready")
    return signal.Signals(signal.sigwait(expected)).name


def exit_with(code):
    sys.exit(int(code))


if __name__ == "__main__":
    # What runs is services/probe inside the image: .../fd/N/services/probe/__main__.pyc
    IMAGE = sys.argv[0].split("/services/")[0]
    say(globals()[sys.argv[1]](*sys.argv[2:]))
