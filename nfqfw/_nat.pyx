"""NAT: which address and port a connection gets, and when a packet is translated.

Overview.  A connection has two bindings, made on its first packet: the destination's at PREROUTING or OUTPUT, the source's at
POSTROUTING or INPUT.  A binding changes only the reply tuple of the unconfirmed entry (and a status bit); from then on a
packet of either direction is made to look like the inverse of the other direction's tuple, so one rule of arithmetic serves
requests and replies.  A connection for which no rule spoke gets a null binding: the range is the address it has, and only its
source port may change, when the reply tuple is taken.

Choice (nat_setup).  In the kernel's order: the tuple as it is; a mapping that the same source already has; an address of the
range by Jenkins' hash (fixed seed, so that the choice equals the kernel's); the port as it is; a search of at most 128 ports,
then of fewer from another start, until 16.  Nothing free: the last candidate is kept, and confirm will drop the packet.

The source index finds the mappings a source already has.  It lives in process memory and is derived from the flow table: only
connections whose source was changed are in it (for the others the search would find the source itself), a dead entry is
noticed by its life number and unlinked by whoever passes it.  One lock: it is taken once per new mapping.

Threads.  A choice looks for what nobody has and then takes it, so one thread at a time does that (Conntrack.nat_lock).  Other
entries, unconfirmed ones included, are seen by it: two queues never give one port to two connections.

Facts: spec/conntrack.md 2.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from nfqfw._atomic cimport lock, unlock
from nfqfw._conn cimport (CONFIRMED, DST_NAT, DST_NAT_DONE, DYING, ORIGINAL, REPLY, SEQ_ADJUST, SRC_NAT, SRC_NAT_DONE, ConnHot, Tuple,
                          direction_of, is_expired, read_tuple, ticks)
from nfqfw._conntrack cimport (Conntrack, ConntrackTable, conntrack_alter_reply, conntrack_kill, conntrack_lookup,
                               conntrack_set_status, conntrack_tuple_taken, invert_tuple)
from nfqfw._jhash cimport jhash_words, scale32
from nfqfw._masquerade cimport is_zero, masquerade4, masquerade6, redirect4, redirect6
from nfqfw._natpacket cimport (MANIP_DST, MANIP_SRC, icmp_checksum_good, put_packet_end, put_quoted, tuple_has_ports)
from nfqfw._packet cimport (CT_RELATED, CT_RELATED_REPLY, HAS_L4, INPUT, IPV4, IPV6, OUTPUT, POSTROUTING, REASON_MASQ_MOVED,
                            REASON_NAT_INNER, REASON_NAT_NO_ADDRESS, REASON_NONE, REASON_TABLE_FULL, REASON_TRUNCATED, Packet, be32,
                            destination, put32)
from nfqfw._program cimport Context, random32
from nfqfw._rewrite cimport P_GRE, P_ICMP, P_ICMP6, P_TCP, P_UDP, P_UDPLITE, writable
from nfqfw._siphash cimport sip13


cdef enum:
    ATTEMPTS = 128              # limits.NAT_ATTEMPTS
    FEWEST = 16                 # limits.NAT_ATTEMPTS_LEAST
    HARDER = 32                 # limits.NAT_EVICT_ATTEMPTS: the last attempts may evict a closed TCP connection
    SOURCE_WALK = 128           # limits.NAT_SOURCE_WALK
    TCP_SYN_SENT = 1
    TCP_TIME_WAIT = 7
    ICMP_REDIRECT = 5
    ICMP6_REDIRECT = 137
    NAT_BITS = SRC_NAT | DST_NAT
    DONE_BITS = SRC_NAT_DONE | DST_NAT_DONE


cdef uint32_t manip_of_hook(uint32_t hook) noexcept nogil:
    """Which end the nat table of a hook changes."""
    return MANIP_SRC if hook == POSTROUTING or hook == INPUT else MANIP_DST


# ---- the source index -----------------------------------------------------------------------------------------------------

cdef NatIndex* nat_index_new(uint32_t capacity) noexcept nogil:
    """An index for connections 1 .. capacity-1, one block; its memory is touched as it fills.  NULL: no memory."""
    cdef NatIndex* index
    cdef uint32_t n = 1024
    while n < capacity and n < (1 << 20):
        n <<= 1
    index = <NatIndex*>calloc(1, sizeof(NatIndex) + n * sizeof(uint32_t) + <size_t>capacity * sizeof(SourceNode))
    if index == NULL:
        return NULL
    index.n_buckets = n
    index.capacity = capacity
    index.heads = <uint32_t*>(index + 1)
    index.nodes = <SourceNode*>(index.heads + n)
    return index


cdef NatIndex* index_of(Conntrack* t) noexcept nogil:
    """The table's source index, made on first use."""
    cdef NatIndex* index
    if t.nat == NULL:
        index = nat_index_new(t.table.capacity)
        lock(&t.alloc_lock)
        if t.nat == NULL:
            t.nat = index
            index = NULL
        unlock(&t.alloc_lock)
        free(index)
    return <NatIndex*>t.nat


