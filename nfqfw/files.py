"""Files that commands take and keep: read up to a bound, replaced whole."""

import os

from nfqfw.errors import PARAMETER_PROBLEM, NfqfwError


def read_bytes(path, most: int, kind: str, shorter: str) -> bytes:
    """A file of at most so many bytes; NfqfwError says what it should be (`kind`) and what makes it shorter."""
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise NfqfwError(f"{path}: {error.strerror}", f"name {kind} that can be read", PARAMETER_PROBLEM) from None
    if len(data) > most:
        raise NfqfwError(f"{path}: longer than {most} bytes", shorter, PARAMETER_PROBLEM)
    return data


def replace_file(path: str, text: str) -> None:
    """Write a text beside the file, and rename it over it when it is on the disk.  Surrogates are the bytes that they stand for."""
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise NfqfwError(f"{path}: {error.strerror}") from None
