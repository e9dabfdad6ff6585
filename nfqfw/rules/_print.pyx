"""Rules as the words that save and -S print."""

from libc.stdint cimport uint8_t
from libc.stdio cimport snprintf

from nfqfw.rules._rule cimport INV_DST, INV_FRAG, INV_IN, INV_OUT, INV_PROTO, INV_SRC, Rule

from nfqfw.ext.names import address_text, mask_suffix
from nfqfw.protocols import NAME_OF
from nfqfw.rules.model import Jump, Standard

cdef:
    dict PROTOCOLS = {(number, inverted): f"{' !' if inverted else ''} -p {NAME_OF.get(number) or number}"
                      for number in range(1, 256) for inverted in (False, True)}


def rule_text(Rule rule not None, str counts="") -> str:
    """A rule's part of a line behind `-A CHAIN`, a space in front of each word.  counts: ` -c P B` of -S -v."""
    cdef str out = own_part(rule)
    cdef object target = rule.target
    for use in rule.matches:
        out += " -m " + <str>(use.saved or use.text())
    if counts:
        out += counts
    if target is None:
        return out
    if type(target) is Standard:
        return out + " -j " + <str>target.name
    if type(target) is Jump:
        return out + (" -g " if target.goto else " -j ") + <str>target.chain
    return out + " -j " + <str>(target.saved or target.text())


def rule_lines(list rules, chain, bint counters) -> list:
    """A line of save for each rule, without its newline; with `[packets:bytes] ` in front if counters are wanted."""
    cdef str head = f"-A {chain}"
    cdef Rule rule
    cdef list out = []
    for rule in rules:
        if counters:
            out.append(f"[{rule.packets}:{rule.byte_count}] {head}{rule_text(rule)}")
        else:
            out.append(head + <str>rule_text(rule))
    return out


cdef str own_part(Rule rule):
    """Addresses, interfaces, protocol, fragment."""
    cdef int inverted = rule.inverted
    cdef str out = ""
    if rule.source is not None:
        out = (" ! -s " if inverted & INV_SRC else " -s ") + network_text(rule.source, rule.source_mask)
    if rule.destination is not None:
        out += (" ! -d " if inverted & INV_DST else " -d ") + network_text(rule.destination, rule.destination_mask)
    if rule.in_interface:
        out += (" ! -i " if inverted & INV_IN else " -i ") + rule.in_interface
    if rule.out_interface:
        out += (" ! -o " if inverted & INV_OUT else " -o ") + rule.out_interface
    if rule.protocol:
        out += <str>PROTOCOLS[rule.protocol, (inverted & INV_PROTO) != 0]
    if rule.fragment:
        out += " ! -f" if inverted & INV_FRAG else " -f"
    return out


cdef str network_text(bytes address, bytes mask):
    """`a.b.c.d/length`; a mask that is no prefix is printed as an address."""
    cdef const uint8_t* a = <const uint8_t*><const char*>address
    cdef char text[32]
    cdef int length, size
    if mask is None or len(mask) != len(address):
        raise ValueError("a mask has as many bytes as its address")
    if len(address) != 4:
        return address_text(address) + mask_suffix(mask, always=True)
    length = prefix_length4(<const uint8_t*><const char*>mask)
    if length < 0:
        return address_text(address) + mask_suffix(mask, always=True)
    size = snprintf(text, sizeof(text), "%u.%u.%u.%u/%d", a[0], a[1], a[2], a[3], length)
    return text[:size].decode("ascii")


cdef int prefix_length4(const uint8_t* mask) noexcept nogil:
    """Ones in front; -1 if others follow a zero."""
    cdef unsigned int bits = <unsigned int>mask[0] << 24 | <unsigned int>mask[1] << 16 | <unsigned int>mask[2] << 8 | mask[3]
    cdef int length = 0
    while length < 32 and bits & <unsigned int>0x80000000:
        bits <<= 1
        length += 1
    return length if bits == 0 else -1