cdef uint32_t bucket_of(Conntrack* t, const NatIndex* index, const Tuple* tuple) noexcept nogil:
    """Bucket of an original source: address, port, protocol, zone."""
    cdef uint64_t words[3]
    memcpy(&words[0], tuple.src, 16)
    words[2] = tuple.sport | (<uint64_t>tuple.proto << 16) | (<uint64_t>tuple.zone << 32) | (<uint64_t>tuple.family << 24)
    return <uint32_t>sip13(t.key, words, 3) & (index.n_buckets - 1)


cdef void unlink_source(NatIndex* index, uint32_t conn) noexcept nogil:
    """Take a node out of its bucket.  The lock is held."""
    cdef SourceNode* node = &index.nodes[conn]
    if node.previous:
        index.nodes[node.previous].next = node.next
    else:
        index.heads[node.bucket - 1] = node.next
    if node.next:
        index.nodes[node.next].previous = node.previous
    node.bucket = 0


cdef void link_source(Conntrack* t, uint32_t conn) noexcept nogil:
    """Remember the mapping of a connection's source, as the newest of its bucket."""
    cdef NatIndex* index = index_of(t)
    cdef SourceNode* node
    cdef Tuple original
    cdef uint32_t bucket
    if index == NULL or conn >= index.capacity:
        return
    read_tuple(&t.table, conn, ORIGINAL, &original)
    bucket = bucket_of(t, index, &original)
    lock(&index.word_lock)
    node = &index.nodes[conn]
    if node.bucket:
        unlink_source(index, conn)
    node.life = t.table.hot[conn].id
    node.bucket = bucket + 1
    node.previous = 0
    node.next = index.heads[bucket]
    if node.next:
        index.nodes[node.next].previous = conn
    index.heads[bucket] = conn
    unlock(&index.word_lock)


cdef bint same_source(const Tuple* a, const Tuple* b) noexcept nogil:
    return a.sport == b.sport and a.proto == b.proto and a.zone == b.zone and a.family == b.family and memcmp(a.src, b.src, 16) == 0


cdef bint find_source(Conntrack* t, const Tuple* current, const NatInfo* wanted, Tuple* out, uint32_t now) noexcept nogil:
    """A mapping in the range that the same source already has, towards the destination of `current`."""
    cdef NatIndex* index = index_of(t)
    cdef uint32_t conn, following, n = 0
    cdef ConnHot* hot
    cdef Tuple tuple, mapped
    cdef bint found = False
    if index == NULL:
        return False
    lock(&index.word_lock)
    conn = index.heads[bucket_of(t, index, current)]
    while conn and n < SOURCE_WALK and not found:
        following = index.nodes[conn].next
        hot = &t.table.hot[conn]
        if hot.commit == 0 or hot.id != index.nodes[conn].life or hot.status & DYING or is_expired(hot, now):
            unlink_source(index, conn)
        else:
            read_tuple(&t.table, conn, ORIGINAL, &tuple)
            if same_source(&tuple, current):
                read_tuple(&t.table, conn, REPLY, &tuple)
                invert_tuple(&tuple, &mapped)
                memcpy(out, current, sizeof(Tuple))
                memcpy(out.src, mapped.src, 16)
                out.sport = mapped.sport
                found = in_range(out, wanted)
            n += 1
        conn = following
    unlock(&index.word_lock)
    return found


