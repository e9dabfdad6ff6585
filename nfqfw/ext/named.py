"""Numbers that have names in a file of iproute2: device groups, realms."""

from __future__ import annotations

from nfqfw.errors import RuleError
from nfqfw.ext import names

FULL = 0xFFFFFFFF


def file_names(path: str) -> dict[str, int]:
    """Lines `number name`; empty where there is no such file."""
    out: dict[str, int] = {}
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.split("#", 1)[0].split()
                number = names.unsigned(words[0]) if len(words) >= 2 else None
                if number is not None:
                    out.setdefault(words[1], number)
    except OSError:
        pass
    return out


def read_named(text: str, extension: str, option: str, path: str) -> tuple[int, int]:
    """`value[/mask]`, or a name."""
    value_part, slash, mask_part = text.partition("/")
    value = names.unsigned(value_part)
    if value is None:
        named = file_names(path).get(text)
        if named is None:
            raise RuleError(f'{extension}: could not map name {text} to an integer value for option "--{option}".\n')
        return named, FULL
    mask = names.unsigned(mask_part) if slash else FULL
    if mask is None:
        raise RuleError(f'{extension}: bad integer value for option "--{option}", or out of range.\n', offset=len(value_part) + 1)
    return value, mask


def value_text(value: tuple[int, int]) -> str:
    return f"{value[0]:#x}" if value[1] == FULL else f"{value[0]:#x}/{value[1]:#x}"


def name_of(value: tuple[int, int], path: str) -> str:
    """The name, if the value is whole and has one."""
    if value[1] == FULL:
        for name, number in file_names(path).items():
            if number == value[0]:
                return name
    return value_text(value)
