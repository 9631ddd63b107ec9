"""What operators see of a service: logs, counters, and a status page. Nothing here is ever secret."""
