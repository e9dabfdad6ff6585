"""Names of the opcodes of _ops.pxd, in its order: what a lowering writes and compile.py numbers (a test compares)."""

TESTS = (
    "src4", "dst4", "src6", "dst6", "in", "out", "proto", "fragment",
    "tcp", "udp", "icmp", "icmp6", "multiport", "conntrack", "state", "mark", "limit",
    "ttl", "tos", "ecn", "connmark",
    "length", "iprange", "mac", "eui64", "pkttype", "string", "tcpmss", "statistic", "quota", "time", "addrtype", "esp",
    "ah", "ipcomp", "ah6", "options6", "frag6", "headers6", "mh6", "dccp", "sctp", "connbytes", "connlabel", "u32",
    "devgroup", "owner", "physdev",
    "bpf", "rt6",
    "recent", "hashlimit", "connlimit",
    "cluster", "helper",
)
ACTIONS = ("reject", "log", "mark", "trace", "notrack",
           "nat", "ttl", "tos", "ecn", "connmark", "classify", "tcpmss", "tcpoptstrip", "checksum", "snpt", "dnpt", "ct",
           "secmark", "connsecmark")
