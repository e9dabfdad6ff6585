"""The kernel's answers in a file, so that thousands of kernel-checked cases run without a kernel.

    NFQO1\\n, then one xz stream: a line of JSON (generator, features, first seed, count, kernel, date), then per case
    varint n, n x 8 bytes      digest of what each packet caused
    varint m, m x 2 varints    packets and bytes of every rule and policy, tables and chains in sorted order
    8 bytes                    digest of the connections at the end

A recording belongs to one generator number: seeds mean other cases to another.
"""

from __future__ import annotations

import json
import lzma
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nfqfw.selftest.outcome import Counters, Outcome, connections_digest

MAGIC = b"NFQO1\n"


@dataclass(slots=True)
class Answer:
    """What a recording keeps of an Outcome."""

    steps: list[int]
    counters: list[tuple[int, int]]
    connections: int


UNDECIDED = Answer([], [], 0)       # the kernel answers this case at random


def answer_of(outcome: Outcome) -> Answer:
    return Answer(outcome.digests(), flat(outcome.counters), connections_digest(outcome.connections))


def flat(counters: Counters) -> list[tuple[int, int]]:
    return [pair for key in sorted(counters) for pair in counters[key]]


def differs(answer: Answer, outcome: Outcome) -> list[str]:
    """How an outcome differs from a recorded answer, as far as a digest can tell."""
    mine = answer_of(outcome)
    if len(mine.steps) != len(answer.steps):
        return [f"{len(mine.steps)} packets, recorded {len(answer.steps)}: another generator"]
    out = [f"packet {i + 1}: what it caused" for i, (a, b) in enumerate(zip(answer.steps, mine.steps, strict=True)) if a != b]
    names = [f"{table} {chain} {i + 1}" for (table, chain), rows in sorted(outcome.counters.items()) for i in range(len(rows))]
    if len(mine.counters) != len(answer.counters):
        out.append(f"{len(mine.counters)} counters, recorded {len(answer.counters)}")
    else:
        out += [f"counter {name}: kernel {a}, nfqfw {b}"
                for name, a, b in zip(names, answer.counters, mine.counters, strict=True) if a != b]
    return out + (["connections"] if mine.connections != answer.connections else [])


# ---- the file -------------------------------------------------------------------------------------------------------

def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7f:
        out.append(value & 0x7f | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7f) << shift
            if byte < 0x80:
                return value
            shift += 7

    def words(self, n: int) -> list[int]:
        out = list(struct.unpack_from(f">{n}Q", self.data, self.at))
        self.at += 8 * n
        return out


def pack(answer: Answer) -> bytes:
    out = _varint(len(answer.steps)) + struct.pack(f">{len(answer.steps)}Q", *answer.steps) + _varint(len(answer.counters))
    out += b"".join(_varint(p) + _varint(b) for p, b in answer.counters)
    return out + struct.pack(">Q", answer.connections)


def write(path: Path, header: dict, answers: Iterable[Answer]) -> None:
    with lzma.open(path.with_suffix(".part"), "wb", preset=6) as f:
        f.write(json.dumps(header, sort_keys=True).encode() + b"\n")
        for answer in answers:
            f.write(pack(answer))
    path.write_bytes(MAGIC + path.with_suffix(".part").read_bytes())
    path.with_suffix(".part").unlink()


def read(path: Path) -> tuple[dict, Iterator[Answer]]:
    """(header, answers in the order of their seeds)."""
    data = path.read_bytes()
    if not data.startswith(MAGIC):
        raise ValueError(f"{path} is not a recording")
    reader = _Reader(lzma.decompress(data[len(MAGIC):]))
    line = reader.data.index(b"\n")
    header = json.loads(reader.data[:line])
    reader.at = line + 1
    return header, _answers(reader, header["count"])


def unpack_all(data: bytes, count: int) -> list[Answer]:
    return list(_answers(_Reader(data), count))


def _answers(reader: _Reader, count: int) -> Iterator[Answer]:
    for _ in range(count):
        steps = reader.words(reader.varint())
        counters = [(reader.varint(), reader.varint()) for _ in range(reader.varint())]
        yield Answer(steps, counters, reader.words(1)[0])
