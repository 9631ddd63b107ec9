"""Evidence to verdict: quotes, collateral, the verifier and the package rules.

`verifier` checks that a quote is genuine and returns `Claims`; `package` decides whether those claims are of the code a
manifest allows; `platforms` issues quotes inside an enclave; `simulation` plays the CPU on machines that have none.
"""
