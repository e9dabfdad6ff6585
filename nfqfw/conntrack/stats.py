"""Names of the table's counters, in the order of `enum Stat` (`table.pxd`; a test compares)."""

STATS = (
    "found", "invalid", "insert", "insert_failed", "drop", "early_drop", "error", "search_restart", "clash_resolve",
    "chaintoolong", "icmp_error", "csum_unchecked", "created", "deleted", "expect_new", "expect_create", "expect_delete",
)
