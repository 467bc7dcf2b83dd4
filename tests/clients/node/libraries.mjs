// The libraries, from where run.sh has installed them.

import { createRequire } from "node:module";

const require = createRequire(`${process.env.NODE_LIBRARIES}/`);

export const OpenAI = require("openai").default;
export const Anthropic = require("@anthropic-ai/sdk").default;
export const { GoogleGenAI, ApiError } = require("@google/genai");
