"""Names of the reasons for which nfqfw drops a packet by itself; order = enum Reason of _packet.pxd (a test compares)."""

REASONS = (
    "none", "bad_ip", "truncated", "hotdrop", "rejected", "table_full", "chain_too_long", "insert_failed",
    "nat_exhausted", "nat_no_address", "nat_inner", "rewrite", "frag_overlap", "frag_limit", "frag_timeout",
    "frag_bad", "stack", "internal", "malformed", "masq_moved", "frag_ecn",
)
