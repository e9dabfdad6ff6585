"""Switch an interface's offloads by the ethtool ioctl, in the calling thread's network namespace."""

import ctypes
import fcntl
import socket
import struct

SIOCETHTOOL = 0x8946
COMMANDS = {                    # <linux/ethtool.h>: ETHTOOL_S*; the ETHTOOL_G* that reads is always one less
    "rx": 0x15, "tx": 0x17, "sg": 0x19, "tso": 0x1F, "gso": 0x24, "gro": 0x2C,
}


def switch(interface: str, features: dict[str, bool]) -> None:
    """ethtool -K interface feature on|off, in the order given.  KeyError for an unknown feature, OSError from the kernel."""
    for feature, wanted in features.items():
        _command(interface, COMMANDS[feature], wanted)


def is_on(interface: str, feature: str) -> bool:
    return bool(_command(interface, COMMANDS[feature] - 1, 0))


def _command(interface: str, command: int, data: int) -> int:
    value = ctypes.create_string_buffer(struct.pack("=II", command, data))
    request = struct.pack("16sQ16x", interface.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        fcntl.ioctl(control, SIOCETHTOOL, request)
    return struct.unpack_from("=II", value)[1]
