import { describe, expect, test } from "vitest";
import { readReply, readRequest } from "../src/lib/conversation";

const sse = (...events: unknown[]) => events.map((e) => `data: ${typeof e === "string" ? e : JSON.stringify(e)}\n\n`).join("");

describe("a request as a conversation", () => {
  test("Anthropic: system, text, tool use and its result", () => {
    const c = readRequest(
      JSON.stringify({
        system: [{ type: "text", text: "be careful" }],
        messages: [
          { role: "user", content: "fix it" },
          { role: "assistant", content: [{ type: "text", text: "I look" }, { type: "tool_use", name: "Bash", input: { command: "ls" } }] },
          { role: "user", content: [{ type: "tool_result", content: [{ type: "text", text: "a.txt" }], is_error: true }] },
        ],
        tools: [{ name: "Bash" }],
      }),
    );
    expect(c.turns.map((t) => t.role)).toEqual(["system", "user", "assistant", "tool"]);
    expect(c.turns[2]!.parts[1]).toEqual({ kind: "tool_use", name: "Bash", text: '{\n  "command": "ls"\n}' });
    expect(c.turns[3]!.parts).toEqual([{ kind: "tool_result", text: "a.txt", bad: true }]);
    expect(c.tools).toEqual(["Bash"]);
  });
  test("OpenAI Chat: tool calls and tool messages", () => {
    const c = readRequest(
      JSON.stringify({
        messages: [
          { role: "developer", content: "rules" },
          { role: "assistant", content: null, tool_calls: [{ function: { name: "shell", arguments: '{"command":"ls"}' } }] },
          { role: "tool", content: "out" },
        ],
        tools: [{ type: "function", function: { name: "shell" } }],
      }),
    );
    expect(c.turns.map((t) => [t.role, t.parts[0]!.kind])).toEqual([["system", "text"], ["assistant", "tool_use"], ["tool", "tool_result"]]);
    expect(c.tools).toEqual(["shell"]);
  });
  test("OpenAI Responses: instructions, items, a bare text", () => {
    const c = readRequest(
      JSON.stringify({
        instructions: "rules",
        input: [{ role: "user", content: [{ type: "input_text", text: "go" }] }, { type: "function_call", name: "exec", arguments: "{}" }, { type: "function_call_output", output: "done" }],
      }),
    );
    expect(c.turns.map((t) => [t.role, t.parts[0]!.text])).toEqual([["system", "rules"], ["user", "go"], ["assistant", "{}"], ["tool", "done"]]);
    expect(readRequest('{"input":"hello"}').turns).toEqual([{ role: "user", parts: [{ kind: "text", text: "hello" }] }]);
  });
  test("Gemini: contents with parts", () => {
    const c = readRequest(
      JSON.stringify({
        systemInstruction: { parts: [{ text: "rules" }] },
        contents: [{ role: "user", parts: [{ text: "go" }] }, { role: "model", parts: [{ functionCall: { name: "sh", args: { a: 1 } } }] }, { role: "user", parts: [{ functionResponse: { name: "sh", response: { out: 2 } } }] }],
        tools: [{ functionDeclarations: [{ name: "sh" }] }],
      }),
    );
    expect(c.turns.map((t) => t.role)).toEqual(["system", "user", "assistant", "tool"]);
    expect(c.tools).toEqual(["sh"]);
  });
  test("what is no request at all is shown as it is, and nothing throws", () => {
    expect(readRequest("<html>").turns[0]!.parts[0]).toEqual({ kind: "other", text: "<html>" });
    for (const odd of ["null", "[]", "3", '{"messages":5}', '{"messages":[null,7,{"role":"user","content":[null]}]}', '{"tools":[null]}']) expect(() => readRequest(odd)).not.toThrow();
  });
});

describe("a reply as a turn", () => {
  test("Anthropic's stream: text, thinking and a tool's arguments in pieces", () => {
    const t = readReply(
      sse(
        { type: "message_start", message: {} },
        { type: "content_block_start", index: 0, content_block: { type: "thinking", thinking: "" } },
        { type: "content_block_delta", index: 0, delta: { type: "thinking_delta", thinking: "hm" } },
        { type: "content_block_start", index: 1, content_block: { type: "text", text: "" } },
        { type: "content_block_delta", index: 1, delta: { type: "text_delta", text: "I " } },
        { type: "content_block_delta", index: 1, delta: { type: "text_delta", text: "run" } },
        { type: "content_block_start", index: 2, content_block: { type: "tool_use", name: "Bash", input: {} } },
        { type: "content_block_delta", index: 2, delta: { type: "input_json_delta", partial_json: '{"command":' } },
        { type: "content_block_delta", index: 2, delta: { type: "input_json_delta", partial_json: '"ls"}' } },
      ) + 'data: {"type":"content_block_del',
    );
    expect(t!.parts).toEqual([
      { kind: "thinking", text: "hm", name: undefined },
      { kind: "text", text: "I run", name: undefined },
      { kind: "tool_use", text: '{\n  "command": "ls"\n}', name: "Bash" },
    ]);
  });
  test("Chat's stream, Responses' stream, Gemini's stream", () => {
    const chat = readReply(sse({ choices: [{ delta: { content: "he" } }] }, { choices: [{ delta: { content: "llo", tool_calls: [{ index: 0, function: { name: "sh", arguments: "{" } }] } }] }, { choices: [{ delta: { tool_calls: [{ index: 0, function: { arguments: "}" } }] } }] }, "[DONE]"));
    expect(chat!.parts.map((p) => [p.kind, p.text])).toEqual([["text", "hello"], ["tool_use", "{}"]]);
    const resp = readReply(sse({ type: "response.created" }, { type: "response.output_item.added", output_index: 0, item: { type: "function_call", name: "exec" } }, { type: "response.function_call_arguments.delta", output_index: 0, delta: '{"a":1}' }, { type: "response.output_text.delta", output_index: 1, delta: "done" }));
    expect(resp!.parts.map((p) => [p.kind, p.name, p.text])).toEqual([["tool_use", "exec", '{\n  "a": 1\n}'], ["text", undefined, "done"]]);
    const gem = readReply(sse({ candidates: [{ content: { parts: [{ text: "a" }] } }] }, { candidates: [{ content: { parts: [{ text: "b" }, { functionCall: { name: "sh", args: {} } }] } }] }));
    expect(gem!.parts.map((p) => [p.kind, p.text])).toEqual([["text", "ab"], ["tool_use", "{}"]]);
  });
  test("whole answers, errors, and nothing", () => {
    expect(readReply(JSON.stringify({ content: [{ type: "text", text: "hi" }] }))!.parts[0]!.text).toBe("hi");
    expect(readReply(JSON.stringify({ output: [{ type: "message", content: [{ type: "output_text", text: "hi" }] }] }))!.parts[0]!.text).toBe("hi");
    expect(readReply(sse({ type: "error", error: { message: "overloaded" } }))!.parts[0]).toEqual({ kind: "other", text: "overloaded", bad: true });
    expect(readReply("")).toBeNull();
    expect(readReply("data: null\n\n")).toBeNull();
  });
});
