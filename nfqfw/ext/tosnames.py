"""Names of TOS values (RFC 1349) and DSCP classes (RFC 2474, 2597, 3246), and reading them as iptables does."""

from __future__ import annotations

from nfqfw.errors import RuleError
from nfqfw.ext.names import unsigned

TOS_NAMES = (("Minimize-Delay", 0x10), ("Maximize-Throughput", 0x08), ("Maximize-Reliability", 0x04),
             ("Minimize-Cost", 0x02), ("Normal-Service", 0x00))
NAMED_MASK = 0x3F
DSCP_CLASSES = {f"CS{n}": n << 3 for n in range(8)} | {f"AF{n}{m}": n << 3 | m << 1 for n in range(1, 5) for m in range(1, 4)} | {
    "BE": 0, "EF": 0x2E}


def read_tos(text: str) -> tuple[int, int]:
    """`value[/mask]` or a name -> (value, mask)."""
    value_text, slash, mask_text = text.partition("/")
    value = unsigned(value_text, 0, 255)
    if value is None or (slash and not value_text):
        for name, number in TOS_NAMES:
            if name.lower() == text.lower():
                return number, NAMED_MASK
        raise RuleError(f'Illegal value: "{text}"' if slash and value_text[:1].isdigit() else f'Symbolic name "{text}" is unknown')
    mask = unsigned(mask_text, 0, 255) if slash else 0xFF
    if mask is None:
        raise RuleError(f'Illegal value: "{text}"')
    return value, mask


def tos_name(value: int, mask: int) -> str | None:
    """The name of a value under the mask that names have."""
    return next((name for name, number in TOS_NAMES if number == value), None) if mask == NAMED_MASK else None


def read_dscp_class(text: str) -> int:
    value = DSCP_CLASSES.get(text.upper())
    if value is None:
        raise RuleError(f"Invalid DSCP value `{text}'")
    return value
