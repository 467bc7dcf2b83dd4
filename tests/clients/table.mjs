// The official client libraries for Node, unmodified, against `orch serve`: each at each provider, in each case of
// `table.json`. Called by test_table.py, which says where the server is and what its models answer.

import * as anthropic from "./node/anthropic.mjs";
import { Row, cases, embeddings, table } from "./node/cases.mjs";
import * as googleGenai from "./node/google_genai.mjs";
import * as openaiChat from "./node/openai_chat.mjs";
import * as openaiResponses from "./node/openai_responses.mjs";

const { words, ...stage } = JSON.parse(process.argv[2]);
let passed = 0;
let failed = 0;
for (const library of [openaiChat, openaiResponses, anthropic, googleGenai]) {
    for (const provider of Object.keys(table.providers)) {
        const tests = table.cases.map((name) => [name, cases[name]]);
        if (library.embed && table.embeddings[provider]) tests.push(["embeddings", embeddings]);
        for (const [name, test] of tests) {
            const row = `node ${library.name} at ${provider}: ${name}`;
            if (!words.every((word) => row.includes(word))) continue;
            try {
                await test(new Row(stage, library, provider));
                passed += 1;
            } catch (error) {
                failed += 1;
                console.log(`${row}: FAILED\n${error.stack}`);
            }
        }
    }
}
const fine = failed === 0 && passed > 0;
console.log(`test result: ${fine ? "ok" : "FAILED"}. ${passed} passed; ${failed} failed; 0 ignored`);
// What a client still holds open keeps nobody waiting.
process.exit(fine ? 0 : 1);
