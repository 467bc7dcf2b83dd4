// Google's library for Node.

import assert from "node:assert/strict";
import { ApiError, GoogleGenAI } from "./libraries.mjs";

export const name = "google-genai";
// Google has no 401 for a key that is none.
export const statuses = { unauthorized: 400 };
export const errors = {
    unauthorized: ApiError, missing: ApiError, limited: ApiError, invalid: ApiError, stream: Error,
};

export const client = (url, apiKey) => new GoogleGenAI({ apiKey, httpOptions: { baseUrl: url, timeout: 30_000 } });

export function user(text, png) {
    const parts = [{ text }];
    if (png) parts.push({ inlineData: { mimeType: "image/png", data: png } });
    return [{ role: "user", parts }];
}

function request({ model, turns, tools, think, schema }) {
    const config = {};
    if (tools) {
        const declared = tools.map(({ name, description, parameters }) => ({
            name, description, parametersJsonSchema: parameters,
        }));
        config.tools = [{ functionDeclarations: declared }];
    }
    if (think) config.thinkingConfig = { includeThoughts: true, thinkingBudget: 1024 };
    if (schema) Object.assign(config, { responseMimeType: "application/json", responseJsonSchema: schema });
    return { model, contents: turns, config };
}

export async function ask(client, asked) {
    const response = await client.models.generateContent(request(asked));
    const told = answer([response]);
    return { ...told, parsed: asked.schema && JSON.parse(response.text) };
}

export async function stream(client, asked) {
    const chunks = [];
    for await (const chunk of await client.models.generateContentStream(request(asked))) chunks.push(chunk);
    return answer(chunks);
}

export async function* deltas(client, { model, turns }, abortSignal) {
    let finish;
    const asked = { model, contents: turns, config: { abortSignal } };
    for await (const chunk of await client.models.generateContentStream(asked)) {
        finish = chunk.candidates[0].finishReason;
        if (chunk.text) yield chunk.text;
    }
    assert.equal(finish, "STOP");
}

/** The vectors; the tokens are not told here. */
export async function embed(client, { model, texts, dimensions }) {
    const asked = { model, contents: texts, config: { outputDimensionality: dimensions } };
    const { embeddings } = await client.models.embedContent(asked);
    return [embeddings.map((embedding) => embedding.values)];
}

/** Of a whole answer, or of the chunks of one: the library leaves it to its user to put them together. */
function answer(chunks) {
    const parts = chunks.flatMap((chunk) => chunk.candidates[0].content.parts ?? []);
    const said = parts.filter((part) => part.text && !part.thought);
    const calls = parts.filter((part) => part.functionCall).map((part) => part.functionCall);
    const { candidates, usageMetadata: usage } = chunks.at(-1);
    assert.equal(candidates[0].finishReason, "STOP");
    const thoughts = usage.thoughtsTokenCount ?? 0;
    return {
        text: said.map((part) => part.text).join(""),
        stop: calls.length ? "tools" : "stop",
        usage: {
            input: usage.promptTokenCount, output: (usage.candidatesTokenCount ?? 0) + thoughts,
            cached: usage.cachedContentTokenCount ?? 0, reasoning: thoughts,
        },
        calls: calls.map((call) => ({ id: call.id, name: call.name, arguments: call.args ?? {} })),
        thoughts: parts.filter((part) => part.thought).map((part) => part.text).join(""),
        deltas: said.length,
        turns: [{ role: "model", parts: parts.filter((part) => part.text || part.functionCall) }],
    };
}

export function results(answer, outputs) {
    const parts = answer.calls.map(({ id, name }) => ({
        functionResponse: { id, name, response: { output: outputs[name] } },
    }));
    return [{ role: "user", parts }];
}

/** A result of no call, and the field that is at fault. */
export function orphan() {
    const part = { functionResponse: { name: "forecast", response: { output: "sunny" } } };
    return [[{ role: "user", parts: [part] }], "contents[1].parts[0].functionResponse"];
}

/** A turn that nobody takes, and the field that is at fault. */
export const wrong = () => [[{ role: "king", parts: [{ text: "x" }] }], "contents[0].role"];

// Google's errors name the field in their words.
export const blames = (error, field) => error.message.includes(field);
// The library keeps no headers.
export const wait = () => undefined;
