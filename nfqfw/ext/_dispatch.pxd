"""The two switches of the matcher: opcode -> inline test, opcode -> inline action.  Header-only.

One line per test or action; the order is that of _ops.pxd (a test compares both with the registry).  Cython turns each
chain of compares on one integer into a C switch.  Info structs are found by offset in the Program's data section.
"""

from libc.stdint cimport uint32_t

from nfqfw._ops cimport *
from nfqfw._packet cimport Packet
from nfqfw._program cimport Context, TestRow
from nfqfw._record cimport record_packet, trace
from nfqfw._trace cimport NO_TEST, RECORD_LOG, TRACE_MARK
from nfqfw.ext.m_cluster cimport ClusterInfo, m_cluster
from nfqfw.ext.m_connlimit cimport ConnlimitInfo, m_connlimit
from nfqfw.ext.m_conntrack cimport ConntrackInfo, StateInfo, m_conntrack, m_state
from nfqfw.ext.m_connmark cimport ConnmarkMatchInfo, m_connmark
from nfqfw.ext.m_ecn cimport EcnMatchInfo, m_ecn
from nfqfw.ext.m_icmp cimport IcmpInfo, m_icmp
from nfqfw.ext.m_helper cimport HelperInfo, m_helper
from nfqfw.ext.m_icmp6 cimport m_icmp6
from nfqfw.ext.m_limit cimport LimitInfo, m_limit
from nfqfw.ext.m_mark cimport MarkMatchInfo, m_mark
from nfqfw.ext.m_multiport cimport MultiportInfo, m_multiport
from nfqfw.ext.m_tcp cimport TcpInfo, m_tcp
from nfqfw.ext.m_tos cimport TosMatchInfo, m_tos
from nfqfw.ext.m_ttl cimport TtlMatchInfo, m_ttl
from nfqfw.ext.m_addrtype cimport AddrtypeInfo, m_addrtype
from nfqfw.ext.m_ah cimport Ah6Info, m_ah6
from nfqfw.ext.m_bpf cimport BpfInfo, m_bpf
from nfqfw.ext.m_connbytes cimport ConnbytesInfo, m_connbytes
from nfqfw.ext.m_connlabel cimport ConnlabelInfo, m_connlabel
from nfqfw.ext.m_dccp cimport DccpInfo, m_dccp
from nfqfw.ext.m_devgroup cimport DevgroupInfo, m_devgroup
from nfqfw.ext.m_dst cimport OptionsInfo, m_options6
from nfqfw.ext.m_esp cimport SpiInfo, m_ah, m_esp, m_ipcomp
from nfqfw.ext.m_frag cimport FragInfo, m_frag6
from nfqfw.ext.m_iprange cimport IprangeInfo, m_iprange
from nfqfw.ext.m_ipv6header cimport HeadersInfo, m_headers6
from nfqfw.ext.m_hashlimit cimport HashlimitInfo, m_hashlimit
from nfqfw.ext.m_length cimport LengthInfo, m_length
from nfqfw.ext.m_mac cimport MacInfo, m_eui64, m_mac
from nfqfw.ext.m_mh cimport MhInfo, m_mh6
from nfqfw.ext.m_owner cimport OwnerInfo, m_owner
from nfqfw.ext.m_physdev cimport PhysdevInfo, m_physdev
from nfqfw.ext.m_pkttype cimport PkttypeInfo, m_pkttype
from nfqfw.ext.m_quota cimport QuotaInfo, m_quota
from nfqfw.ext.m_recent cimport RecentInfo, m_recent
from nfqfw.ext.m_rt cimport RtInfo, m_rt6
from nfqfw.ext.m_sctp cimport SctpInfo, m_sctp
from nfqfw.ext.m_statistic cimport StatisticInfo, m_statistic
from nfqfw.ext.m_string cimport StringInfo, m_string
from nfqfw.ext.m_tcpmss cimport TcpmssInfo, m_tcpmss
from nfqfw.ext.m_time cimport TimeInfo, m_time
from nfqfw.ext.m_u32 cimport U32Info, m_u32
from nfqfw.ext.m_udp cimport UdpInfo, m_udp
from nfqfw.ext.rule cimport (Address4Info, Address6Info, FragmentInfo, InterfaceInfo, ProtoInfo, rule_dst4, rule_dst6, rule_fragment,
                             rule_in, rule_out, rule_proto, rule_src4, rule_src6)
