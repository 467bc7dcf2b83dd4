// Anthropic's library for Node.

import assert from "node:assert/strict";
import { Anthropic } from "./libraries.mjs";

export const name = "anthropic";
export const errors = {
    unauthorized: Anthropic.AuthenticationError, missing: Anthropic.NotFoundError, limited: Anthropic.RateLimitError,
    invalid: Anthropic.BadRequestError, stream: Anthropic.AnthropicError,
};

export const client = (url, apiKey) => new Anthropic({ apiKey, baseURL: url, maxRetries: 0, timeout: 30_000 });

export function user(text, png) {
    const content = [{ type: "text", text }];
    if (png) content.push({ type: "image", source: { type: "base64", media_type: "image/png", data: png } });
    return [{ role: "user", content }];
}

function request({ model, turns, tools, think, schema }) {
    const asked = { model, messages: turns, max_tokens: 2048 };
    if (tools) {
        asked.tools = tools.map(({ name, description, parameters }) => ({ name, description, input_schema: parameters }));
    }
    if (think) asked.thinking = { type: "enabled", budget_tokens: 1024 };
    if (schema) asked.output_config = { format: { type: "json_schema", schema } };
    return asked;
}

export async function ask(client, asked) {
    return answer(await client.messages.parse(request(asked)));
}

export async function stream(client, asked) {
    const events = client.messages.stream(request(asked));
    const pieces = [];
    events.on("text", (delta) => pieces.push(delta));
    const told = answer(await events.finalMessage());
    assert.equal(pieces.join(""), told.text);
    return { ...told, deltas: pieces.length };
}

export async function* deltas(client, { model, turns }, signal) {
    let last;
    const asked = { model, messages: turns, max_tokens: 99, stream: true };
    for await (const event of await client.messages.create(asked, { signal })) {
        last = event.type;
        if (last === "content_block_delta" && event.delta.type === "text_delta") yield event.delta.text;
    }
    assert.equal(last, "message_stop");
}

function answer(message) {
    const of = (kind) => message.content.filter((block) => block.type === kind);
    const cached = message.usage.cache_read_input_tokens ?? 0;
    return {
        text: of("text").map((block) => block.text).join(""),
        stop: { end_turn: "stop", tool_use: "tools" }[message.stop_reason],
        usage: { input: message.usage.input_tokens + cached, output: message.usage.output_tokens, cached },
        calls: of("tool_use").map((call) => ({ id: call.id, name: call.name, arguments: call.input })),
        thoughts: of("thinking").map((block) => block.thinking).join(""),
        turns: [{ role: "assistant", content: message.content }],
        parsed: message.parsed_output,
    };
}

export function results(answer, outputs) {
    const blocks = answer.calls.map(({ id, name }) => ({ type: "tool_result", tool_use_id: id, content: outputs[name] }));
    return [{ role: "user", content: blocks }];
}

/** A result of no call, and the field that is at fault. */
export function orphan() {
    const block = { type: "tool_result", tool_use_id: "toolu_none", content: "sunny" };
    return [[{ role: "user", content: [block] }], "messages[1].content[0].tool_use_id"];
}

/** A turn that nobody takes, and the field that is at fault. */
export const wrong = () => [[{ role: "king", content: "x" }], "messages[0].role"];

// Anthropic's errors name the field in their words.
export const blames = (error, field) => error.error.error.message.includes(field);
export const wait = (error) => Number(error.headers.get("retry-after"));
