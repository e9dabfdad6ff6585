"""Where the kernel's recorded answers lie."""

from pathlib import Path

RECORDING = Path(__file__).with_name("kernel.bin")
UNSUPPORTED = Path(__file__).with_name("unsupported.toml")
