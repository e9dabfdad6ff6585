"""Packet: one packet on its way through the engine, and the readers of its bytes.  Header-only.

Overview.  A transport fills the first half (what the kernel told us), `_engine` the second (what we found and decided).
Lengths are checked once, when the packet is parsed; after that a flag says what may be read (`HAS_PORTS`, `HAS_TCP`, ...)
and the readers cannot fail.  A field that is not in the packet has no flag, and a test on it is false.

All numbers are host order unless a name says otherwise; addresses stay as the wire has them.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from nfqfw._conn cimport Tuple


cdef enum Family:               # NFPROTO_* of the kernel, which are AF_INET and AF_INET6
    IPV4 = 2
    IPV6 = 10


cdef enum Hook:                 # NF_INET_* of the kernel
    PREROUTING = 0
    INPUT = 1
    FORWARD = 2
    OUTPUT = 3
    POSTROUTING = 4
    HOOKS = 5


cdef enum Verdict:              # NF_* of the kernel; HELD is ours: no verdict now, the packet waits in its queue
    DROP = 0
    ACCEPT = 1
    HELD = 2
    QUEUE = 3
    REPEAT = 4


cdef enum CtInfo:               # enum ip_conntrack_info of the kernel; INVALID is "no connection"
    CT_ESTABLISHED = 0
    CT_RELATED = 1
    CT_NEW = 2
    CT_ESTABLISHED_REPLY = 3
    CT_RELATED_REPLY = 4
    CT_UNTRACKED = 7
    CT_INVALID = 8


cdef enum Reason:               # why a packet was dropped by us and not by a rule or policy; names in reasons.py, same order
    REASON_NONE = 0             # no drop of ours: the rules decided
    REASON_BAD_IP               # the kernel would not have passed this header to the hook
    REASON_TRUNCATED            # a rewrite is due and the kernel gave us only a part of the packet
    REASON_HOTDROP              # a match found a malformed packet (spec/iptables.md 4.1)
    REASON_REJECTED             # not counted as a drop of ours: a REJECT rule decided
    REASON_TABLE_FULL           # nf_conntrack: table full, dropping packet
    REASON_CHAIN_TOO_LONG       # conntrack hash bucket over its bound
    REASON_INSERT_FAILED        # confirm: the tuple is taken
    REASON_NAT_EXHAUSTED        # no free tuple for a NAT mapping
    REASON_NAT_NO_ADDRESS       # MASQUERADE or REDIRECT without an address on the interface
    REASON_NAT_INNER            # an ICMP error whose inner packet cannot be translated
    REASON_REWRITE              # a packet that we rewrote does not hold together
    REASON_FRAG_OVERLAP
    REASON_FRAG_LIMIT
    REASON_FRAG_TIMEOUT
    REASON_FRAG_BAD
    REASON_STACK                # jump stack deeper than the number of user chains
    REASON_INTERNAL             # a bug in us; never expected
    REASON_MALFORMED            # a target met a packet that it cannot edit (TCPMSS, TCPOPTSTRIP, SNPT, DNPT)
    REASON_MASQ_MOVED           # a masqueraded flow leaves by another interface
    REASON_FRAG_ECN
    REASON_COUNT


cdef enum PacketFlag:           # Packet.flags
    HAS_L4 = 1                  # proto and thoff are known: the header chain could be walked to its end
    HAS_PORTS = 2               # first fragment, 4 bytes at thoff, protocol with ports
    HAS_TCP = 4                 # first fragment, 20 bytes at thoff
    HAS_ICMP = 8                # first fragment, 4 bytes at thoff of ICMP or ICMPv6
    IS_FRAGMENT = 16            # offset != 0 or more fragments follow (IPv6: a fragment header stands in the chain)
    LATER_FRAGMENT = 32         # offset != 0: there is no transport header here
    BAD_IP = 64                 # must not reach a hook: version, IHL, lengths, IPv4 header checksum
    BAD_CHAIN = 128             # IPv6 extension headers could not be walked to the end
    TRUNCATED = 256             # len < total: the kernel cut the copy
    HAS_UDP = 512               # first fragment, 8 bytes at thoff of UDP or UDP-Lite


cdef enum Dirty:                # Packet.dirty: what the verdict must carry back
    DIRTY_MARK = 1
    DIRTY_PRIORITY = 2
    DIRTY_PAYLOAD = 4


cdef enum SkbInfo:              # NFQA_SKB_INFO bits
    SKB_CSUMNOTREADY = 1        # the checksum field is a partial sum: neither verify nor update it incrementally
    SKB_GSO = 2
    SKB_CSUM_NOTVERIFIED = 4    # the device did not verify: verify if conntrack would


cdef enum Known:                # Packet.known: which optional facts the transport gave
    KNOWN_HWADDR = 1
    KNOWN_UID = 2
    KNOWN_GID = 4


cdef struct Packet:
    # what the transport says
    uint8_t* data               # layer-3 header; borrowed from the receive buffer, valid until the verdict, writable
    uint32_t len                # bytes captured (may be < total)
    uint32_t total              # length of the packet in the kernel: skb->len, what counters count
    uint32_t capacity           # bytes writable at data, >= len: room for a target that grows the packet
    uint32_t id                 # packet id of the queue, host order
    uint16_t queue              # index of the queue thread's queue
    uint8_t family              # Family
    uint8_t hook                # Hook of this crossing
    uint32_t ifin               # ifindex, 0 = none
    uint32_t ifout
    uint32_t physin
    uint32_t physout
    uint32_t mark               # nfmark; targets change it in place
    uint32_t priority           # skb->priority; CLASSIFY changes it in place
    uint32_t skbinfo            # SkbInfo
    uint32_t uid
    uint32_t gid
    uint8_t known               # Known
    uint8_t hwlen               # bytes in hwaddr
    uint8_t hwaddr[8]           # source link-layer address
    # what parsing found
    uint8_t proto               # IPv4 protocol, or the last IPv6 next header
    uint8_t tos                 # IPv4 TOS, IPv6 traffic class
    uint8_t ttl                 # TTL, hop limit
    uint8_t tcp_flags           # byte 13 of the TCP header
    uint8_t icmp_type
    uint8_t icmp_code
    uint16_t flags              # PacketFlag
    uint16_t thoff              # offset of the transport header; meaningless without HAS_L4
    uint16_t fragoff            # fragment offset in units of 8 bytes
    uint16_t frag_more          # 1 = MF
    uint32_t frag_id            # IPv4 identification, IPv6 fragment identification
    uint16_t frag_hdr           # IPv6: offset of the fragment header, 0 = none
    uint16_t sport              # valid with HAS_PORTS
    uint16_t dport
    uint32_t l3_len             # length the IP header claims: IPv4 total length, IPv6 40 + payload length
    # what the engine decided
    uint32_t conn               # index into the flow table, 0 = none
    uint32_t life               # ConnHot.id of conn when it was looked up: the entry may have been reused since
    uint8_t ctinfo              # CtInfo
    uint8_t verdict             # Verdict
    uint8_t reason              # Reason, when we dropped it
    uint8_t dirty               # Dirty
    uint8_t trace               # 1 = record the walk
    uint8_t step                # first step of its path not yet run
    uint16_t zone               # conntrack zone set by CT before tracking, both directions unless the next says else
    uint8_t zone_dir            # 0 both, 1 original only, 2 reply only
    uint8_t own                 # 1 = made by us (REJECT): counted by rules, never rejected again
    uint8_t local               # 1 = on its way out of this host (OUTPUT seen): locally generated
    uint8_t release             # 1 = a held packet that is decided now (fragments): transport sends it from its copy
    uint32_t secmark
    uint32_t serial             # counts packets of this thread; names a packet in trace records
    uint32_t ct_template        # index into Program data of the CT template (helper, events, timeout), 0 = none
    uint64_t flow_hash          # conntrack: hash of the tuple in zone 0, set ahead for a batch; 0 = not computed
    Tuple tuple                 # ... and the tuple; valid only with flow_hash


# ---- readers: the caller has checked the flag (or has()) --------------------------------------------------------------

cdef inline bint has(const Packet* p, uint32_t off, uint32_t n) noexcept nogil:
    """True if n bytes at off were captured.  Cannot overflow."""
    return off <= p.len and n <= p.len - off


cdef inline uint16_t be16(const uint8_t* at) noexcept nogil:
    return <uint16_t>((at[0] << 8) | at[1])


cdef inline uint32_t be32(const uint8_t* at) noexcept nogil:
    return (<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | at[3]


cdef inline void put16(uint8_t* at, uint32_t value) noexcept nogil:
    at[0] = <uint8_t>((value >> 8) & 0xff)
    at[1] = <uint8_t>(value & 0xff)


cdef inline void put32(uint8_t* at, uint32_t value) noexcept nogil:
    at[0] = <uint8_t>(value >> 24)
    at[1] = <uint8_t>((value >> 16) & 0xff)
    at[2] = <uint8_t>((value >> 8) & 0xff)
    at[3] = <uint8_t>(value & 0xff)


cdef inline uint32_t raw32(const uint8_t* at) noexcept nogil:
    """Four bytes as the machine reads them: for compares with masks kept in wire order."""
    cdef uint32_t v
    memcpy(&v, at, 4)
    return v


cdef inline uint64_t raw64(const uint8_t* at) noexcept nogil:
    cdef uint64_t v
    memcpy(&v, at, 8)
    return v


cdef inline const uint8_t* source(const Packet* p) noexcept nogil:
    """Source address, 4 or 16 bytes in wire order.  Valid unless BAD_IP."""
    return p.data + (12 if p.family == IPV4 else 8)


cdef inline const uint8_t* destination(const Packet* p) noexcept nogil:
    return p.data + (16 if p.family == IPV4 else 24)


cdef inline uint32_t l4_len(const Packet* p) noexcept nogil:
    """Bytes from the transport header to the end that the IP header claims.  Valid with HAS_L4; may exceed what was captured."""
    return p.l3_len - p.thoff if p.l3_len > p.thoff else 0
