"""The certificate authority: what is issued, and to whom it is refused. No I/O, no clock."""