from nfqfw.ext.t_CHECKSUM cimport t_CHECKSUM
from nfqfw.ext.t_CLASSIFY cimport ClassifyInfo, t_CLASSIFY
from nfqfw.ext.t_CONNMARK cimport ConnmarkInfo, t_CONNMARK
from nfqfw.ext.t_CT cimport CtInfoBlock, t_CT, t_NOTRACK
from nfqfw.ext.t_ECN cimport EcnInfo, t_ECN
from nfqfw.ext.t_MARK cimport MarkInfo, t_MARK
from nfqfw.ext.t_NPT cimport NptInfo, t_DNPT, t_SNPT
from nfqfw.ext.t_SECMARK cimport ConnsecmarkInfo, SecmarkInfo, t_CONNSECMARK, t_SECMARK
from nfqfw.ext.t_TCPMSS cimport TcpMssInfo, t_TCPMSS
from nfqfw.ext.t_TCPOPTSTRIP cimport TcpOptStripInfo, t_TCPOPTSTRIP
from nfqfw.ext.t_TOS cimport TosInfo, t_TOS
from nfqfw.ext.t_TRACE cimport t_TRACE
from nfqfw.ext.t_TTL cimport TtlInfo, t_TTL


cdef enum:
    EFFECT_REJECT = 16          # Outcome.OUTCOME_REJECT of _fastpath.pxd
    EFFECT_NAT = 17             # Outcome.OUTCOME_NAT


cdef inline bint holds(Context* c, Packet* p, const TestRow* t) noexcept nogil:
    """Whether one test of a rule is true; may set c.hotdrop."""
    cdef const void* info = c.data + t.info
    cdef uint32_t op = t.op
    if op == OP_SRC4:
        return rule_src4(p, <const Address4Info*>info, c)
    elif op == OP_DST4:
        return rule_dst4(p, <const Address4Info*>info, c)
    elif op == OP_SRC6:
        return rule_src6(p, <const Address6Info*>info, c)
    elif op == OP_DST6:
        return rule_dst6(p, <const Address6Info*>info, c)
    elif op == OP_IN:
        return rule_in(p, <const InterfaceInfo*>info, c)
    elif op == OP_OUT:
        return rule_out(p, <const InterfaceInfo*>info, c)
    elif op == OP_PROTO:
        return rule_proto(p, <const ProtoInfo*>info, c)
    elif op == OP_FRAGMENT:
        return rule_fragment(p, <const FragmentInfo*>info, c)
    elif op == OP_TCP:
        return m_tcp(p, <const TcpInfo*>info, c)
    elif op == OP_UDP:
        return m_udp(p, <const UdpInfo*>info, c)
    elif op == OP_ICMP:
        return m_icmp(p, <const IcmpInfo*>info, c)
    elif op == OP_ICMP6:
        return m_icmp6(p, <const IcmpInfo*>info, c)
    elif op == OP_MULTIPORT:
        return m_multiport(p, <const MultiportInfo*>info, c)
    elif op == OP_CONNTRACK:
        return m_conntrack(p, <const ConntrackInfo*>info, c)
    elif op == OP_STATE:
        return m_state(p, <const StateInfo*>info, c)
    elif op == OP_MARK:
        return m_mark(p, <const MarkMatchInfo*>info, c)
    elif op == OP_LIMIT:
        return m_limit(p, <const LimitInfo*>info, c, c.state + t.state)
    elif op == OP_TTL:
        return m_ttl(p, <const TtlMatchInfo*>info, c)
    elif op == OP_TOS:
        return m_tos(p, <const TosMatchInfo*>info, c)
    elif op == OP_ECN:
        return m_ecn(p, <const EcnMatchInfo*>info, c)
    elif op == OP_CONNMARK:
        return m_connmark(p, <const ConnmarkMatchInfo*>info, c)
    elif op == OP_LENGTH:
        return m_length(p, <const LengthInfo*>info, c)
    elif op == OP_IPRANGE:
        return m_iprange(p, <const IprangeInfo*>info, c)
    elif op == OP_MAC:
        return m_mac(p, <const MacInfo*>info, c)
    elif op == OP_EUI64:
        return m_eui64(p, info, c)
    elif op == OP_PKTTYPE:
        return m_pkttype(p, <const PkttypeInfo*>info, c)
    elif op == OP_STRING:
        return m_string(p, <const StringInfo*>info, c)
    elif op == OP_TCPMSS:
        return m_tcpmss(p, <const TcpmssInfo*>info, c)
    elif op == OP_STATISTIC:
        return m_statistic(p, <const StatisticInfo*>info, c, c.state + t.state)
    elif op == OP_QUOTA:
        return m_quota(p, <const QuotaInfo*>info, c, c.state + t.state)
    elif op == OP_TIME:
        return m_time(p, <const TimeInfo*>info, c)
    elif op == OP_ADDRTYPE:
        return m_addrtype(p, <const AddrtypeInfo*>info, c)
    elif op == OP_ESP:
        return m_esp(p, <const SpiInfo*>info, c)
    elif op == OP_AH:
        return m_ah(p, <const SpiInfo*>info, c)
    elif op == OP_IPCOMP:
        return m_ipcomp(p, <const SpiInfo*>info, c)
    elif op == OP_AH6:
        return m_ah6(p, <const Ah6Info*>info, c)
    elif op == OP_OPTIONS6:
        return m_options6(p, <const OptionsInfo*>info, c)
    elif op == OP_FRAG6:
        return m_frag6(p, <const FragInfo*>info, c)
    elif op == OP_HEADERS6:
        return m_headers6(p, <const HeadersInfo*>info, c)
    elif op == OP_MH6:
        return m_mh6(p, <const MhInfo*>info, c)
    elif op == OP_DCCP:
        return m_dccp(p, <const DccpInfo*>info, c)
    elif op == OP_SCTP:
        return m_sctp(p, <const SctpInfo*>info, c)
    elif op == OP_CONNBYTES:
        return m_connbytes(p, <const ConnbytesInfo*>info, c)
    elif op == OP_CONNLABEL:
        return m_connlabel(p, <const ConnlabelInfo*>info, c)
    elif op == OP_U32:
        return m_u32(p, <const U32Info*>info, c)
    elif op == OP_DEVGROUP:
        return m_devgroup(p, <const DevgroupInfo*>info, c)
    elif op == OP_OWNER:
        return m_owner(p, <const OwnerInfo*>info, c)
    elif op == OP_PHYSDEV:
        return m_physdev(p, <const PhysdevInfo*>info, c)
    elif op == OP_BPF:
        return m_bpf(p, <const BpfInfo*>info, c)
    elif op == OP_RT6:
        return m_rt6(p, <const RtInfo*>info, c)
    elif op == OP_RECENT:
        return m_recent(p, <const RecentInfo*>info, c)
    elif op == OP_HASHLIMIT:
        return m_hashlimit(p, <const HashlimitInfo*>info, c)
    elif op == OP_CONNLIMIT:
        return m_connlimit(p, <const ConnlimitInfo*>info, c)
    elif op == OP_CLUSTER:
        return m_cluster(p, <const ClusterInfo*>info, c)
    elif op == OP_HELPER:
        return m_helper(p, <const HelperInfo*>info, c)
    return False


