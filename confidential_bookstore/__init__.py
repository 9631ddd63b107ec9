"""The library that every part of the confidential bookstore shares.

Rooms: `attestation` turns evidence into a verdict; `marble` is what runs inside every enclave; `pki` holds certificates
and names; `policy` answers who may call what; `telemetry` logs and shows; `api` is generated from `proto/`.
"""

__version__ = "0.1.0"
