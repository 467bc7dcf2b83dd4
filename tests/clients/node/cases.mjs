// What each client does with each provider, as in `table/cases.py`.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";

export const table = JSON.parse(readFileSync(new URL("../table.json", import.meta.url)));
const QUESTION = "Who keeps the keys?";
const SCHEMA = {
    type: "object",
    properties: { answer: { type: "string" }, count: { type: "integer" } },
    required: ["answer", "count"],
    additionalProperties: false,
};

// One for all rows.
const clients = new Map();

/** A client at a provider. */
export class Row {
    constructor(stage, library, provider) {
        Object.assign(this, { ...stage, library, provider });
        this.model = table.providers[provider].model;
        if (!clients.has(library)) clients.set(library, library.client(stage.url, stage.token));
        this.client = clients.get(library);
    }

    ask = (turns, more) => this.library.ask(this.client, { model: this.model, turns: turns ?? this.user(), ...more });
    stream = (turns, more) => this.library.stream(this.client, { model: this.model, turns: turns ?? this.user(), ...more });

    user(text = QUESTION, png) {
        return this.library.user(text, png);
    }

    deltas(prompt, signal) {
        return this.library.deltas(this.client, { model: this.model, turns: this.user(prompt) }, signal);
    }

    /** Lets a stream go on (`/go/TOKEN`), or returns when a stream was left (`/gone/TOKEN`). */
    async wings(path) {
        const answer = await fetch(this.told.wings + path, { signal: AbortSignal.timeout(20_000) });
        assert.equal(answer.status, 200);
    }

    /** Forgets what is known of a provider's key, as an operator does: the next test is another story. */
    async forget() {
        const provider = this.model.split("/")[0].replace(/-responses$/, "");
        const headers = { authorization: `Bearer ${this.token}` };
        const answer = await fetch(`${this.url}/v1/providers/${provider}/reset`, { method: "POST", headers });
        assert.equal(answer.status, 200);
    }

    checkUsage(usage, reasoning = 0) {
        const cached = table.providers[this.provider].cached ?? this.told.usage.cached;
        const { input, output } = this.told.usage;
        assert.deepEqual([usage.input, usage.output, usage.cached], [input, output, cached]);
        if (usage.reasoning !== undefined) assert.equal(usage.reasoning, reasoning);
    }

    checkAnswer(answer) {
        assert.deepEqual([answer.text, answer.stop, answer.calls], [this.told.says, "stop", []]);
        this.checkUsage(answer.usage);
    }

    async refuses(kind, status, asked) {
        let error;
        await assert.rejects(asked, (raised) => (error = raised) instanceof this.library.errors[kind]);
        assert.equal(error.status, this.library.statuses?.[kind] ?? status);
        return error;
    }
}

async function tools(row, ask, think = false) {
    const question = row.user();
    const first = await ask(question, { tools: table.tools, think });
    assert.deepEqual([first.stop, first.text], ["tools", row.told.plan]);
    assert.deepEqual(first.calls.map((call) => [call.name, call.arguments]), table.calls);
    const turns = [...question, ...first.turns, ...row.library.results(first, table.results)];
    const second = await ask(turns, { tools: table.tools, think });
    assert.deepEqual([second.stop, second.text], ["stop", table.answered]);
}

async function reasoning(row, ask) {
    const answer = await ask(undefined, { think: true });
    const kind = table.reasoning[row.library.name][row.provider];
    assert.equal(answer.text, row.told.says);
    assert.equal(answer.thoughts, kind === "shown" ? row.told.thoughts : "");
    // Not every provider tells the tokens of thoughts apart.
    const tells = ["openai", "openai-responses", "compat", "gemini"].includes(row.provider) && kind !== "dropped";
    row.checkUsage(answer.usage, tells ? row.told.usage.reasoning : 0);
}

async function refused(row, kind, status, ask = row.ask) {
    try {
        return await row.refuses(kind, status, () => ask(row.user(`play:${kind}`)));
    } finally {
        await row.forget();
    }
}

