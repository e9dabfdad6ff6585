"""match bpf: a classic BPF program."""

from __future__ import annotations

from nfqfw.errors import RuleError
from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import Unevaluated

INSTRUCTIONS = 64                   # the kernel's bound
LIMITS = (0xFFFF, 0xFF, 0xFF, 0xFFFFFFFF)


def parse_program(text: str) -> tuple:
    """`length,code jt jf k,...` -> instructions."""
    parts = text.split(",")
    length_text = parts[0].strip()
    if not length_text.isdigit() or len(parts) < 2 and "," not in text and not length_text.isdigit():
        raise RuleError("bpf: error parsing program length")
    length = int(length_text)
    if length > INSTRUCTIONS:
        raise RuleError(f"bpf: length {length} exceeds maximum {INSTRUCTIONS}")
    if not length:
        raise RuleError("bpf: illegal zero length program")
    program = []
    for i, part in enumerate(parts[1:]):
        if i >= length:
            raise RuleError("bpf: real program length exceeds the encoded length parameter")
        words = part.split()
        if len(words) != 4 or not all(word.isdigit() for word in words) or any(int(w) > limit for w, limit in zip(words, LIMITS)):
            raise RuleError(f"bpf: error at instr {i}")
        program.append(tuple(map(int, words)))
    if len(program) != length:
        raise RuleError("bpf: parsed program length is less than the encoded length parameter")
    return tuple(program)


@match("bpf", Opt("bytecode", "own", excludes=("object-pinned",), metavar="program", help="length,code jt jf k,..."),
       Opt("object-pinned", "own", key="pinned", metavar="path", help="a program pinned in a bpf file system"))
class Bpf:
    listed_behind = ""

    def read_bytecode(self, draft, opt, text, env):
        draft.values["bytecode"] = parse_program(text)

    def read_pinned(self, draft, opt, text, env):
        raise RuleError("bpf: failed to get bpf object")

    def final(self, draft, env):
        if not draft.seen:
            raise RuleError("bpf: one of --bytecode or --pinned is required")

    def program(self, use) -> str:
        return ",".join(" ".join(map(str, instruction)) for instruction in use.values["bytecode"])

    def save(self, use):
        return f" --bytecode \"{len(use.values['bytecode'])},{self.program(use)}\""

    def show(self, use, numeric, resolver):
        return "match bpf " + self.program(use)

    def lower(self, use, rule):
        return Unevaluated("not evaluated yet: match bpf")
