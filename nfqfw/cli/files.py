"""Files that verbs take: reading them, and telling IPv4 rulesets from IPv6."""

from pathlib import Path

from nfqfw.cli import exits
from nfqfw.errors import NfqfwError
from nfqfw.limits import RULES_FILE_BYTES

IPV4, IPV6 = 2, 10


def read_bytes(path: Path, most: int, kind: str, shorter: str) -> bytes:
    """A file of at most so many bytes; NfqfwError says what it should be (`kind`) and what makes it shorter."""
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise NfqfwError(f"{path}: {error.strerror}", f"name {kind} that can be read", exits.USAGE) from None
    if len(data) > most:
        raise NfqfwError(f"{path}: longer than {most} bytes", shorter, exits.USAGE)
    return data


def read_rules(path: Path) -> str:
    """Text of a ruleset file.  Bytes that are no UTF-8 are kept, as surrogates: a comment may hold any."""
    return read_bytes(path, RULES_FILE_BYTES, "an iptables-save file", "split the ruleset").decode("utf-8", "surrogateescape")


def family_of(path: Path, text: str) -> int:
    """IPV6 where the name ends in 6 (rules.v6) or ip6tables-save says that it wrote the file; else IPV4."""
    head = text[:4096]
    return IPV6 if path.stem.endswith("6") or path.suffix.endswith("6") or "ip6tables-save" in head else IPV4