async function breaks(row, how) {
    const all = async () => {
        for await (const _ of row.deltas(`play:${how}`));
    };
    await assert.rejects(all, (error) => error instanceof row.library.errors.stream);
}

async function blamed(row, turns, field, ask = row.ask) {
    const error = await row.refuses("invalid", 400, () => ask(turns));
    assert.ok(row.library.blames(error, field), `${error} does not name ${field}`);
}

/** Vectors of the provider's model for that, in the order of the texts, and shorter ones. */
export async function embeddings(row) {
    const model = table.embeddings[row.provider];
    const texts = ["Who keeps the keys?", "café"];
    const whole = texts.map((text) => [text.length / 8, 0.5, -0.25]);
    for (const dimensions of [undefined, 2]) {
        const [vectors, tokens] = await row.library.embed(row.client, { model, texts, dimensions });
        assert.deepEqual(vectors.map((vector) => [...vector]), whole.map((vector) => vector.slice(0, dimensions)));
        assert.ok(tokens === undefined || tokens === 5, `${tokens}`);
    }
}

export const cases = {
    async chat(row) {
        row.checkAnswer(await row.ask());
    },
    async stream(row) {
        const answer = await row.stream();
        row.checkAnswer(answer);
        assert.ok(answer.deltas > 1);
    },
    /** The second piece is not sent before the first has been read. */
    async deltas(row) {
        const token = randomUUID();
        let text = "";
        for await (const piece of row.deltas(`play:slow:${token}`)) {
            if (!text) await row.wings(`/go/${token}`);
            text += piece;
        }
        assert.equal(text, row.told.says);
    },
    tools: (row) => tools(row, row.ask),
    "tools-streamed": (row) => tools(row, row.stream),
    /** Thoughts, where there are any, go back with the calls that follow from them. */
    async "thinks-with-tools"(row) {
        await tools(row, row.ask, true);
        await tools(row, row.stream, true);
    },
    async structured(row) {
        const answer = await row.ask(undefined, { schema: SCHEMA });
        const told = answer.parsed ?? JSON.parse(answer.text);
        assert.deepEqual(told, { answer: row.told.says, count: 3 });
    },
    async image(row) {
        const answer = await row.ask(row.user("What is this?", table.png));
        assert.equal(answer.text, `I see a picture of ${Buffer.from(table.png, "base64").length} bytes.`);
    },
    reasoning: (row) => reasoning(row, row.ask),
    "reasoning-streamed": (row) => reasoning(row, row.stream),
    unauthorized: (row) => refused(row, "unauthorized", 401),
    missing: (row) => refused(row, "missing", 404),
    async limited(row) {
        for (const ask of [row.ask, row.stream]) {
            const wait = row.library.wait(await refused(row, "limited", 429, ask));
            assert.ok(wait === undefined || (wait <= row.told.wait && wait > row.told.wait - 60), `${wait}`);
        }
    },
    /** The provider refuses the request. */
    invalid: (row) => refused(row, "invalid", 400),
    /** The stream breaks down, and the provider says so. */
    broken: (row) => breaks(row, "broken"),
    /** The stream ends in the middle, and nobody says why. */
    cut: (row) => breaks(row, "cut"),
    /** The request is not what the dialect says. */
    async field(row) {
        const [turns, field] = row.library.wrong();
        for (const ask of [row.ask, row.stream]) await blamed(row, turns, field, ask);
    },
    /** A result of no call. */
    async orphan(row) {
        const [turns, field] = row.library.orphan();
        await blamed(row, [...row.user(), ...turns], field);
    },
    /** The client leaves in the middle, and the provider hears of it. */
    async cancel(row) {
        const token = randomUUID();
        const left = new AbortController();
        for await (const _ of row.deltas(`play:endless:${token}`, left.signal)) break;
        // Google's library goes on reading what nobody iterates any more, until it is told.
        left.abort();
        await row.wings(`/gone/${token}`);
    },
};

assert.deepEqual(Object.keys(cases), table.cases);
