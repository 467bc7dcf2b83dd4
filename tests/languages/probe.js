// What an agent in JavaScript sees and may do: calls a provider itself with what it takes for the key.

import { getEnvironment } from 'wasi:cli/environment@0.2.12';
import { getStdout } from 'wasi:cli/stdout@0.2.12';

export const run = {
  async run() {
    const environment = Object.fromEntries(getEnvironment());
    const key = environment.OPENAI_API_KEY;
    const response = await fetch('https://api.openai.com/v1/chat/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
      body: JSON.stringify({ model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'Who keeps the keys?' }] }),
    });
    const output = { status: response.status, answer: await response.json(), key, environment };
    getStdout().blockingWriteAndFlush(new TextEncoder().encode(JSON.stringify(output)));
  },
};