cdef void nat_index_rebuild(Conntrack* t) noexcept nogil:
    """Fill the index from the flow table: after a takeover."""
    cdef uint32_t i
    for i in range(1, t.header.high):
        if t.table.hot[i].commit and t.table.hot[i].status & SRC_NAT:
            link_source(t, i)


# ---- the choice -----------------------------------------------------------------------------------------------------------

cdef bint port_in_range(const Tuple* tuple, const NatInfo* wanted, uint32_t manip) noexcept nogil:
    """The part that NAT may choose lies in the range's ports; protocols without one always do."""
    cdef uint16_t port
    if tuple.proto == P_ICMP or tuple.proto == P_ICMP6:
        port = tuple.sport
    elif tuple_has_ports(tuple.proto) or tuple.proto == P_GRE:
        port = tuple.sport if manip == MANIP_SRC else tuple.dport
    else:
        return True
    return wanted.min_port <= port <= wanted.max_port


cdef bint in_range(const Tuple* tuple, const NatInfo* wanted) noexcept nogil:
    """The source of the tuple is one that the range allows."""
    cdef uint32_t n = 4 if tuple.family == IPV4 else 16
    if wanted.flags & RANGE_MAP_IPS:
        if memcmp(tuple.src, wanted.min_address, n) < 0 or memcmp(tuple.src, wanted.max_address, n) > 0:
            return False
    return not wanted.flags & RANGE_PORTS or port_in_range(tuple, wanted, MANIP_SRC)


cdef void reply_of(Conntrack* t, uint32_t conn, const Tuple* tuple, Tuple* out) noexcept nogil:
    invert_tuple(tuple, out)
    out.zone = t.table.hot[conn].zone[<uint32_t>REPLY]


cdef bint taken(Conntrack* t, uint32_t conn, const Tuple* tuple, uint64_t now_ns) noexcept nogil:
    """Another connection already answers to the inverse of this tuple."""
    cdef Tuple reply
    reply_of(t, conn, tuple, &reply)
    return conntrack_tuple_taken(t, &reply, conn, now_ns)


cdef bint taken_first(Conntrack* t, uint32_t conn, const Tuple* tuple, uint64_t now_ns) noexcept nogil:
    """As taken, for the tuple as it came: the exact reverse of an un-NATed flow of a protocol that may clash is no clash."""
    cdef Tuple reply, mine, theirs
    cdef uint32_t other, direction = 0
    cdef uint8_t proto = tuple.proto
    if not taken(t, conn, tuple, now_ns):
        return False
    if proto == P_TCP or proto == P_ICMP or proto == P_ICMP6 or proto == 132:
        return True
    reply_of(t, conn, tuple, &reply)
    other = conntrack_lookup(t, &reply, conn, now_ns, &direction)
    if other == 0:
        return False
    if direction != ORIGINAL or t.table.hot[other].status & (NAT_BITS | SEQ_ADJUST):
        return True
    for direction in range(2):
        read_tuple(&t.table, other, direction, &theirs)
        read_tuple(&t.table, conn, 1 - direction, &mine)
        theirs.zone = mine.zone             # as in the kernel, whatever zones the two directions lie in
        if memcmp(&theirs, &mine, sizeof(Tuple)) != 0:
            return True
    return False


