"""target REJECT: only its data; the engine sends the reply and drops.  Header-only."""

from libc.stdint cimport uint8_t


cdef struct RejectInfo:         # "<B3x"
    uint8_t kind                # RejectKind4 or RejectKind6, by the packet's family
    uint8_t pad[3]


cdef enum RejectKind4:          # enum ipt_reject_with of the kernel
    REJECT_ICMP_NET_UNREACHABLE = 0
    REJECT_ICMP_HOST_UNREACHABLE = 1
    REJECT_ICMP_PROT_UNREACHABLE = 2
    REJECT_ICMP_PORT_UNREACHABLE = 3
    REJECT_ICMP_ECHOREPLY = 4
    REJECT_ICMP_NET_PROHIBITED = 5
    REJECT_ICMP_HOST_PROHIBITED = 6
    REJECT_TCP_RESET = 7
    REJECT_ICMP_ADMIN_PROHIBITED = 8


cdef enum RejectKind6:          # enum ip6t_reject_with of the kernel
    REJECT6_NO_ROUTE = 0
    REJECT6_ADM_PROHIBITED = 1
    REJECT6_NOT_NEIGHBOUR = 2
    REJECT6_ADDR_UNREACH = 3
    REJECT6_PORT_UNREACH = 4
    REJECT6_ECHOREPLY = 5
    REJECT6_TCP_RESET = 6
    REJECT6_POLICY_FAIL = 7
    REJECT6_REJECT_ROUTE = 8
