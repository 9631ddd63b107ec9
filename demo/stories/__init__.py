"""What `cbs demo` tells in each stage: one module each, with a function `tell` that returns how every part ended."""
