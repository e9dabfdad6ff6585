"""The kernel as the oracle: same rules, same packets, and both answers beside each other.

    packets    one packet as data; its bytes for IPv4 or IPv6; its line of text
    flow       cases as text (`tests/flows/*.flow`): rules, packets with times, what a human expects
    generate   seeded random cases: rulesets over what the engine evaluates (generate_rules; its tables matches and targets),
               packets at the rules' boundaries (generate_packets)
    router     a router namespace between two wires: packets injected, what comes out captured
    kernel     the twin that is Linux: that router with iptables-legacy
    live       the twin that is a running nfqfw: that router, packets diverted by NFQUEUE to the daemon's own evaluator
    ours       the twin that is the engine in-process, no namespace
    outcome    what both are compared by: bytes, counters, connections; the normaliser; digests
    record     the kernel's answers in a file, for the fast lane
    minimise   shrinks a difference to the fewest rules and packets

Only `router`, `kernel` and `live` need root and Linux, `kernel` the real iptables; nothing here is imported by a firewall that runs.
"""
