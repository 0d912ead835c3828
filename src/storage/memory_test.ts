// The drivers in memory, by the suites for all drivers.

import { historyStoreContract, tokenStoreContract } from "../../tests/store_contract.ts";
import { MemoryStore } from "./memory.ts";
import { MemoryTokenStore } from "./memory_tokens.ts";

historyStoreContract("memory", () => {
  const store = new MemoryStore();
  return Promise.resolve({ store, close: () => store.close() });
}, { propertyRuns: 300 });

tokenStoreContract("memory", () => {
  return Promise.resolve({ store: new MemoryTokenStore(), close: () => Promise.resolve() });
});
