//! The LLM gateway: dialects, routing, fallbacks, usage and receipts.
