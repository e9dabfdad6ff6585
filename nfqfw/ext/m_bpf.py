"""match bpf: a classic BPF program."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import KernelRefusal, Opt, match
from nfqfw.ext.lowering import PAYLOAD, Test, Unevaluated

INSTRUCTIONS = 64                   # the kernel's bound
LIMITS = (0xFFFF, 0xFF, 0xFF, 0xFFFFFFFF)
ANCILLARY = 0xFFE00000              # offsets from here on mean link layer, network header or fields beside the bytes
ABSOLUTE_LOADS = frozenset({0x20, 0x28, 0x30})
CELLS = 16                          # of memory
LOADS = frozenset({0x00, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x80, 0x01, 0x81, 0xB1})
MEMORY = frozenset({0x60, 0x61, 0x02, 0x03})        # ld M, ldx M, st, stx
ALU = frozenset(4 | source | operation for operation in (0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x90, 0xA0) for source in (0, 8)) | {0x84}
JUMPS = frozenset(5 | source | operation for operation in (0x10, 0x20, 0x30, 0x40) for source in (0, 8))
RETURNS = frozenset({0x06, 0x16})
DIVIDE, SHIFT = (0x34, 0x94), (0x64, 0x74)          # by a constant


def is_valid(program: tuple) -> bool:
    """What the kernel asks of a classic program: known opcodes, jumps and memory inside, no division by a constant 0, a return at the end."""
    for at, (code, jt, jf, k) in enumerate(program):
        if code == 0x05:
            if k >= len(program) - at - 1:
                return False
        elif code in JUMPS:
            if at + jt + 1 >= len(program) or at + jf + 1 >= len(program):
                return False
        elif code in MEMORY:
            if k >= CELLS:
                return False
        elif code in DIVIDE:
            if k == 0:
                return False
        elif code in SHIFT:
            if k >= 32:
                return False
        elif code not in LOADS and code not in ALU and code not in RETURNS and code not in (0x07, 0x87):
            return False
    return bool(program) and program[-1][0] in RETURNS and memory_is_written(program)


def memory_is_written(program: tuple) -> bool:
    """No cell is read on a way on which nothing was put into it: one pass forward, since jumps only go forward."""
    known: dict[int, int] = {0: 0}
    written = 0
    for at, (code, jt, jf, k) in enumerate(program):
        written = known.get(at, 0xFFFF) & written if at in known else written
        if code in (0x02, 0x03):
            written |= 1 << k
        elif code in (0x60, 0x61):
            if not written >> k & 1:
                return False
        elif code == 0x05:
            known[at + k + 1] = known.get(at + k + 1, 0xFFFF) & written
            written = 0xFFFF
        elif code in JUMPS:
            for target in (at + jt + 1, at + jf + 1):
                known[target] = known.get(target, 0xFFFF) & written
            written = 0xFFFF
    return True


def parse_program(text: str) -> tuple:
    """`length,code jt jf k,...` -> instructions."""
    parts = text.split(",")
    length_text = parts[0].strip()
    if not length_text.isdigit():
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

    def check(self, use, rule):
        if not is_valid(use.values["bytecode"]):
            raise KernelRefusal("EINVAL", "bpf: check failed: parse error")

    def lower(self, use, rule):
        program = use.values["bytecode"]
        if any(code in ABSOLUTE_LOADS and k >= ANCILLARY for code, _, _, k in program):
            return Unevaluated("not possible: bpf that loads the kernel's own fields of a packet")
        return [Test("bpf", struct.pack("<II", len(program), 0) + b"".join(struct.pack("<HBBI", *i) for i in program), features=(PAYLOAD,))]
