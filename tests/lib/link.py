"""A small client of the link protocol (docs/link-protocol.md): the opener's side, for tests."""

import json
import socket
import struct
import threading
import time

HELLO, OPEN, ACCEPT, DATA, EOF, CREDIT, CONTROL, CLOSE, CANCEL, PING, PONG, RESET = range(1, 13)
WINDOW = 262144


class Closed(Exception):
    pass


class Stream:
    def __init__(self, link, number):
        self.link, self.number = link, number
        self.info = None
        self.out = {0: bytearray(), 1: bytearray(), 2: bytearray()}
        self.controls = []
        self.result = None
        self.credit = WINDOW
        self.grant = True  # give credit back at once

    def _wait(self, condition, timeout):
        with self.link.changed:
            if not self.link.changed.wait_for(lambda: condition() or self.link.error, timeout):
                raise TimeoutError(f"stream {self.number}")
            if not condition():
                raise Closed(self.link.error)

    def accepted(self, timeout=30):
        self._wait(lambda: self.info is not None or self.result is not None, timeout)
        return self.info

    def send(self, data, channel=0, timeout=60):
        while data:
            self._wait(lambda: self.credit > 0 or self.result is not None, timeout)
            if self.result is not None:
                return
            part = data[: min(self.credit, 32768)]
            self.credit -= len(part)
            self.link.write(self.number, DATA, part, channel)
            data = data[len(part):]

    def eof(self, channel=0):
        self.link.write(self.number, EOF, b"", channel)

    def control(self, **message):
        self.link.write(self.number, CONTROL, json.dumps(message).encode())

    def cancel(self):
        self.link.write(self.number, CANCEL, b"")

    def closed(self, timeout=60):
        """The result, once the stream has ended."""
        self._wait(lambda: self.result is not None, timeout)
        return self.result

    def text(self, channel=1):
        return self.out[channel].decode(errors="replace")


class Link:
    def __init__(self, sock):
        self.sock = sock
        self.changed = threading.Condition()
        self.lock = threading.Lock()
        self.streams = {}
        self.next = 0
        self.hello = None
        self.error = None
        self.write(0, HELLO, b'{"v":1}')
        threading.Thread(target=self._read, daemon=True).start()

    @classmethod
    def connect(cls, path):
        deadline = time.monotonic() + 30
        while True:  # the path is there a moment before anybody listens
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(str(path))
                return cls(sock)
            except ConnectionRefusedError:
                sock.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def write(self, stream, kind, payload, flags=0):
        with self.lock:
            self.sock.sendall(struct.pack("<IHBB", len(payload), stream, kind, flags) + payload)

    def open(self, kind, **members):
        self.next += 1
        stream = Stream(self, self.next)
        self.streams[self.next] = stream
        self.write(self.next, OPEN, json.dumps({"kind": kind, **members}).encode())
        return stream

    def call(self, kind, timeout=60, **members):
        """A stream without bytes: its result."""
        return self.open(kind, **members).closed(timeout)

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)

    def _exactly(self, n):
        data = b""
        while len(data) < n:
            part = self.sock.recv(n - len(data))
            if not part:
                raise Closed("the other side has closed the link")
            data += part
        return data

    def _read(self):
        try:
            while True:
                length, number, kind, flags = struct.unpack("<IHBB", self._exactly(8))
                payload = self._exactly(length)
                with self.changed:
                    self._take(number, kind, flags, payload)
                    self.changed.notify_all()
        except (OSError, Closed) as error:
            with self.changed:
                self.error = str(error)
                self.changed.notify_all()

    def _take(self, number, kind, flags, payload):
        stream = self.streams.get(number)
        if kind == HELLO:
            self.hello = json.loads(payload)
        elif kind == PING:
            self.write(0, PONG, payload + b"\0" * 8)
        elif stream is None:
            pass
        elif kind == ACCEPT:
            stream.info = json.loads(payload)
        elif kind == DATA:
            stream.out[flags] += payload
            if stream.grant:
                self.write(number, CREDIT, struct.pack("<I", len(payload)))
        elif kind == CREDIT:
            stream.credit += struct.unpack("<I", payload)[0]
        elif kind == CONTROL:
            stream.controls.append(json.loads(payload))
        elif kind == CLOSE:
            stream.result = json.loads(payload)