cdef bint taken_harder(Conntrack* t, uint32_t conn, const Tuple* tuple, uint32_t left, uint64_t now_ns) noexcept nogil:
    """As taken; near the end of a search a closed TCP connection in the way is ended, if its numbers lie behind the new one's."""
    cdef Tuple reply
    cdef uint32_t other, direction = 0
    cdef ConnHot* hot
    if not taken(t, conn, tuple, now_ns):
        return False
    if left > HARDER or tuple.proto != P_TCP or t.table.hot[conn].state != TCP_SYN_SENT:
        return True
    reply_of(t, conn, tuple, &reply)
    other = conntrack_lookup(t, &reply, conn, now_ns, &direction)
    if other == 0:
        return False
    hot = &t.table.hot[other]
    if direction == ORIGINAL or not hot.status & SRC_NAT or hot.status & DYING or hot.state < TCP_TIME_WAIT:
        return True
    if <int32_t>(t.table.window[conn].side[0].end - t.table.window[other].side[0].end) <= 0:
        return True
    conntrack_kill(t, other)
    return False


cdef void choose_address(const Tuple* current, const NatInfo* wanted, uint32_t manip, uint32_t zone, Tuple* out) noexcept nogil:
    """Address of the range: by hash of source and destination, or of the source alone (--persistent)."""
    cdef uint8_t* into = &out.src[0] if manip == MANIP_SRC else &out.dst[0]
    cdef uint32_t last = 0 if current.family == IPV4 else 3, i, hash_value, low, size, word
    cdef uint32_t source_words[4]
    cdef bint full = False
    if not wanted.flags & RANGE_MAP_IPS:
        return
    if memcmp(wanted.min_address, wanted.max_address, 16) == 0:
        memcpy(into, wanted.min_address, 16)
        return
    memcpy(source_words, current.src, 16)
    memcpy(&word, current.dst + 4 * last, 4)
    hash_value = jhash_words(source_words, 4, 0 if wanted.flags & RANGE_PERSISTENT else word ^ zone)
    for i in range(last + 1):
        low = 0
        size = 0xffffffff
        if not full:                        # the words before are those of the last address: the range's end bounds this one
            low = be32(wanted.min_address + 4 * i)
            size = be32(wanted.max_address + 4 * i) - low + 1
        put32(into + 4 * i, low + scale32(hash_value, size))
        if memcmp(into + 4 * i, wanted.max_address + 4 * i, 4) != 0:
            full = True
        if not wanted.flags & RANGE_PERSISTENT:
            memcpy(&word, out.dst + 4 * i, 4)
            hash_value ^= word


cdef bint port_choices(const Tuple* tuple, const NatInfo* wanted, uint32_t manip, uint32_t* low, uint32_t* size) noexcept nogil:
    """The ports (ids) a search may try: `size` of them from `low` on.  False: this part cannot be changed."""
    cdef uint16_t port
    cdef bint icmp = tuple.proto == P_ICMP or tuple.proto == P_ICMP6
    if not icmp and not tuple_has_ports(tuple.proto):
        return False
    if wanted.flags & RANGE_PORTS:
        low[0] = wanted.min_port if icmp or wanted.min_port <= wanted.max_port else wanted.max_port
        size[0] = <uint32_t>wanted.max_port - wanted.min_port if wanted.min_port <= wanted.max_port else <uint32_t>wanted.min_port - wanted.max_port
        size[0] += 1
        return True
    if icmp:
        low[0] = 0
        size[0] = 65536
        return True
    if manip == MANIP_DST:
        return False
    port = tuple.sport
    if port < 512:
        low[0] = 1
        size[0] = 511
    elif port < 1024:
        low[0] = 600
        size[0] = 424
    else:
        low[0] = 1024
        size[0] = 64512
    return True


