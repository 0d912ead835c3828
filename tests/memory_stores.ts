// Stores in memory, for tests of what is around them.

export { MemoryStore } from "../src/storage/memory.ts";
export { MemoryTokenStore as MemoryTokens } from "../src/storage/memory_tokens.ts";
