"""match bpf: a machine for classic BPF, with the packet from its IP header on.  Header-only.

Programs are validated when a rule is loaded (m_bpf.is_valid): jumps go forward and land inside, so every run ends.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from nfqfw._packet cimport Packet, be16, be32, has
from nfqfw._program cimport Context


cdef struct BpfInstruction:     # "<HBBI"
    uint16_t code
    uint8_t jt
    uint8_t jf
    uint32_t k


cdef struct BpfInfo:            # "<II" + instructions
    uint32_t n
    uint32_t pad
    BpfInstruction code[1]


cdef inline uint32_t bpf_alu(uint32_t operation, uint32_t a, uint32_t b) noexcept nogil:
    """One operation; b is not 0 for division."""
    if operation == 0x00:
        return a + b
    elif operation == 0x10:
        return a - b
    elif operation == 0x20:
        return a * b
    elif operation == 0x30:
        return a // b
    elif operation == 0x40:
        return a | b
    elif operation == 0x50:
        return a & b
    elif operation == 0x60:
        return a << (b & 31)
    elif operation == 0x70:
        return a >> (b & 31)
    elif operation == 0x90:
        return a % b
    elif operation == 0xa0:
        return a ^ b
    return <uint32_t>0 - a


cdef inline bint bpf_load(const Packet* p, uint32_t size, uint32_t at, uint32_t* out) noexcept nogil:
    """A word, half word or byte of the packet; False beyond its end."""
    cdef uint32_t n = 4 if size == 0 else 2 if size == 8 else 1
    if not has(p, at, n):
        return False
    out[0] = be32(p.data + at) if n == 4 else be16(p.data + at) if n == 2 else p.data[at]
    return True


cdef inline bint bpf_holds(uint32_t operation, uint32_t a, uint32_t b) noexcept nogil:
    if operation == 0x10:
        return a == b
    elif operation == 0x20:
        return a > b
    elif operation == 0x30:
        return a >= b
    return (a & b) != 0


cdef inline bint m_bpf(Packet* p, const BpfInfo* info, Context* c) noexcept nogil:
    """True if the program returns anything but 0; a load beyond the packet and a division by 0 return 0."""
    cdef uint32_t a = 0, x = 0, b, at = 0, kind, mode
    cdef uint32_t memory[16]
    cdef const BpfInstruction* i
    memset(memory, 0, sizeof(memory))
    while at < info.n:
        i = &info.code[at]
        at += 1
        kind = i.code & 7
        mode = i.code & 0xe0
        b = x if i.code & 8 else i.k
        if kind == 0:
            if mode == 0x20 or mode == 0x40:
                if mode == 0x40 and i.k + x < i.k:
                    return False
                if not bpf_load(p, i.code & 0x18, i.k if mode == 0x20 else i.k + x, &a):
                    return False
            else:
                a = i.k if mode == 0 else memory[i.k & 15] if mode == 0x60 else p.total
        elif kind == 1:
            if mode == 0xa0:
                if not bpf_load(p, 0x10, i.k, &x):
                    return False
                x = (x & 15) * 4
            else:
                x = i.k if mode == 0 else memory[i.k & 15] if mode == 0x60 else p.total
        elif kind == 2:
            memory[i.k & 15] = a
        elif kind == 3:
            memory[i.k & 15] = x
        elif kind == 4:
            if ((i.code & 0xf0) == 0x30 or (i.code & 0xf0) == 0x90) and b == 0:
                return False
            a = bpf_alu(i.code & 0xf0, a, b)
        elif kind == 5:
            if (i.code & 0xf0) == 0:
                at += i.k
            else:
                at += i.jt if bpf_holds(i.code & 0xf0, a, b) else i.jf
        elif kind == 6:
            return (a if i.code & 0x10 else i.k) != 0
        elif i.code & 0x80:
            a = x
        else:
            x = a
    return False
