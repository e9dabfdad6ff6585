"""Runs a target on changed seeds, from a number: the same number gives the same inputs.  No coverage feedback, no tools needed.

    python -m tests.fuzz.seeded TARGET [--seed S] [--count N] [--first I]
"""

from __future__ import annotations

import argparse
import random

from tests.fuzz.readers import TARGETS, Target

LENGTHS = (0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 0x7F, 0x80, 0xFF)


def change(rng: random.Random, data: bytearray, seeds: list[bytes], words: list[bytes]) -> None:
    """One change in place."""
    at = rng.randrange(len(data) + 1)
    kind = rng.randrange(7)
    if kind == 0 and data:
        data[at % len(data)] = rng.choice((0, 1, 4, 255, 10, 32, rng.randrange(256)))
    elif kind == 1:
        del data[at:at + rng.choice((1, 2, 4, rng.randrange(1, 60)))]
    elif kind == 2:
        end = at + rng.randrange(1, 40)
        data[at:at] = data[at:end] * rng.choice((1, 1, 2, 5))
    elif kind == 3:
        other = rng.choice(seeds)
        start = rng.randrange(len(other) + 1)
        data[at:at + rng.randrange(20)] = other[start:start + rng.randrange(1, 60)]
    elif kind == 4 and words:
        data[at:at] = b" " * rng.randrange(2) + rng.choice(words) + b" " * rng.randrange(2)
    elif kind == 5 and len(data) >= 4:
        at = rng.randrange(len(data) - 3)
        data[at:at + rng.choice((2, 4))] = rng.choice(LENGTHS).to_bytes(4, rng.choice(("little", "big")))
    else:
        other = rng.choice(seeds)
        data[at:] = other[rng.randrange(len(other) + 1):]


def inputs(target: Target, seed: int, count: int):
    """`count` inputs: the seeds as they are, then changed ones."""
    seeds, words = target.seeds(), target.words()
    yield from seeds[:count]
    for number in range(count - len(seeds)):
        rng = random.Random(seed << 32 | number)
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 2, 3, 5, 9))):
            change(rng, data, seeds, words)
        yield bytes(data[:target.longest])


def run(name: str, seed: int, count: int) -> None:
    """Raises AssertionError with the input (hexadecimal) that broke the target's invariant."""
    target = TARGETS[name]
    for data in inputs(target, seed, count):
        try:
            target.one(data)
        except Exception as error:
            raise AssertionError(f"{name}: {type(error).__name__}: {error}\ninput {data.hex()}\n{data!r}") from error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=10_000)
    options = parser.parse_args()
    run(options.target, options.seed, options.count)
    print(f"{options.target}: {options.count} inputs, seed {options.seed}")
