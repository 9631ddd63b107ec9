"""The bookstore as it was before: the same services as ordinary processes, which believe what they are told.

    python -m demo.plain bookstore

Only the demo has this, to show what a mesh and attestation are for. The classes are the services' own; what is missing
is what the marble runtime adds: TLS, attestation, access rules.
"""
