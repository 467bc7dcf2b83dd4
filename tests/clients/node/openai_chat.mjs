// OpenAI's library for Node, asking for chat completions.

import assert from "node:assert/strict";
import { OpenAI } from "./libraries.mjs";

export const name = "openai-chat";
export const errors = {
    unauthorized: OpenAI.AuthenticationError, missing: OpenAI.NotFoundError, limited: OpenAI.RateLimitError,
    invalid: OpenAI.BadRequestError, stream: OpenAI.APIError,
};

export const client = (url, apiKey) => new OpenAI({ apiKey, baseURL: `${url}/v1`, maxRetries: 0, timeout: 30_000 });

export function user(text, png) {
    if (!png) return [{ role: "user", content: text }];
    const image = { type: "image_url", image_url: { url: `data:image/png;base64,${png}` } };
    return [{ role: "user", content: [{ type: "text", text }, image] }];
}

function request({ model, turns, tools, think, schema }) {
    const asked = { model, messages: turns };
    if (tools) asked.tools = tools.map((tool) => ({ type: "function", function: tool }));
    if (think) asked.reasoning_effort = "low";
    if (schema) asked.response_format = { type: "json_schema", json_schema: { name: "answer", strict: true, schema } };
    return asked;
}

export async function ask(client, asked) {
    const { completions } = client.chat;
    // The library parses only what is strict.
    return answer(await (asked.schema ? completions.parse(request(asked)) : completions.create(request(asked))));
}

export async function stream(client, asked) {
    const options = { stream_options: { include_usage: true }, ...request(asked) };
    const events = client.chat.completions.stream(options);
    const pieces = [];
    let thoughts = "";
    events.on("content", (delta) => pieces.push(delta));
    // What is not OpenAI's, the library does not put together.
    events.on("chunk", (chunk) => (thoughts += chunk.choices[0]?.delta.reasoning_content ?? ""));
    const told = answer(await events.finalChatCompletion());
    assert.equal(pieces.join(""), told.text);
    return { ...told, thoughts, deltas: pieces.length };
}

export async function* deltas(client, { model, turns }, signal) {
    for await (const chunk of await client.chat.completions.create({ model, messages: turns, stream: true }, { signal })) {
        for (const choice of chunk.choices) if (choice.delta.content) yield choice.delta.content;
    }
}

/** The vectors, and the tokens of the texts. */
export async function embed(client, { model, texts, dimensions }) {
    // The library asks for base64, and reads it.
    const { data, usage } = await client.embeddings.create({ model, input: texts, dimensions });
    assert.deepEqual(data.map((item) => item.index), [...data.keys()]);
    return [data.map((item) => item.embedding), usage.prompt_tokens];
}

function answer(completion) {
    const [{ message, finish_reason }] = completion.choices;
    const { usage } = completion;
    return {
        text: message.content ?? "",
        stop: { stop: "stop", tool_calls: "tools" }[finish_reason],
        usage: {
            input: usage.prompt_tokens, output: usage.completion_tokens,
            cached: usage.prompt_tokens_details.cached_tokens,
            reasoning: usage.completion_tokens_details.reasoning_tokens,
        },
        calls: (message.tool_calls ?? []).map((call) => ({
            id: call.id, name: call.function.name, arguments: JSON.parse(call.function.arguments),
        })),
        // Not OpenAI's, but of many who speak like it: the library keeps what it does not know.
        thoughts: message.reasoning_content ?? "",
        turns: [message],
        parsed: message.parsed,
    };
}

export const results = (answer, outputs) =>
    answer.calls.map(({ id, name }) => ({ role: "tool", tool_call_id: id, content: outputs[name] }));

/** A result of no call, and the field that is at fault. */
export const orphan = () => [
    [{ role: "tool", tool_call_id: "call_none", content: "sunny" }], "messages[1].tool_call_id",
];

/** A turn that nobody takes, and the field that is at fault. */
export const wrong = () => [[{ role: "king", content: "x" }], "messages[0].role"];

export const blames = (error, field) => error.param === field;
export const wait = (error) => Number(error.headers.get("retry-after"));
