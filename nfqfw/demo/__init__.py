"""The demo: three namespaces, real programs, a table of what must be seen.

    client ──── firewall ──── server        the lab of netns/, IPv4 and IPv6
                nfqfw run

`traffic` asks questions as a user of the network would (curl, ping, connect), `expectations` says what each must see and
which rule decides it, `show` builds the lab, starts nfqfw in the firewall, asks, and gathers counters and connections.
"""
