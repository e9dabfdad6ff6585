"""Questions that hosts of the lab ask, and the word that each answer is: what a program sees, by the name of its errno."""

import contextlib
import errno
import socket
from concurrent.futures import ThreadPoolExecutor

PATIENCE = 0.7          # seconds; less than the second after which TCP sends a SYN again, so that counters are exact
RECVERR = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}    # IP_RECVERR, IPV6_RECVERR
CONNECTED, ANSWERED, SILENCE = "connected", "answered", "silence"


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _outcome(call, success: str) -> str:
    try:
        call()
    except TimeoutError:
        return SILENCE
    except OSError as error:
        return errno.errorcode[error.errno]
    return success


def tcp(host, address: str, port: int) -> str:
    """connect(2) to the port, then close."""
    with host.socket(_family(address), socket.SOCK_STREAM) as own:
        own.settimeout(PATIENCE)
        return _outcome(lambda: own.connect((address, port)), CONNECTED)


def udp(host, address: str, port: int) -> str:
    """A datagram of 5 bytes and its answer; an ICMP error, also a soft one (RECVERR), shows as the errno of the next call."""
    with host.socket(_family(address), socket.SOCK_DGRAM) as own:
        own.settimeout(PATIENCE)
        own.setsockopt(*RECVERR[own.family], 1)
        own.connect((address, port))

        def exchange():
            own.send(b"query")
            own.recv(64)

        return _outcome(exchange, ANSWERED)


def ping(host, address: str, _port: int = 0) -> str:
    done = host.run(["ping", "-n", "-c", "1", "-W", "1", address])
    return ANSWERED if done.returncode == 0 else SILENCE if done.returncode == 1 else done.stderr.strip()


def ask_all(questions) -> list[str]:
    """The answers to (probe, host, address, port), asked at the same time: silence takes long."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda question: question[0](*question[1:]), questions))


@contextlib.contextmanager
def listening(host, tcp_ports=(), udp_ports=()):
    """TCP ports that accept connections and UDP ports that answer nothing, v4 and v6, for the time of the block."""
    with contextlib.ExitStack() as stack:
        for kind, ports in ((socket.SOCK_STREAM, tcp_ports), (socket.SOCK_DGRAM, udp_ports)):
            for port in ports:
                own = stack.enter_context(host.socket(socket.AF_INET6, kind))
                own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                own.bind(("::", port))
                if kind == socket.SOCK_STREAM:
                    own.listen(64)
        yield
