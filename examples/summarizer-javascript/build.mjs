// Makes summarizer.wasm of app.js: `node build.mjs`, after `npm ci`; or OUT of SOURCE: `node build.mjs OUT SOURCE`.

import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { componentize } from '@bytecodealliance/componentize-js';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const [out = here('summarizer.wasm'), sourcePath = here('app.js')] = process.argv.slice(2);

const { component } = await componentize({
  sourcePath,
  witPath: here('../../sdk/wit'),
  worldName: 'agent',
});
await writeFile(out, component);
