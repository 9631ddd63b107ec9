"""The coordinator: checks what every marble is, and only then gives it certificates and secrets.

It speaks MarbleRun's protocols. The pure core (manifest, certificates, secrets, parameters of an activation) does no
I/O; the edges (TLS, sealed files, the two APIs) hold no rules.
"""
