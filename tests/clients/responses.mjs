// OpenAI's library for Node, unmodified, asking `orch serve` for responses. Called by test_clients.py, which says where the
// server is and what its models answer.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const OpenAI = require(process.env.OPENAI_FOR_NODE).default;

const { url, token, says, arguments: wanted } = JSON.parse(process.argv[2]);
const client = (apiKey = token) => new OpenAI({ apiKey, baseURL: `${url}/v1`, maxRetries: 0, timeout: 30_000 });
const OPENAI = "gpt-4o-mini";
const LAN = "lan/lan-model";
const ANTHROPIC = "claude-3-haiku-20240307";
const MODELS = [OPENAI, LAN, ANTHROPIC];
const input = [{ role: "user", content: "Who keeps the keys?" }];
const tools = [{
    type: "function", name: "forecast", description: "The weather to come.", strict: false,
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
}];
const calls = (response) => response.output.filter((item) => item.type === "function_call");

const tests = {
    async "a response"() {
        for (const model of MODELS) {
            const answer = await client().responses.create({ model, input });
            assert.equal(answer.output_text, says, model);
            assert.equal(answer.status, "completed");
            assert.ok(answer.usage.total_tokens > 0);
        }
    },
    async "a stream"() {
        for (const model of MODELS) {
            const events = [];
            for await (const event of await client().responses.create({ model, input, stream: true })) events.push(event);
            assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()], model);
            const deltas = events.filter((event) => event.type === "response.output_text.delta");
            assert.equal(deltas.map((event) => event.delta).join(""), says);
            assert.ok(deltas.length > 1);
            assert.equal(events.at(-1).type, "response.completed");
        }
    },
    async "a stream that the library puts together"() {
        for (const model of MODELS) {
            const final = await client().responses.stream({ model, input }).finalResponse();
            assert.equal(final.output_text, says, model);
        }
    },
    async "a tool is called and its result answered"() {
        for (const model of MODELS) {
            const first = await client().responses.create({ model, input, tools });
            const [call] = calls(first);
            assert.deepEqual(JSON.parse(call.arguments), wanted, model);
            const output = { type: "function_call_output", call_id: call.call_id, output: "sunny" };
            const second = await client().responses.create({ model, input: [...input, ...first.output, output], tools });
            assert.equal(second.output_text, says);
        }
    },
    async "a tool is called in a stream"() {
        for (const model of MODELS) {
            const final = await client().responses.stream({ model, input, tools }).finalResponse();
            assert.deepEqual(JSON.parse(calls(final)[0].arguments), wanted, model);
        }
    },
    async "structured output"() {
        const schema = {
            type: "object", properties: { answer: { type: "string" } }, required: ["answer"], additionalProperties: false,
        };
        const text = { format: { type: "json_schema", name: "answer", strict: true, schema } };
        for (const model of [OPENAI, LAN]) {
            const answer = await client().responses.parse({ model, input, text });
            assert.deepEqual(JSON.parse(answer.output_text), { answer: says }, model);
        }
    },
    async "a bad key"() {
        const failed = client("orch_nobody").responses.create({ model: OPENAI, input });
        await assert.rejects(failed, (error) => error instanceof OpenAI.AuthenticationError);
    },
    async "a bad model"() {
        for (const stream of [false, true]) {
            const failed = client().responses.create({ model: "no-such-model", input, stream });
            await assert.rejects(failed, (error) => error instanceof OpenAI.NotFoundError && error.param === "model");
        }
    },
    async "a bad request"() {
        const wrong = [{ role: "user", content: [{ type: "input_text" }] }];
        const failed = client().responses.create({ model: OPENAI, input: wrong });
        await assert.rejects(failed, (error) => error.param === "input[0].content[0].text");
    },
    async "what another provider has kept"() {
        const failed = client().responses.create({ model: ANTHROPIC, input, previous_response_id: "resp_1" });
        await assert.rejects(failed, (error) => error.status === 400 && error.param === "previous_response_id");
    },
};

let passed = 0;
let failed = 0;
for (const [name, test] of Object.entries(tests)) {
    try {
        await test();
        passed += 1;
        console.log(`${name}: ok`);
    } catch (error) {
        failed += 1;
        console.log(`${name}: FAILED\n${error.stack}`);
    }
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
