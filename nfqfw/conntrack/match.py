"""Which entries a conntrack command means: the filters of its options, each one function in a table."""

import ipaddress

from nfqfw.conntrack.entry import DST_NAT, SEEN_REPLY, SRC_NAT, Entry
from nfqfw.conntrack.options import Request, leading_number


def mark_and_mask(text: str) -> tuple[int, int]:
    """`value[/mask]` as the tool reads it: what is no number is 0."""
    value, slash, mask = text.partition("/")
    return leading_number(value) & 0xFFFFFFFF, leading_number(mask) & 0xFFFFFFFF if slash else 0xFFFFFFFF


def matches(request: Request, entry: Entry) -> bool:
    """True if the entry passes every filter of the command line."""
    if request.proto is not None and request.proto != entry.proto:
        return False
    if request.family is not None and request.family != entry.family:
        return False
    return all(FILTERS[name](request, value, entry) for name, value in request.given.items() if name in FILTERS) and all(
        KEYS[key](entry, value) for key, value in request.keys.items() if key in KEYS)


def in_network(request: Request, wanted, text: str, mask_option: str) -> bool:
    address, bits = wanted
    mask = request.given.get(mask_option)
    if mask is not None:
        width = int(mask[0])
        return int(ipaddress.ip_address(text)) & width == int(address) & width
    if bits is None:
        return ipaddress.ip_address(text) == address
    return ipaddress.ip_address(text) in ipaddress.ip_network((int(address), bits) if address.version == 6 else f"{address}/{bits}", strict=False)


def has_source_nat(request: Request, wanted, entry: Entry) -> bool:
    if not entry.status & SRC_NAT:
        return False
    return wanted is None or str(wanted[0]) == entry.reply.dst and wanted[1] in (None, entry.reply.dport)


def has_destination_nat(request: Request, wanted, entry: Entry) -> bool:
    if not entry.status & DST_NAT:
        return False
    return wanted is None or str(wanted[0]) == entry.reply.src and wanted[1] in (None, entry.reply.sport)


def has_status(request: Request, wanted, entry: Entry) -> bool:
    if "UNREPLIED" in wanted and entry.status & SEEN_REPLY:
        return False
    bits = sum({bit for bit in wanted if isinstance(bit, int)})
    return entry.status & bits == bits


def has_mark(request: Request, wanted, entry: Entry) -> bool:
    value, mask = mark_and_mask(wanted)
    return entry.mark & mask == value


def has_zone(request: Request, wanted, entry: Entry) -> bool:
    zone = leading_number(wanted)
    common = entry.original.zone if entry.original.zone == entry.reply.zone else 0
    return common == zone


FILTERS = {
    "src": lambda r, v, e: in_network(r, v, e.original.src, "mask-src"),
    "dst": lambda r, v, e: in_network(r, v, e.original.dst, "mask-dst"),
    "reply-src": lambda r, v, e: in_network(r, v, e.reply.src, ""),
    "reply-dst": lambda r, v, e: in_network(r, v, e.reply.dst, ""),
    "src-nat": has_source_nat,
    "dst-nat": has_destination_nat,
    "any-nat": lambda r, v, e: has_source_nat(r, v, e) or has_destination_nat(r, v, e),
    "status": has_status,
    "mark": has_mark,
    "zone": has_zone,
    "orig-zone": lambda r, v, e: e.original.zone == leading_number(v),
    "reply-zone": lambda r, v, e: e.reply.zone == leading_number(v),
    "label": lambda r, v, e: e.labels & v == v,
}
KEYS = {
    "sport": lambda e, v: e.original.sport == v,
    "dport": lambda e, v: e.original.dport == v,
    "reply-port-src": lambda e, v: e.reply.sport == v,
    "reply-port-dst": lambda e, v: e.reply.dport == v,
    "type": lambda e, v: e.original.dport >> 8 == v,
    "code": lambda e, v: e.original.dport & 255 == v,
    "id": lambda e, v: e.original.sport == v,
    "state": lambda e, v: e.state == v,
}
