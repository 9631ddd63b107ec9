"""Recovery: how the key of the sealed state is shared among key holders, and put together again."""