cdef inline uint32_t with_effect(Context* c, uint32_t info, uint32_t action, uint32_t outcome) noexcept nogil:
    """An action whose effect lies outside the packet: the engine carries it out after the walk."""
    c.effect = info
    c.effect_op = action
    return outcome


cdef inline uint32_t act(Context* c, Packet* p, uint32_t action, uint32_t info) noexcept nogil:
    """Run a target: CONTINUE, a Verdict, or an Outcome."""
    cdef const void* data = c.data + info
    cdef uint32_t outcome
    if action == ACTION_REJECT:
        return with_effect(c, info, action, EFFECT_REJECT)
    elif action == ACTION_LOG:
        record_packet(c, p, RECORD_LOG, c.rule)
        return CONTINUE
    elif action == ACTION_MARK:
        outcome = <uint32_t>t_MARK(p, <const MarkInfo*>data, c)
        if p.trace:
            trace(c, p, TRACE_MARK, 0, c.rule, NO_TEST, p.mark)
        return outcome
    elif action == ACTION_TRACE:
        return <uint32_t>t_TRACE(p, data, c)
    elif action == ACTION_NOTRACK:
        return <uint32_t>t_NOTRACK(p, data, c)
    elif action == ACTION_NAT:
        return with_effect(c, info, action, EFFECT_NAT)
    elif action == ACTION_TTL:
        return <uint32_t>t_TTL(p, <const TtlInfo*>data, c)
    elif action == ACTION_TOS:
        return <uint32_t>t_TOS(p, <const TosInfo*>data, c)
    elif action == ACTION_ECN:
        return <uint32_t>t_ECN(p, <const EcnInfo*>data, c)
    elif action == ACTION_CONNMARK:
        return <uint32_t>t_CONNMARK(p, <const ConnmarkInfo*>data, c)
    elif action == ACTION_CLASSIFY:
        return <uint32_t>t_CLASSIFY(p, <const ClassifyInfo*>data, c)
    elif action == ACTION_TCPMSS:
        return <uint32_t>t_TCPMSS(p, <const TcpMssInfo*>data, c)
    elif action == ACTION_TCPOPTSTRIP:
        return <uint32_t>t_TCPOPTSTRIP(p, <const TcpOptStripInfo*>data, c)
    elif action == ACTION_SNPT:
        return <uint32_t>t_SNPT(p, <const NptInfo*>data, c)
    elif action == ACTION_DNPT:
        return <uint32_t>t_DNPT(p, <const NptInfo*>data, c)
    elif action == ACTION_CT:
        return <uint32_t>t_CT(p, <const CtInfoBlock*>data, c)
    elif action == ACTION_SECMARK:
        return <uint32_t>t_SECMARK(p, <const SecmarkInfo*>data, c)
    elif action == ACTION_CONNSECMARK:
        return <uint32_t>t_CONNSECMARK(p, <const ConnsecmarkInfo*>data, c)
    elif action == ACTION_CHECKSUM:
        return <uint32_t>t_CHECKSUM(p, c)
    return CONTINUE
