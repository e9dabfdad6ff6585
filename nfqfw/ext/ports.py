"""Port ranges of tcp, udp and their kin: printing in save and -L, and as fields of the index."""

from __future__ import annotations

from nfqfw.ext.api import Opt
from nfqfw.ext.lowering import FieldSet, field
from nfqfw.ext.names import transport_name

EVERY = (0, 65535)


def port_opts(once: bool) -> tuple[Opt, Opt]:
    """--source-port and --destination-port; `once`: tcp's own text for a second one."""
    def text(name):
        return f"Only one `--{name}' allowed" if once else ""
    return (
        Opt("source-port", "ports", aliases=("sport",), invert=True, key="sport", metavar="port[:port]",
            once=text("source-port"), help="source port, or a range with both ends"),
        Opt("destination-port", "ports", aliases=("dport",), invert=True, key="dport", metavar="port[:port]",
            once=text("destination-port"), help="destination port, or a range with both ends"),
    )


def drop_full_ranges(draft) -> None:
    """A range that covers all ports and is not inverted tests nothing: it is neither stored nor printed."""
    for key in ("sport", "dport"):
        if draft.values.get(key) == EVERY and key not in draft.inverted:
            del draft.values[key]


def save_ports(use) -> str:
    out = ""
    for key in ("sport", "dport"):
        if key in use.values:
            low, high = use.values[key]
            out += f"{' !' if key in use.inverted else ''} --{key} {low if low == high else f'{low}:{high}'}"
    return out


def port_text(port: int, proto: int, numeric: bool, resolver) -> str:
    if numeric:
        return str(port)
    return resolver.service(port, transport_name(proto)) or str(port)


def show_ports(use, proto: int, numeric: bool, resolver) -> list[str]:
    """`spt:22`, `dpts:!1:5`: the words of -L."""
    out = []
    for key, word in (("sport", "spt"), ("dport", "dpt")):
        if key in use.values:
            low, high = use.values[key]
            sign = "!" if key in use.inverted else ""
            if low == high:
                out.append(f"{word}:{sign}{port_text(low, proto, numeric, resolver)}")
            else:
                out.append(f"{word}s:{sign}{port_text(low, proto, numeric, resolver)}:"
                           f"{port_text(high, proto, numeric, resolver)}")
    return out


def port_fields(use) -> tuple[FieldSet, ...]:
    values, inverted = use.values, use.inverted
    return tuple([field(key, (values[key],), key in inverted, 65535) for key in ("sport", "dport") if key in values])


def shown_ports(use, proto, numeric, resolver) -> list[str]:
    """As show_ports, but a range of all ports is not listed (it is saved)."""
    return [word for word in show_ports(use, proto, numeric, resolver) if not word.endswith("pts:0:65535")]
