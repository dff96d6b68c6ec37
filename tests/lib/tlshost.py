"""A host of the outside for tests: a real TLS server on loopback under a CA of the test, which keeps what it was sent."""

import base64
import gzip
import hashlib
import os
import pathlib
import socketserver
import ssl
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler

NAME = "host.caged.internal"  # stands for this machine's loopback inside of a sandbox


def openssl(*args, cwd):
    subprocess.run(["openssl", *args], cwd=cwd, check=True, capture_output=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status, data, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def handle_any(self):
        data = self.body()
        self.server.host.seen.append((self.command, self.path, dict(self.headers), data))
        path = self.path.split("?")[0]
        if path == "/redirect":
            self.answer(302, b"", Location=self.headers.get("X-To", "/"))
        elif path.startswith("/git/"):
            self.git(data)
        elif path == "/gzip":
            echo = gzip.compress(repr(dict(self.headers)).encode())
            self.answer(200, echo, Content_Encoding="gzip")
        elif path == "/base64":
            self.answer(200, base64.b64encode(repr(dict(self.headers)).encode()))
        elif path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for byte in repr(dict(self.headers)).encode():
                self.wfile.write(b"1\r\n%c\r\n" % byte)
            self.wfile.write(b"0\r\n\r\n")
        elif path == "/ws":
            self.websocket()
        else:  # everything is reflected
            self.answer(200, repr((self.path, dict(self.headers), data)).encode(), X_Echo=self.headers.get("Authorization", "-"))

    do_GET = do_POST = do_PUT = do_HEAD = do_OPTIONS = do_TRACE = do_DELETE = handle_any

    def websocket(self):
        accept = base64.b64encode(hashlib.sha1(
            self.headers["Sec-WebSocket-Key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
        self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n")
        echo = self.headers.get("Authorization", "").encode()
        self.wfile.write(b"\x81" + bytes([len(echo)]) + echo)
        self.server.host.ws.append(self.connection.recv(4096))
        self.close_connection = True

    def git(self, data):
        """git http-backend, behind Basic authentication."""
        wanted = "Basic " + base64.b64encode(f"x-access-token:{self.server.host.token}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            self.answer(401, b"who are you?\n", WWW_Authenticate='Basic realm="git"')
            return
        path, _, query = self.path.partition("?")
        env = dict(os.environ, GIT_PROJECT_ROOT=str(self.server.host.repos), GIT_HTTP_EXPORT_ALL="1", REQUEST_METHOD=self.command,
                   PATH_INFO=path.removeprefix("/git"), QUERY_STRING=query, REMOTE_USER="test",
                   CONTENT_TYPE=self.headers.get("Content-Type", ""), CONTENT_LENGTH=str(len(data)),
                   HTTP_CONTENT_ENCODING=self.headers.get("Content-Encoding", ""))
        out = subprocess.run(["git", "-c", "safe.directory=*", "http-backend"], input=data, env=env, capture_output=True).stdout
        head, _, body = out.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(fields.pop("Status", "200").split()[0])
        self.answer(status, body, **fields)


class Host:
    """with Host(token) as h: h.port, h.ca (PEM file), h.seen [(method, path, headers, body)], h.ws."""

    def __init__(self, token):
        self.token = token
        self.seen, self.ws = [], []

    def __enter__(self):
        self.dir = tempfile.TemporaryDirectory(prefix="caged-tls-")
        d = pathlib.Path(self.dir.name)
        self.repos = d / "repos"
        self.repos.mkdir()
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout", "ca.key",
                "-out", "ca.pem", "-subj", "/CN=Test CA", cwd=d)
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "host.key", "-out", "host.csr",
                "-subj", "/CN=" + NAME, cwd=d)
        (d / "ext").write_text(f"subjectAltName=DNS:{NAME}\n")
        openssl("x509", "-req", "-in", "host.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "ext",
                "-out", "host.pem", cwd=d)
        self.ca = d / "ca.pem"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(d / "host.pem", d / "host.key")
        context.set_alpn_protocols(["h2", "http/1.1"])

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

            def finish_request(self, request, address):
                try:
                    super().finish_request(context.wrap_socket(request, server_side=True), address)
                except OSError:
                    pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.host = self
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.dir.cleanup()

    @property
    def name(self):
        return f"{NAME}:{self.port}"
