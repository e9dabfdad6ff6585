"""Every bound and default of nfqfw in one place, each with unit and source."""

# ---- rules ---------------------------------------------------------------------------------------------------------
CHAIN_NAME_BYTES = 28           # longest chain name; the kernel's XT_FUNCTION_MAXNAMELEN 30 less NUL and one (29th refused)
IFACE_NAME_BYTES = 15           # IFNAMSIZ 16 less NUL
COMMENT_BYTES = 255             # xt_comment: longer text is cut silently
LOG_PREFIX_BYTES = 29           # xt_LOG: longer text is cut silently
MULTIPORT_SLOTS = 15            # xt_multiport: a range takes two
RESTORE_LINE_BYTES = 10_240     # iptables-restore's buffer: a longer line is refused
RULES_MAX = 1_000_000           # rules of one ruleset: ours
AHEAD_RULES = 4_096             # rules from which a built-in chain is looked up ahead of a batch: about what the caches of a CPU hold
EDIT_FROM = 1_000               # rules from which a compiled ruleset takes small edits as they are (delta.py); below, compiling is as fast
EDIT_RULES = 64                 # rules added so until all is compiled again: they are walked one by one
EDIT_TESTS = 512                # tests of these rules
EDIT_BYTES = 32_768             # info structs of their tests and targets
EDIT_RUNS = 128                 # pieces that the edited chains may be in
EDIT_SETTLE_SECONDS = 1         # after the last edit: then all is compiled in the background
MISTAKES_MAX = 1_000            # mistakes of a file that are told; reading ends there: ours
RULES_FILE_BYTES = 256 << 20    # largest ruleset file read: ours
IPV6_HEADERS_MAX = 64           # extension headers walked per packet: ours (the kernel has no bound; 60 in a row pass there)

RECENT_ADDRESSES = 100          # xt_recent ip_list_tot: addresses of a list
RECENT_STAMPS = 32              # xt_recent: times kept per address where no rule asks for a --hitcount
HASHLIMIT_MOST = 1 << 20        # xt_hashlimit HASHLIMIT_MAX_SIZE: buckets, entries
HASHLIMIT_BUCKETS = 8_192       # xt_hashlimit: buckets by default, where memory is over 1 GiB
CONNLIMIT_ENTRIES = 1 << 19     # connections and addresses one connlimit rule keeps: ours (the flow table, seen from both ends)
CONNLIMIT_EMPTY = 60           # seconds that an empty list of connlimit stays, while half of the room is free: ours (the kernel: no bound)

# ---- queue ---------------------------------------------------------------------------------------------------------
QUEUES_MAX = 64                 # queues, one thread each: ours
QUEUE_LENGTH = 65_535           # packets waiting per queue (NFQA_CFG_QUEUE_MAXLEN)
RECEIVE_BUFFER_BYTES = 64 << 20 # SO_RCVBUFFORCE of a queue socket
BATCH_PACKETS = 64              # messages per recvmmsg, verdicts per send
NETFILTERQUEUE_BYTES = 3_840    # asked of the NetfilterQueue package: its buffer of 4,096 less all attributes a message can have
PAYLOAD_BYTES = 65_531          # largest NFQA_PAYLOAD (nla_len is 16 bit, 4 bytes header)
OUTBOX_PACKETS = 256            # replies of ours (REJECT) per batch
DRAIN_SECONDS = 2.0             # time for waiting packets to be judged before our table goes: ours
SWAP_SECONDS = 5.0              # a queue thread that has not passed a batch boundary by then is taken for hung: ours
RECORDS_SECONDS = 0.02          # how often the ring of log and trace records is emptied: ours
RING_RECORDS = 65_536           # log and trace records waiting for the thread that prints them
CAPTURE_RECORD_BYTES = 1 << 20  # longest record of a capture file: ours (tcpdump writes at most 262,144)

# ---- connections ---------------------------------------------------------------------------------------------------
CONNTRACK_MAX = 262_144         # nf_conntrack_max
CONNTRACK_SLOTS_MAX = 1 << 24   # entries an Arena reserves room for (sparse; never remapped)
SETTINGS_FILE_BYTES = 1 << 20   # a file of nf_conntrack_* settings: ours
POLICY_FILE_BYTES = 4 << 20     # a file of nfct commands, three times what all policies with the longest names take: ours
EXPECT_SLOTS = 16_384           # expectations an Arena has room for; nf_conntrack_expect_max can be raised up to it less one: ours
TIMEOUT_POLICIES = 4_096        # rows for time-out policies (nfct add timeout), less one: ours
FLOW_PATHS = 16_384             # different walks through the ruleset that a queue thread remembers: ours (2 MiB)
NAT_ATTEMPTS = 128              # ports tried for a mapping before an address is given up: nf_nat_core of the kernel
NAT_ATTEMPTS_LEAST = 16         # of which so many where a search is halved again and again
NAT_EVICT_ATTEMPTS = 32         # the last ones may end a closed TCP connection that is in the way
NAT_SOURCE_WALK = 128           # connections of one source looked at for a mapping to use again: ours
INFLIGHT_MAX = 131_072          # in-flight records of one queue, twice what it holds; each further queue adds QUEUE_LENGTH + 1

# ---- fragments -----------------------------------------------------------------------------------------------------
FRAGMENTS_PER_DATAGRAM = 64
FRAGMENT_BYTES = 4 << 20        # held per queue thread, counted as length + 2048 each (ipfrag_high_thresh 4 MiB)
FRAGMENT_OVERHEAD = 2_048
FRAGMENT_TIMEOUT_V4 = 30        # seconds; ipfrag_time
FRAGMENT_TIMEOUT_V6 = 60        # seconds; nf_conntrack_frag6_timeout where nobody sets it

# ---- control socket ------------------------------------------------------------------------------------------------
CONTROL_HEAD_BYTES = 4 << 20    # JSON head of one message: an argv of ARG_MAX (2 MiB), quoted
CONTROL_CLIENTS = 64            # served at once; more wait in the listen backlog
CONTROL_BACKLOG = 128           # listen(): clients waiting to be accepted
CONTROL_CONNECT_SECONDS = 10    # client: until the daemon accepts
CONTROL_REQUEST_SECONDS = 10    # daemon: until the whole first message is here, and between two parts of any message
CONTROL_ANSWER_SECONDS = 600    # client: until a command is done (others' commands come first)
CONTROL_ASK_SECONDS = 3600      # daemon: until the client has read its stdin or resolved a name; no lock is held meanwhile
DAEMON_START_SECONDS = 20       # until a daemon started by a command answers
IDLE_CHECK_SECONDS = 2          # an autostarted daemon looks whether its namespace is still in use; ends on the second "no"
