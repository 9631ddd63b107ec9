"""Makes a marble of a program that knows nothing of marbles: activates, writes files, sets variables, and becomes it.

`setup` says where the platform and the trust in the coordinator come from, `program` is the file that is run, `launch`
puts them together. As an enclave's module (`"module": "confidential_bookstore.marble.premain"`) it takes the program
from its command line, and runs it only if it is the one that the enclave's own configuration names; see `program`.
Outside of an enclave image it is `cbs marble run`.
"""
