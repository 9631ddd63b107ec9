"""The store: sells books of the warehouse to attested buyers."""
