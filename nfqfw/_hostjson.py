"""Host facts from and to JSON, in the words of `ip -j`.  A snapshot file is one object:

    {"addr":    output of `ip -j -d addr`,
     "route":   output of `ip -j route show table all` and of `ip -j -6 route show table all`, as one list,
     "sysctls": {"net.ipv4.icmp_ratelimit": 1000, …}}          (all of them optional)

"route" may be left out: then each address brings its subnet's route.  `Host.save` writes such a file; by hand:

    echo "{\\"addr\\": $(ip -j -d addr), \\"route\\": $(ip -j route show table all)}" > host.json

Only what a Host block holds is read; unknown keys are ignored.  Mistakes raise NfqfwError.
"""

import json
import struct
from collections import Counter
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from pathlib import Path

from nfqfw._hostblock import IPV4, IPV6, SYSCTLS, Address, Facts, Interface, Route, ordered, pack
from nfqfw.errors import NfqfwError

# `ip` prints names for these; numbers it does not know stay numbers.  <linux/if.h>, <linux/if_arp.h>, rtnetlink(7).
FLAGS = {name: 1 << bit for bit, name in enumerate((
    "UP", "BROADCAST", "DEBUG", "LOOPBACK", "POINTOPOINT", "NOTRAILERS", "RUNNING", "NOARP", "PROMISC", "ALLMULTI", "MASTER",
    "SLAVE", "MULTICAST", "PORTSEL", "AUTOMEDIA", "DYNAMIC", "LOWER_UP", "DORMANT", "ECHO"))}
TYPES = {"ether": 1, "infiniband": 32, "ppp": 512, "none": 65534, "ipip": 768, "tunnel6": 769, "loopback": 772, "sit": 776,
         "gre": 778, "gre6": 823}
SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
TABLES = {"default": 253, "main": 254, "local": 255}
ROUTE_TYPES = {"unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5, "blackhole": 6, "unreachable": 7,
               "prohibit": 8, "throw": 9}
ADDRESS_FLAGS = {"secondary": 0x01, "temporary": 0x01, "nodad": 0x02, "optimistic": 0x04, "dadfailed": 0x08, "home": 0x10,
                 "deprecated": 0x20, "tentative": 0x40, "mngtmpaddr": 0x100, "noprefixroute": 0x200, "autojoin": 0x400}
PERMANENT = 0x80                # IFA_F_PERMANENT; `ip` prints "dynamic" where it is missing


def load(path: str | Path) -> Facts:
    try:
        facts = facts_of(json.loads(Path(path).read_text()))
        pack(ordered(facts), 0)                         # every number fits its field, every name is a name
        return facts
    except OSError as error:
        raise NfqfwError(f"{path}: {error.strerror}", "name a snapshot made by 'ip -j', see nfqfw/_hostjson.py") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, struct.error) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise NfqfwError(f"{path}: not a host snapshot: {reason}", "make it from the output of 'ip -j', see nfqfw/_hostjson.py") from error


def facts_of(document: dict) -> Facts:
    """Raises ValueError, KeyError, TypeError or AttributeError on what does not fit."""
    links = document["addr"]
    names = {link["ifname"]: link["ifindex"] for link in links}
    interfaces = tuple(_interface(link, names) for link in links)
    addresses = tuple(address for link in links for address in _addresses(link))
    if "route" in document:
        routes = tuple(route for entry in document["route"] for route in _routes(entry, names))
    else:
        routes = connected(addresses)
    given = document.get("sysctls", {})
    return Facts(interfaces, addresses, routes, tuple(int(given.get(name, default)) for name, default in SYSCTLS.items()))


def connected(addresses: Iterable[Address]) -> tuple[Route, ...]:
    """The routes that addresses bring: their subnet (main) and themselves (local), as the kernel adds them."""
    routes = []
    for item in addresses:
        network = ip_network((item.address, item.prefix), strict=False)
        source = item.address if item.family == IPV4 else None
        metric = 0 if item.family == IPV4 else 256
        if item.prefix < network.max_prefixlen and not item.address.is_loopback:
            routes.append(Route(item.family, network.network_address, item.prefix, 1, 253 if source else 0, 254, item.ifindex,
                                None, source, metric))
        routes.append(Route(item.family, item.address, network.max_prefixlen, 2, 254 if source else 0, 255, item.ifindex,
                            None, source))
    return tuple(routes)


def _number(value, names: dict[str, int]) -> int:
    return value if isinstance(value, int) else names[value] if value in names else int(str(value).strip("[]"), 0)


