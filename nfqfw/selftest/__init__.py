"""The kernel as the oracle: same rules, same packets, and both answers beside each other.

    packets    one packet as data; its bytes for IPv4 or IPv6; its line of text
    flow       cases as text (`tests/flows/*.flow`): rules, packets with times, what a human expects
    generate   seeded random cases: rulesets over what the engine evaluates, packets at the rules' boundaries
    kernel     the twin that is Linux: a router namespace with iptables-legacy, packets injected from raw sockets
    ours       the twin that is nfqfw: the engine in-process, no namespace
    outcome    what both are compared by: bytes, counters, connections; the normaliser; digests
    record     the kernel's answers in a file, for the fast lane
    minimise   shrinks a difference to the fewest rules and packets

Only `kernel` needs root, Linux and the real iptables; nothing here is imported by a firewall that runs.
"""
