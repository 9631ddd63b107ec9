"""The simulated CPU: measures, launches and quotes enclaves on machines that have no TEE.

Only the CPU is simulated. Quotes, certificates, collateral and SIGSTRUCTs are in Intel's formats and are verified by
the code that verifies Intel's, under a root certificate of our own; a verifier that pins Intel's root refuses them all.
An enclave cannot choose its measurement: the launcher measures the bytes that it then starts.

What this does not do: it keeps no secret from the machine's owner. **Whoever holds the platform's keys can forge a
CPU**, that is, make a quote for any code; and root on the host can read an enclave's memory.

    provisioning    `SimulatedPlatform`: keys and certificates of one machine, and who certified them
    quoting         reports and quotes          collateral, pccs    what verifiers need besides the quote
    image           the enclave image           measurement         MRENCLAVE
    sigstruct       who signed the image        launcher            EINIT, and the process itself

Nothing that runs inside an enclave imports this package.
"""
