// OpenAI's library for Node, asking for responses.

import assert from "node:assert/strict";
import { OpenAI } from "./libraries.mjs";
import * as chat from "./openai_chat.mjs";

export const name = "openai-responses";
// A stream that says nothing of its end is one that the library has no final response of.
export const errors = { ...chat.errors, stream: Error };
export const { client, blames, wait } = chat;

export function user(text, png) {
    const content = [{ type: "input_text", text }];
    if (png) content.push({ type: "input_image", detail: "auto", image_url: `data:image/png;base64,${png}` });
    return [{ role: "user", content }];
}

function request({ model, turns, tools, think, schema }) {
    const asked = { model, input: turns };
    if (tools) asked.tools = tools.map((tool) => ({ type: "function", strict: false, ...tool }));
    if (think) asked.reasoning = { effort: "low", summary: "auto" };
    if (schema) asked.text = { format: { type: "json_schema", name: "answer", strict: true, schema } };
    return asked;
}

export async function ask(client, asked) {
    const { responses } = client;
    return answer(await (asked.schema ? responses.parse(request(asked)) : responses.create(request(asked))));
}

export async function stream(client, asked) {
    const events = client.responses.stream(request(asked));
    const pieces = [];
    const numbers = [];
    events.on("event", (event) => numbers.push(event.sequence_number));
    events.on("response.output_text.delta", (event) => pieces.push(event.delta));
    const told = answer(await events.finalResponse());
    assert.deepEqual(numbers, [...numbers.keys()]);
    assert.equal(pieces.join(""), told.text);
    return { ...told, deltas: pieces.length };
}

export async function* deltas(client, { model, turns }, signal) {
    let last;
    for await (const event of await client.responses.create({ model, input: turns, stream: true }, { signal })) {
        last = event.type;
        if (last === "response.output_text.delta") yield event.delta;
    }
    // OpenAI's own error events are told, not thrown.
    if (last !== "response.completed") throw new OpenAI.OpenAIError(`the stream ended with ${last}`);
}

function answer(response) {
    assert.equal(response.status, "completed");
    const of = (kind) => response.output.filter((item) => item.type === kind);
    const calls = of("function_call");
    const { usage } = response;
    return {
        text: response.output_text,
        stop: calls.length ? "tools" : "stop",
        usage: {
            input: usage.input_tokens, output: usage.output_tokens, cached: usage.input_tokens_details.cached_tokens,
            reasoning: usage.output_tokens_details.reasoning_tokens,
        },
        calls: calls.map((call) => ({ id: call.call_id, name: call.name, arguments: JSON.parse(call.arguments) })),
        thoughts: of("reasoning").flatMap((item) => item.summary).map((part) => part.text).join(""),
        turns: response.output,
        parsed: response.output_parsed,
    };
}

export const results = (answer, outputs) =>
    answer.calls.map(({ id, name }) => ({ type: "function_call_output", call_id: id, output: outputs[name] }));

/** A result of no call, and the field that is at fault. */
export const orphan = () => [
    [{ type: "function_call_output", call_id: "call_none", output: "sunny" }], "input[1].call_id",
];

/** A turn that nobody takes, and the field that is at fault. */
export const wrong = () => [[{ role: "king", content: "x" }], "input[0].role"];
