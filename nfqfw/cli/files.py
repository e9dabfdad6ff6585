"""Ruleset files that verbs take: reading them, and telling IPv4 from IPv6."""

from pathlib import Path

from nfqfw.files import read_bytes
from nfqfw.limits import RULES_FILE_BYTES

IPV4, IPV6 = 2, 10


def read_rules(path: Path) -> str:
    """Text of a ruleset file.  Bytes that are no UTF-8 are kept, as surrogates: a comment may hold any."""
    return read_bytes(path, RULES_FILE_BYTES, "an iptables-save file", "split the ruleset").decode("utf-8", "surrogateescape")


def family_of(path: Path, text: str) -> int:
    """IPV6 where the name ends in 6 (rules.v6) or ip6tables-save says that it wrote the file; else IPV4."""
    head = text[:4096]
    return IPV6 if path.stem.endswith("6") or path.suffix.endswith("6") or "ip6tables-save" in head else IPV4
