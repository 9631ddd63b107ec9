"""What happened here, for the operator: events, metrics, health."""
