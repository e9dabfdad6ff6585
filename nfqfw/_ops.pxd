"""Opcodes of tests and actions; names in ops.py, same order (a test compares).  Header-only."""

cdef enum Op:
    # the rule's own part
    OP_SRC4 = 0
    OP_DST4
    OP_SRC6
    OP_DST6
    OP_IN
    OP_OUT
    OP_PROTO
    OP_FRAGMENT
    # matches
    OP_TCP
    OP_UDP
    OP_ICMP
    OP_ICMP6
    OP_MULTIPORT
    OP_CONNTRACK
    OP_STATE
    OP_MARK
    OP_LIMIT
    OP_TTL
    OP_TOS
    OP_ECN
    OP_CONNMARK
    OP_LENGTH
    OP_IPRANGE
    OP_MAC
    OP_EUI64
    OP_PKTTYPE
    OP_STRING
    OP_TCPMSS
    OP_STATISTIC
    OP_QUOTA
    OP_TIME
    OP_ADDRTYPE
    OP_ESP
    OP_AH
    OP_IPCOMP
    OP_AH6
    OP_OPTIONS6
    OP_FRAG6
    OP_HEADERS6
    OP_MH6
    OP_DCCP
    OP_SCTP
    OP_CONNBYTES
    OP_CONNLABEL
    OP_U32
    OP_DEVGROUP
    OP_OWNER
    OP_PHYSDEV
    OP_BPF
    OP_RT6
    OP_RECENT
    OP_HASHLIMIT
    OP_CONNLIMIT
    OP_CLUSTER
    OP_HELPER
    OP_COUNT


cdef enum Action:               # RuleRow.target = TARGET_EXT + one of these
    ACTION_REJECT = 0
    ACTION_LOG
    ACTION_MARK
    ACTION_TRACE
    ACTION_NOTRACK
    ACTION_NAT                  # SNAT, DNAT, MASQUERADE, REDIRECT, NETMAP: NatInfo.kind
    ACTION_TTL                  # TTL, HL
    ACTION_TOS                  # TOS, DSCP
    ACTION_ECN
    ACTION_CONNMARK
    ACTION_CLASSIFY
    ACTION_TCPMSS
    ACTION_TCPOPTSTRIP
    ACTION_CHECKSUM
    ACTION_SNPT
    ACTION_DNPT
    ACTION_CT
    ACTION_SECMARK
    ACTION_CONNSECMARK
    ACTION_COUNT


cdef enum:
    CONTINUE = 0xffffffff       # an action's answer: go on with the next rule