cdef void search_port(Conntrack* t, uint32_t conn, Tuple* tuple, const NatInfo* wanted, uint32_t manip, Context* c) noexcept nogil:
    """Try ports until one is free; the last one tried stays when none is."""
    cdef bint icmp = tuple.proto == P_ICMP or tuple.proto == P_ICMP6
    cdef uint16_t* key = &tuple.sport if icmp or manip == MANIP_SRC else &tuple.dport
    cdef uint32_t low, size, attempts, i
    cdef uint16_t offset
    if not port_choices(tuple, wanted, manip, &low, &size):
        return
    if wanted.flags & RANGE_OFFSET:
        offset = <uint16_t>(key[0] - wanted.base_port)
    elif wanted.flags & (RANGE_RANDOM | RANGE_RANDOM_FULLY) or manip != MANIP_DST:
        offset = <uint16_t>random32(c)
    else:
        offset = 0
    attempts = size if size < ATTEMPTS else ATTEMPTS
    while True:
        for i in range(attempts):
            key[0] = <uint16_t>(low + offset % size)
            if not taken_harder(t, conn, tuple, attempts - i, c.now):
                return
            offset += 1
        if attempts >= size or attempts < FEWEST:
            return
        attempts >>= 1
        offset = <uint16_t>random32(c)


cdef void choose(Conntrack* t, uint32_t conn, const Tuple* current, const NatInfo* wanted, uint32_t manip, Context* c,
                 Tuple* out) noexcept nogil:
    """The tuple that the connection shall have towards its destination."""
    cdef uint32_t zone
    cdef bint random = (wanted.flags & (RANGE_RANDOM | RANGE_RANDOM_FULLY)) != 0
    if manip == MANIP_SRC and not random:
        if in_range(current, wanted):
            if not taken_first(t, conn, current, c.now):
                memcpy(out, current, sizeof(Tuple))
                return
        elif find_source(t, current, wanted, out, ticks(c.now)) and not taken(t, conn, out, c.now):
            return
    memcpy(out, current, sizeof(Tuple))
    zone = t.table.hot[conn].zone[0] | t.table.hot[conn].zone[1]
    choose_address(current, wanted, manip, zone, out)
    if not random:
        if wanted.flags & RANGE_PORTS:
            if not wanted.flags & RANGE_OFFSET and port_in_range(out, wanted, manip):
                if wanted.min_port == wanted.max_port or not taken(t, conn, out, c.now):
                    return
        elif not taken(t, conn, out, c.now):
            return
    search_port(t, conn, out, wanted, manip, c)


# ---- the binding ----------------------------------------------------------------------------------------------------------

cdef void null_range(const Tuple* reply, uint32_t manip, NatInfo* out) noexcept nogil:
    """The range of a null binding: the address the connection has."""
    memset(out, 0, sizeof(NatInfo))
    out.flags = RANGE_MAP_IPS
    memcpy(out.min_address, <const uint8_t*>reply.dst if manip == MANIP_SRC else <const uint8_t*>reply.src, 16)
    memcpy(out.max_address, out.min_address, 16)


cdef uint8_t resolve(Packet* p, uint32_t manip, Context* c, const Tuple* reply, NatInfo* r) noexcept nogil:
    """Turn MASQUERADE, REDIRECT and NETMAP into the range they mean for this packet.  A Reason."""
    cdef uint32_t n = 4 if p.family == IPV4 else 16, i
    cdef const uint8_t* old
    cdef bint found
    if r.kind == NAT_RANGE:
        return REASON_NONE
    if r.kind == NAT_NETMAP:
        old = p.data + (12 if p.family == IPV4 else 8) + (0 if manip == MANIP_SRC else n)
        for i in range(n):
            r.min_address[i] = (old[i] & (r.min_address[i] ^ r.max_address[i])) | (r.min_address[i] & ~(r.min_address[i] ^ r.max_address[i]))
    else:
        memset(r.min_address, 0, 16)
        if r.kind == NAT_MASQUERADE:
            if p.family == IPV4 and is_zero(reply.dst, 4):      # 0.0.0.0 is left alone
                null_range(reply, manip, r)
                return REASON_NONE
            if p.family == IPV4:
                found = masquerade4(c.host, p.ifout, destination(p), r.min_address)
            else:
                found = masquerade6(c.host, p.ifout, destination(p), r.min_address)
        elif c.hook == OUTPUT:
            if p.family == IPV4:
                r.min_address[0] = 127
                r.min_address[3] = 1
            else:
                r.min_address[15] = 1
            found = True
        elif p.family == IPV4:
            found = redirect4(c.host, p.ifin, r.min_address)
        else:
            found = redirect6(c.host, p.ifin, destination(p), r.min_address)
        if not found:
            return REASON_NAT_NO_ADDRESS
    memcpy(r.max_address, r.min_address, 16)
    r.flags |= RANGE_MAP_IPS
    return REASON_NONE


