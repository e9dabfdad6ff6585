"""Virtual reassembly's C door and its structs: see _defrag.pyx."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from nfqfw._conntrack cimport Conntrack
from nfqfw._outbox cimport Outbox
from nfqfw._packet cimport Packet


cdef enum FragOutcome:          # what defrag_add says; other values are a Reason + FRAG_DROP
    FRAG_PASS = 0               # judge it as it is: not ours to reassemble, INVALID to the tracker
    FRAG_HELD = 1               # the packet waits (its verdict is HELD)
    FRAG_WHOLE = 2              # this was the missing piece: `whole` is the datagram, defrag_release must follow
    FRAG_DROP = 256             # drop this packet; the Reason is the low byte


cdef struct Fragment:           # a held packet; its bytes follow the struct in memory
    Fragment* next              # by offset
    uint32_t start              # offset of its data in the datagram, bytes
    uint32_t end
    uint32_t len                # bytes held: from the IP header
    uint32_t header             # bytes before its data
    uint32_t id
    uint32_t mark
    uint32_t priority
    uint16_t queue
    uint8_t trimmed             # its length was cut to a multiple of 8
    uint8_t pad
    Packet facts                # how it arrived (record key, devices)


cdef struct Datagram:
    Datagram* chain             # next of the same bucket
    Datagram* newer             # by time of the first fragment
    Datagram* older
    Fragment* first
    uint8_t* whole              # the assembled copy, once complete
    uint64_t expires            # CLOCK_MONOTONIC ns
    uint64_t hash
    uint8_t src[16]
    uint8_t dst[16]
    uint32_t id
    uint32_t ifindex            # IPv6 multicast and link-local: part of the key
    uint8_t family
    uint8_t proto               # IPv4 only
    uint8_t hook
    uint8_t ecn                 # one bit per codepoint seen
    uint8_t last_in             # the end is known
    uint8_t n
    uint16_t df_max             # longest fragment with DF
    uint16_t size_max           # longest fragment
    uint32_t total              # bytes of data up to the highest end seen
    uint32_t meat               # bytes of data held
    uint32_t bytes              # held, as counted against the limit
    uint32_t rank               # IPv4: the source's fragment counter at the last piece (ipfrag_max_dist)
    uint32_t source             # slot of the per-source account


cdef struct Defrag:             # one per queue thread
    Conntrack* conntrack        # fragments that crossed a hook before hold a reference on their connection
    Datagram** buckets
    Datagram* oldest
    Datagram* newest
    Datagram* grave             # released datagrams: their bytes stay valid until the next call of the engine
    uint64_t key0               # random: bucket choice cannot be foreseen
    uint64_t key1
    uint32_t bytes
    uint32_t held               # packets
    uint32_t held_max
    uint32_t datagrams
    uint32_t bytes_max
    uint32_t source_max         # bytes of one source's share
    uint32_t* source_bytes      # by hash of the source
    uint32_t* source_rank
    uint64_t reassembled
    uint64_t failed
    uint64_t timed_out
    uint64_t drops[32]          # held fragments that were dropped, by Reason; at least REASON_COUNT


cdef Defrag* defrag_new(Conntrack* conntrack, uint32_t held_max) noexcept nogil
cdef void defrag_free(Defrag* d) noexcept nogil
cdef uint32_t defrag_add(Defrag* d, Packet* p, uint64_t now, Packet* whole, Datagram** complete, Outbox* box,
                         uint32_t at) noexcept nogil
cdef void defrag_release(Defrag* d, Datagram* q, const Packet* whole, Outbox* box, uint32_t at) noexcept nogil
cdef bint leaves_whole(const Datagram* q, const Packet* whole) noexcept nogil
cdef void defrag_expire(Defrag* d, uint64_t now, Outbox* box, uint32_t at) noexcept nogil
cdef void defrag_bury(Defrag* d) noexcept nogil