def _interface(link: dict, names: dict[str, int]) -> Interface:
    flags = sum(FLAGS.get(name, 0) for name in link.get("flags", ()))
    if link.get("operstate") in ("UP", "UNKNOWN") and flags & FLAGS["UP"]:
        flags |= FLAGS["RUNNING"]                       # `ip` leaves it out
    return Interface(link["ifindex"], link["ifname"], flags, link.get("mtu", 1500),
                     _number(link.get("group", "default"), {"default": 0}), names.get(link.get("master"), 0),
                     _number(link.get("link_type", "ether"), TYPES))


def _addresses(link: dict) -> list[Address]:
    position: Counter = Counter()
    found = []
    for info in link.get("addr_info", ()):
        if "local" not in info:                         # `ip` prints {} for what it filtered out
            continue
        address = ip_address(info["local"])
        flags = sum(bit for name, bit in ADDRESS_FLAGS.items() if info.get(name))
        flags |= 0 if info.get("dynamic") else PERMANENT
        broadcast = ip_address(info["broadcast"]) if "broadcast" in info else None
        found.append(Address(link["ifindex"], address, info["prefixlen"], broadcast, flags,
                             _number(info.get("scope", 0), SCOPES), position[address.version]))
        position[address.version] += 1
    return found


def _routes(entry: dict, names: dict[str, int]) -> list[Route]:
    hops = entry.get("nexthops") or [entry]
    family = _family(entry, hops)
    table = _number(entry.get("table", "main"), TABLES)
    if table not in TABLES.values() or "from" in entry or "tos" in entry:
        return []
    wildcard = "0.0.0.0/0" if family == IPV4 else "::/0"
    destination = ip_network(wildcard if entry["dst"] == "default" else entry["dst"], strict=False)
    metrics = {key: value for part in entry.get("metrics", ()) for key, value in part.items()}
    flow = entry.get("flow", {})
    realm = int(flow.get("to", 0)) | int(flow.get("from", 0)) << 16
    prefsrc = ip_address(entry["prefsrc"]) if "prefsrc" in entry else None
    return [Route(family, destination.network_address, destination.prefixlen, _number(entry.get("type", "unicast"), ROUTE_TYPES),
                  _number(entry.get("scope", 0), SCOPES), table, names.get(hop.get("dev"), 0),
                  ip_address(hop["gateway"]) if "gateway" in hop else None, prefsrc, entry.get("metric", 0),
                  metrics.get("mtu", 0), realm) for hop in hops]


def _family(entry: dict, hops: list[dict]) -> int:
    """`ip` prints no family: any address of the route shows it; a default route without one is IPv6 when it has a preference."""
    texts = [entry["dst"], entry.get("prefsrc", ""), hops[0].get("gateway", "")]
    if any(":" in text for text in texts):
        return IPV6
    if any("." in text for text in texts):
        return IPV4
    return IPV6 if "pref" in entry else IPV4


# ---- back to JSON -----------------------------------------------------------------------------------------------------

def document_of(facts: Facts) -> dict:
    """What `facts_of` reads back to the same facts."""
    names = {interface.index: interface.name for interface in facts.interfaces}
    return {
        "addr": [_link_entry(interface, names, facts.addresses) for interface in facts.interfaces],
        "route": [_route_entry(route, names) for route in facts.routes],
        "sysctls": dict(zip(SYSCTLS, facts.sysctls)),
    }


def _link_entry(link: Interface, names: dict[int, str], addresses: tuple[Address, ...]) -> dict:
    own = sorted((address for address in addresses if address.ifindex == link.index), key=lambda a: (a.family, a.order))
    entry = {"ifindex": link.index, "ifname": link.name, "flags": [name for name, bit in FLAGS.items() if link.flags & bit],
             "mtu": link.mtu, "group": link.group, "link_type": link.type,
             "addr_info": [_address_entry(address) for address in own]}
    return entry | ({"master": names[link.master]} if link.master in names else {})


def _address_entry(item: Address) -> dict:
    entry = {"family": "inet" if item.family == IPV4 else "inet6", "local": str(item.address), "prefixlen": item.prefix,
             "scope": item.scope, "dynamic": not item.flags & PERMANENT}
    entry |= {name: True for name, bit in ADDRESS_FLAGS.items() if item.flags & bit and name != "temporary"}
    return entry | ({"broadcast": str(item.broadcast)} if item.broadcast else {})


def _route_entry(route: Route, names: dict[int, str]) -> dict:
    entry = {"dst": f"{route.destination}/{route.prefix}", "type": route.type, "scope": route.scope, "table": route.table,
             "metric": route.metric, "metrics": [{"mtu": route.mtu}],
             "flow": {"to": route.realm & 0xFFFF, "from": route.realm >> 16}}
    optional = {"dev": names.get(route.ifindex), "gateway": route.gateway, "prefsrc": route.prefsrc}
    return entry | {key: str(value) for key, value in optional.items() if value}
