"""A model server for tests and demonstrations: speaks the four APIs, plays a script, bills truthfully.

The script is a tool loop: the first call answers with a tool call (write a file, run its test), a call that
carries the tool's result answers with the end. What a call costs is counted here, from what was really sent
(`bill()`: tokens by call), so that what the gateway says can be compared with it.
It can misbehave: `mode` in the model's name behind "!" or set for all (see MODES).
"""

import json
import re
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler

MODES = {
    "endless",  # ignores the cap on output and goes on until it is cut off
    "cut",  # closes in the middle of the stream
    "nousage",  # never says what was used
    "zero",  # says that nothing was used
    "negative", "text", "huge",  # says it in a wrong shape
    "error",  # an error event in the middle
    "400", "401", "402", "403", "429", "500", "503", "529",  # refuses, in the vendor's words
    "slow",  # a pause between events
    "silent",  # takes the request and never answers
}


class Bill:
    def __init__(self):
        self.lock = threading.Lock()
        self.calls = []

    def add(self, **call):
        with self.lock:
            self.calls.append(call)
            return call

    def cost(self, pin, pout):
        """Dollars at dollars per million tokens."""
        with self.lock:
            return sum(c["input"] * pin + c["output"] * pout for c in self.calls) / 1e6


class ModelServer:
    """`with ModelServer() as m: m.url`. `script(body)` may be replaced; `mode` is one of MODES or None."""

    def __init__(self, mode=None, words=20, tokens_per_word=1, command=None):
        self.mode, self.words, self.tokens_per_word = mode, words, tokens_per_word
        self.command = command or "echo hi > f.txt && cat f.txt"
        self.bill = Bill()
        self.requests = []
        self.pause = 0.05

    def __enter__(self):
        outer = self

        class Handler(_Handler):
            server_model = outer

        class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 2048

            def handle_error(self, *_):
                """A client that resets its connection is part of the tests."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def count(text):
    """Tokens of a text, as this server counts: one per four bytes."""
    return max(1, len(text) // 4)


def refusal(path, status):
    if "/messages" in path:
        return {"type": "error", "error": {"type": "invalid_request_error", "message": "scripted"}}
    if ":generateContent" in path or ":streamGenerateContent" in path:
        return {"error": {"code": status, "status": "FAILED_PRECONDITION", "message": "scripted"}}
    return {"error": {"message": "scripted", "type": "insufficient_quota", "code": "insufficient_quota"}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_model = None
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def send_json(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.send_json({"data": []})

    def do_POST(self):
        m = self.server_model
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.loads(raw)
        path = self.path.split("?")[0]
        m.requests.append({"path": self.path, "headers": dict(self.headers), "body": body})
        if path.endswith("count_tokens"):
            self.send_json({"input_tokens": count(raw)})
            return
        mode = m.mode
        if mode and mode.isdigit():
            self.send_json(refusal(path, int(mode)), int(mode))
            return
        if mode == "silent":
            time.sleep(30)
            return
        self.mode, self.input = mode, count(raw)
        self.call = m.bill.add(path=path, input=self.input, output=0, mode=mode)
        self.done_already = any(word in raw for word in (b'"tool_result"', b'function_call_output',
                                                         b'"role":"tool"', b'"role": "tool"', b'functionResponse'))
        try:
            if path.endswith("/messages"):
                self.api_messages(body)
            elif path.endswith("/responses"):
                self.api_responses(body)
            elif path.endswith("/chat/completions"):
                self.api_chat(body)
            else:
                self.api_gemini(body, path)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
            self.call["hung_up"] = True

    # --- parts ---

    def begin(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def event(self, data, name=None):
        text = (f"event: {name}\n" if name else "") + f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n"
        raw = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))
        if self.mode == "slow":
            time.sleep(self.server_model.pause)

    def end(self):
        self.wfile.write(b"0\r\n\r\n")

    def bill_output(self, n):
        self.call["output"] += n

    def words(self, cap):
        """Pieces of text within the cap (unless it is ignored), each billed before it is sent."""
        i = 0
        while True:
            if self.mode != "endless" and (i >= self.server_model.words or (cap and self.call["output"] >= cap)):
                return
            self.bill_output(self.server_model.tokens_per_word)
            yield "abc " * self.server_model.tokens_per_word
            i += 1
            if self.mode == "cut" and i == 5:
                self.close_connection = True
                self.connection.shutdown(2)
                raise BrokenPipeError
            if self.mode == "endless":
                time.sleep(0.002)

    def usage(self, names):
        """{input, output} under the API's names, or in a wrong shape."""
        figures = {"zero": (0, 0), "negative": (-5, -7), "huge": (10**18, 10**18)}.get(
            self.mode, (self.input, self.call["output"]))
        if self.mode == "text":
            figures = ("many", "few")
        return dict(zip(names, figures))

    def tool_wanted(self, body):
        tools = body.get("tools") or []
        return bool(tools) and not self.done_already

    # --- Anthropic ---

    def api_messages(self, body):
        tools = {t.get("name") for t in body.get("tools", [])}
        tool = next((t for t in ("Bash", "bash", "shell") if t in tools), None)
        use = tool if tool and not self.done_already else None
        names = ("input_tokens", "output_tokens")
        if not body.get("stream"):
            for _ in self.words(body.get("max_tokens")):
                pass
            self.send_json({"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"],
                            "content": [{"type": "text", "text": "done"}], "stop_reason": "end_turn",
                            "usage": self.usage(names)})
            return
        self.begin()
        start = {"input_tokens": self.input, "output_tokens": 1}
        if self.mode in ("nousage", "zero"):
            start = {}
        self.event({"type": "message_start", "message": {
            "id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "content": [],
            "stop_reason": None, "usage": start}}, "message_start")
        self.event({"type": "ping"}, "ping")
        block = {"type": "tool_use", "id": "toolu_1", "name": use, "input": {}} if use else {"type": "text", "text": ""}
        self.event({"type": "content_block_start", "index": 0, "content_block": block}, "content_block_start")
        if use:
            text = json.dumps({"command": self.server_model.command, "description": "scripted"})
            self.bill_output(count(text))
            self.event({"type": "content_block_delta", "index": 0,
                        "delta": {"type": "input_json_delta", "partial_json": text}}, "content_block_delta")
        else:
            for word in self.words(body.get("max_tokens")):
                self.event({"type": "content_block_delta", "index": 0,
                            "delta": {"type": "text_delta", "text": word}}, "content_block_delta")
        if self.mode == "error":
            self.event({"type": "error", "error": {"type": "overloaded_error", "message": "scripted"}}, "error")
            self.end()
            return
        self.event({"type": "content_block_stop", "index": 0}, "content_block_stop")
        delta = {"type": "message_delta", "delta": {"stop_reason": "tool_use" if use else "end_turn"}}
        if self.mode != "nousage":
            delta["usage"] = self.usage(names)
        self.event(delta, "message_delta")
        self.event({"type": "message_stop"}, "message_stop")
        self.end()

    # --- Responses ---

    def api_responses(self, body):
        tools = {t.get("name") for t in body.get("tools", []) if t.get("type") == "function"}
        tool = next((t for t in ("exec_command", "shell", "shell_command") if t in tools), None)
        use = tool if tool and not self.done_already else None
        seq = iter(range(10**6))
        self.begin()

        def ev(kind, **more):
            self.event({"type": kind, "sequence_number": next(seq), **more}, kind)

        response = {"id": "resp_1", "object": "response", "model": body["model"], "status": "in_progress", "output": []}
        ev("response.created", response=response)
        if use:
            key = "cmd" if use == "exec_command" else "command"
            value = self.server_model.command
            arguments = json.dumps({key: value if use != "shell" else ["bash", "-lc", value]})
            self.bill_output(count(arguments))
            item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": use, "arguments": arguments,
                    "status": "completed"}
            ev("response.output_item.added", output_index=0, item={**item, "arguments": ""})
            ev("response.function_call_arguments.delta", item_id="fc_1", output_index=0, delta=arguments)
        else:
            text = ""
            item = {"type": "message", "id": "m_1", "role": "assistant", "status": "completed", "content": []}
            ev("response.output_item.added", output_index=0, item=item)
            for word in self.words(body.get("max_output_tokens")):
                text += word
                ev("response.output_text.delta", item_id="m_1", output_index=0, content_index=0, delta=word)
            item["content"] = [{"type": "output_text", "text": text, "annotations": []}]
        ev("response.output_item.done", output_index=0, item=item)
        usage = {**self.usage(("input_tokens", "output_tokens")), "input_tokens_details": {"cached_tokens": 0},
                 "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": self.input + self.call["output"]}
        done = {**response, "status": "completed", "output": [item]}
        if self.mode != "nousage":
            done["usage"] = usage
        ev("response.completed", response=done)
        self.end()

    # --- Chat ---

    def api_chat(self, body):
        usage = {**self.usage(("prompt_tokens", "completion_tokens")), "total_tokens": 0}
        if not body.get("stream"):
            for _ in self.words(body.get("max_tokens") or body.get("max_completion_tokens")):
                pass
            self.send_json({"id": "c1", "object": "chat.completion", "model": body["model"], "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "done"}, "finish_reason": "stop"}],
                "usage": self.usage(("prompt_tokens", "completion_tokens"))})
            return
        self.begin()
        tools = {t["function"]["name"] for t in body.get("tools", []) if "function" in t}
        tool = next((t for t in ("bash", "shell", "run_shell_command") if t in tools), None)
        base = {"id": "c1", "object": "chat.completion.chunk", "model": body["model"]}
        if tool and not self.done_already:
            text = json.dumps({"command": self.server_model.command, "description": "scripted"})
            self.bill_output(count(text))
            self.event({**base, "choices": [{"index": 0, "delta": {"role": "assistant", "tool_calls": [
                {"index": 0, "id": "call_1", "type": "function", "function": {"name": tool, "arguments": text}}]}}]})
            reason = "tool_calls"
        else:
            for word in self.words(body.get("max_tokens") or body.get("max_completion_tokens")):
                self.event({**base, "choices": [{"index": 0, "delta": {"content": word}}]})
            reason = "stop"
        self.event({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        if (body.get("stream_options") or {}).get("include_usage") and self.mode != "nousage":
            usage = {**self.usage(("prompt_tokens", "completion_tokens")), "total_tokens": 0}
            self.event({**base, "choices": [], "usage": usage})
        self.event("[DONE]")
        self.end()

    # --- Gemini ---

    def api_gemini(self, body, path):
        model = re.search(r"models/([^:]+):", path).group(1)
        names = {d["name"] for t in body.get("tools", []) for d in t.get("functionDeclarations", [])}
        cap = (body.get("generationConfig") or {}).get("maxOutputTokens")

        def chunk(parts, reason=None):
            candidate = {"index": 0, "content": {"role": "model", "parts": parts}}
            if reason:
                candidate["finishReason"] = reason
            return {"candidates": [candidate], "modelVersion": model, "usageMetadata": {
                **self.usage(("promptTokenCount", "candidatesTokenCount")), "totalTokenCount": 0}}

        if "streamGenerateContent" not in path:
            for _ in self.words(cap):
                pass
            self.send_json(chunk([{"text": '{"complexity_score": 1}'}], "STOP"))
            return
        self.begin()
        if "run_shell_command" in names and not self.done_already:
            call = {"name": "run_shell_command", "args": {"command": self.server_model.command, "description": "x"}}
            self.bill_output(count(json.dumps(call)))
            self.event(chunk([{"functionCall": call}], "STOP"))
        else:
            for word in self.words(cap):
                self.event(chunk([{"text": word}]))
            self.event(chunk([{"text": "."}], "STOP"))
        self.end()


if __name__ == "__main__":
    import sys

    with ModelServer() as server:
        print(server.url, flush=True)
        sys.stdin.read()
