"""Questions to the network, and how the answers look to the one who asks.  Each probe returns one of the words below."""

import errno
import http.server
import socket
import threading

OK, SILENCE, REFUSED, PROHIBITED, REPLIES = "200 OK", "no answer", "connection refused", "prohibited", "replies"
PATIENCE = 0.7          # seconds until no answer counts as silence; round trips in a lab take less than a millisecond
PAGE = b"<h1>nfqfw demo: this page came through the firewall</h1>\n"
LISTENING = (22, 23, 25, 443)       # the server answers there, so that a refusal can only be the firewall's
CLIENT_PORT = 8080                  # the client listens there, for the connection that must not come in

ERRORS = {errno.ECONNREFUSED: REFUSED, errno.EHOSTUNREACH: PROHIBITED, errno.EACCES: PROHIBITED, errno.ENETUNREACH: PROHIBITED}


def family_of(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


# ---- probes: f(host that asks, address asked) -> word -----------------------------------------------------------------

def http_get(host, address: str) -> str:
    """curl's status code for the page of the web server."""
    url = f"http://[{address}]/" if ":" in address else f"http://{address}/"
    done = host.run(["curl", "--silent", "--noproxy", "*", "--max-time", "3", "--output", "/dev/null",
                     "--write-out", "%{http_code}", url], timeout=10)
    return OK if done.stdout == "200" else SILENCE if done.returncode == 28 else f"curl: exit {done.returncode}, {done.stdout}"


def ping(host, address: str) -> str:
    done = host.run(["ping", "-n", "-c", "1", "-W", "1", address], timeout=10)
    return REPLIES if done.returncode == 0 else SILENCE if done.returncode == 1 else f"ping: exit {done.returncode}"


def connect(port: int):
    """A TCP connection to this port, as connect(2) sees it."""
    def probe(host, address: str) -> str:
        with host.socket(family_of(address), socket.SOCK_STREAM) as s:
            s.settimeout(PATIENCE)
            return outcome(lambda: s.connect((address, port)), "connected")
    return probe


def udp(port: int):
    """A datagram to this port: the ICMP error that comes back shows as an error of the next call."""
    def probe(host, address: str) -> str:
        with host.socket(family_of(address), socket.SOCK_DGRAM) as s:
            s.settimeout(PATIENCE)
            s.connect((address, port))
            s.send(b"anyone there?")
            return outcome(lambda: s.recv(512), "answered")
    return probe


def outcome(call, success: str) -> str:
    try:
        call()
    except TimeoutError:
        return SILENCE
    except OSError as error:
        return ERRORS.get(error.errno, str(error.strerror))
    return success


# ---- servers ----------------------------------------------------------------------------------------------------------

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_) -> None:
        """The demo's report is the log."""


class WebServer(http.server.ThreadingHTTPServer):
    """A Python web server on a listening socket that lives in another namespace."""

    def __init__(self, listening: socket.socket) -> None:
        super().__init__(listening.getsockname()[:2], Page, bind_and_activate=False)
        self.socket.close()
        self.socket = listening


class Servers:
    """Everything that listens, while the block lasts."""

    def __init__(self, server, client) -> None:
        self.server, self.client = server, client
        self.sockets: list[socket.socket] = []
        self.web: list[WebServer] = []

    def __enter__(self) -> "Servers":
        for family in (socket.AF_INET, socket.AF_INET6):
            self.web.append(WebServer(self.listen(self.server, family, 80)))
            for port in LISTENING:
                self.listen(self.server, family, port)
            self.listen(self.client, family, CLIENT_PORT)
        for web in self.web:
            threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def listen(self, host, family: int, port: int) -> socket.socket:
        s = host.socket(family, socket.SOCK_STREAM)
        self.sockets.append(s)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
        s.listen(64)
        return s

    def __exit__(self, *_) -> None:
        for web in self.web:
            web.shutdown()
        for s in self.sockets:
            s.close()
