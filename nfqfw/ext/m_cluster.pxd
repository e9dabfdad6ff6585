"""match cluster: is this connection one of our node's?  Header-only.

The hash is the kernel's, over the connection's original source, so that nodes of both kinds can share a cluster.  Of an IPv6
address the kernel takes the first 32 bits alone (measured on Linux 6.18): hosts of one provider all go to one node.
"""

from libc.stdint cimport uint32_t

from nfqfw._conn cimport ORIGINAL
from nfqfw._jhash cimport jhash_words, scale32
from nfqfw._packet cimport IPV4, Packet, raw32
from nfqfw._program cimport Context


cdef struct ClusterInfo:        # "<IIII"
    uint32_t total              # nodes
    uint32_t mask               # bit n: node n + 1 is meant
    uint32_t seed
    uint32_t invert


cdef inline bint m_cluster(Packet* p, const ClusterInfo* info, Context* c) noexcept nogil:
    """A connection that was expected goes where its master goes.  Without a connection: false, inverted too."""
    cdef uint32_t conn, hash, word
    if p.conn == 0:
        return False
    conn = c.conns.cold[p.conn].master
    if conn == 0:
        conn = p.conn
    if p.family == IPV4:
        word = c.conns.hot[conn].src4[ORIGINAL]
    else:
        word = raw32(c.conns.addr6[conn].src[ORIGINAL])
    hash = jhash_words(&word, 1, info.seed)
    return (((<uint32_t>1 << scale32(hash, info.total)) & info.mask) != 0) ^ (info.invert != 0)
