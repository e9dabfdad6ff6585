"""match u32: words anywhere in the packet, with arithmetic on where they are."""

from __future__ import annotations

import re
import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import PAYLOAD, Test
from nfqfw.ext.names import unsigned

MOST = 10                           # steps of a location, ranges of a value, tests: the kernel's bounds
OPERATORS = ("&", "<<", ">>", "@")
NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+")


class Reader:
    """Walks the text; `at` is the character that errors name."""

    def __init__(self, text: str):
        self.text = text
        self.at = 0

    def skip(self) -> None:
        while self.text[self.at:self.at + 1].isspace():
            self.at += 1

    def error(self, message: str) -> RuleError:
        return RuleError(f"u32: at char {self.at}: {message}", offset=min(self.at, max(0, len(self.text) - 1)))

    def number(self) -> int:
        found = NUMBER.match(self.text, self.at)
        value = unsigned(found.group()) if found else None
        if value is None:
            raise self.error("not a number or out of range")
        self.at = found.end()
        return value

    def takes(self, word: str) -> bool:
        if self.text.startswith(word, self.at):
            self.at += len(word)
            return True
        return False


def parse_location(reader: Reader) -> tuple:
    """((operator, number), ...): the first one is the offset and has operator ""."""
    steps = []
    operator = ""
    while True:
        reader.skip()
        if reader.at >= len(reader.text) and not operator:
            raise RuleError("u32: abrupt end of input after location specifier")
        steps.append((operator, reader.number()))
        if len(steps) > MOST:
            raise reader.error("too many operators")
        reader.skip()
        if reader.at >= len(reader.text):
            raise RuleError("u32: abrupt end of input after location specifier")
        if reader.takes("="):
            return tuple(steps)
        operator = next((word for word in OPERATORS if reader.takes(word)), "")
        if not operator:
            raise reader.error("operator expected")


def parse_values(reader: Reader) -> tuple:
    """((lowest, highest), ...)."""
    ranges = []
    while True:
        reader.skip()
        if reader.at >= len(reader.text) and not ranges:
            raise RuleError("u32: test ended with no value specified")
        low = high = reader.number()
        reader.skip()
        if reader.takes(":"):
            high = reader.number()
            reader.skip()
        ranges.append((low, high))
        if len(ranges) > MOST:
            raise reader.error('too many ","s')
        if reader.at >= len(reader.text) or reader.text.startswith("&&", reader.at):
            return tuple(ranges)
        if not reader.takes(","):
            raise reader.error('expected "," or "&&"')


def parse(text: str) -> tuple:
    reader = Reader(text)
    tests = []
    while True:
        location = parse_location(reader)
        tests.append((location, parse_values(reader)))
        if len(tests) > MOST:
            raise reader.error('too many "&&"s')
        if not reader.takes("&&"):
            return tuple(tests)


def tests_text(tests) -> str:
    return "&&".join("".join(f"{operator}{number:#x}" for operator, number in location) + "="
                     + ",".join(f"{low:#x}" if low == high else f"{low:#x}:{high:#x}" for low, high in ranges)
                     for location, ranges in tests)


@match("u32", Opt("u32", "own", required=True, invert=True, key="tests", metavar="tests",
                  help="tests := location = value | tests && location = value\nvalue := range | value , range\n"
                       "location := number | location {&|<<|>>|@} number\nrange := number | number:number"))
class U32:
    def read_tests(self, draft, opt, text, env):
        draft.values["tests"] = parse(text)

    def save(self, use):
        return f"{' !' if 'tests' in use.inverted else ''} --u32 \"{tests_text(use.values['tests'])}\""

    def show(self, use, numeric, resolver):
        return f"u32 {'! ' if 'tests' in use.inverted else ''}\"{tests_text(use.values['tests'])}\""

    def lower(self, use, rule):
        words = []
        for location, ranges in use.values["tests"]:
            words += [len(location), len(ranges)]
            for operator, number in location:
                words += [OPERATORS.index(operator) + 1 if operator else 0, number]
            words += [end for ends in ranges for end in ends]
        info = struct.pack(f"<II{len(words)}I", len(use.values["tests"]), "tests" in use.inverted, *words)
        return [Test("u32", info, features=(PAYLOAD,))]
