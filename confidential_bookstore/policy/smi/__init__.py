"""SMI documents and the one question they answer. Never part of an enclave: marbles get the compiled rules."""