cdef uint8_t nat_setup(Conntrack* t, Packet* p, const NatInfo* info, uint32_t manip, Context* c) noexcept nogil:
    """Bind one end of p's unconfirmed connection as `info` asks; NULL = null binding.  A Reason, 0 = done.

    A confirmed connection is left as it is, like one whose end is bound already.
    """
    cdef ConnHot* hot = &t.table.hot[p.conn]
    cdef uint32_t done = SRC_NAT_DONE if manip == MANIP_SRC else DST_NAT_DONE
    cdef Tuple reply, current, new
    cdef NatInfo wanted
    cdef uint8_t reason
    if hot.status & (CONFIRMED | done):
        return REASON_NONE
    read_tuple(&t.table, p.conn, REPLY, &reply)
    if info == NULL:
        null_range(&reply, manip, &wanted)
    else:
        memcpy(&wanted, info, sizeof(NatInfo))
        reason = resolve(p, manip, c, &reply, &wanted)
        if reason:
            return reason
    invert_tuple(&reply, &current)
    current.zone = hot.zone[<uint32_t>ORIGINAL]
    lock(&t.nat_lock)                       # two threads must not find the same port free
    choose(t, p.conn, &current, &wanted, manip, c, &new)
    if memcmp(&new, &current, sizeof(Tuple)) != 0:
        reply_of(t, p.conn, &new, &reply)
        done |= SRC_NAT if manip == MANIP_SRC else DST_NAT
        conntrack_alter_reply(t, p.conn, &reply)
    unlock(&t.nat_lock)
    conntrack_set_status(t, p.conn, done)
    if info != NULL and info.kind == NAT_MASQUERADE:
        t.table.cold[p.conn].masq_ifindex = p.ifout
    if manip == MANIP_SRC and hot.status & SRC_NAT:
        link_source(t, p.conn)
    return REASON_NONE


# ---- the packet -----------------------------------------------------------------------------------------------------------

cdef inline void target_tuple(Conntrack* t, uint32_t conn, uint32_t direction, Tuple* out) noexcept nogil:
    """What a packet of this direction shall look like: the inverse of the other direction's tuple."""
    cdef Tuple other
    read_tuple(&t.table, conn, 1 - direction, &other)
    invert_tuple(&other, out)


cdef uint8_t translate_error(Conntrack* t, Packet* p, uint32_t manip) noexcept nogil:
    """An ICMP error about a translated connection: the quoted packet's other end, then the error's own end."""
    cdef uint32_t direction = direction_of(p.ctinfo), status = t.table.hot[p.conn].status
    cdef uint32_t bit = SRC_NAT if manip == MANIP_SRC else DST_NAT
    cdef Tuple other, target
    if not icmp_checksum_good(p):
        return REASON_NAT_INNER
    if p.icmp_type == (ICMP_REDIRECT if p.family == IPV4 else ICMP6_REDIRECT):
        if (status & DONE_BITS) != DONE_BITS or status & NAT_BITS:
            return REASON_NAT_INNER
    if direction == REPLY:
        bit ^= NAT_BITS
    if not status & bit:
        return REASON_NONE
    if not writable(p):
        return REASON_TRUNCATED
    read_tuple(&t.table, p.conn, 1 - direction, &other)
    if not put_quoted(p, &other, 1 - manip):
        return REASON_NAT_INNER
    invert_tuple(&other, &target)
    if not put_packet_end(p, &target, manip):
        return REASON_NAT_INNER
    return REASON_NONE


