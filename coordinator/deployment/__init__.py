"""The deployment in force, the ways from one to the next, and what an activation gets out of it."""
