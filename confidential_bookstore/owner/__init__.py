"""What data owners, users and recovery key holders do with a coordinator, from its evidence to an update.

Everything here runs outside of enclaves. The coordinator is verified first (`verification`); from then on its root
certificate is the only one that a `connection` accepts. Nothing here prints, and no key is ever written.
"""