cdef uint8_t nat_packet(Conntrack* t, Packet* p, uint32_t manip, Context* c) noexcept nogil:
    """Translate a packet of a tracked connection at one NAT hook.  A Reason: 0 = go on."""
    cdef ConnHot* hot = &t.table.hot[p.conn]
    cdef uint32_t direction = direction_of(p.ctinfo)
    cdef uint32_t bit = SRC_NAT if manip == MANIP_SRC else DST_NAT
    cdef Tuple target
    if p.ctinfo == CT_RELATED or p.ctinfo == CT_RELATED_REPLY:
        if p.flags & HAS_L4 and p.proto == (P_ICMP if p.family == IPV4 else P_ICMP6):
            return translate_error(t, p, manip)
    if manip == MANIP_SRC and c.hook == POSTROUTING and direction == ORIGINAL and hot.status & SRC_NAT:
        if t.table.cold[p.conn].masq_ifindex and t.table.cold[p.conn].masq_ifindex != p.ifout:
            conntrack_kill(t, p.conn)
            return REASON_MASQ_MOVED
    if direction == REPLY:
        bit ^= NAT_BITS
    if not hot.status & bit:
        return REASON_NONE
    if not writable(p):
        return REASON_TRUNCATED
    target_tuple(t, p.conn, direction, &target)
    if not put_packet_end(p, &target, manip):
        return REASON_NAT_INNER
    return REASON_NONE


# ---- host changes ---------------------------------------------------------------------------------------------------------

cdef uint32_t nat_forget(Conntrack* t, uint8_t family, uint32_t ifindex, const uint8_t* address) noexcept nogil:
    """End the masqueraded connections of an interface: all (address NULL: link down), or those with this address (removed).

    family 0 = both.  Returns how many.  Walks the whole table: a rare event.
    """
    cdef uint32_t i, n = 0
    cdef ConnHot* hot
    cdef Tuple reply
    for i in range(1, t.header.high):       # not the capacity: looking at memory that was never used would make it real
        hot = &t.table.hot[i]
        if hot.commit == 0 or not hot.status & CONFIRMED or t.table.cold[i].masq_ifindex != ifindex:
            continue
        if family and hot.family != family:
            continue
        if address != NULL:
            read_tuple(&t.table, i, REPLY, &reply)
            if memcmp(reply.dst, address, 4 if hot.family == IPV4 else 16) != 0:
                continue
        conntrack_kill(t, i)
        n += 1
    return n


def forget_masquerade(ConntrackTable table not None, uint32_t ifindex, bytes address=None):
    """`nat_forget` from Python: the interface went down, or lost this address.  Returns how many ended.

    address: 4 or 16 bytes, wire order; ValueError for any other number.
    """
    cdef const uint8_t* at = NULL
    cdef uint8_t family = 0
    cdef uint32_t n
    if address is not None:
        if len(address) not in (4, 16):
            raise ValueError(f"an address of {len(address)} bytes")
        at = <const uint8_t*><const char*>address
        family = IPV4 if len(address) == 4 else IPV6
    with nogil:
        n = nat_forget(table.handle, family, ifindex, at)
    return n


def rebuild(ConntrackTable table not None):
    """nat_index_rebuild from Python: whoever took a table over calls it before packets come."""
    with nogil:
        nat_index_rebuild(table.handle)


def alive(ConntrackTable table not None, uint32_t conn, uint32_t life, uint64_t now_ns):
    """True while entry `conn` is still that connection (ConnHot.id) and its time is not over."""
    cdef const ConnHot* hot
    if conn >= table.handle.table.capacity:
        return False
    hot = &table.handle.table.hot[conn]
    return hot.commit != 0 and hot.id == life and not hot.status & DYING and not is_expired(hot, ticks(now_ns))
