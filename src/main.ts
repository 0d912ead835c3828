// The program. What takes longest at a start begins first, and everything else is loaded meanwhile.

import { beginSqliteThread } from "./storage/sqlite_thread.ts";

/** Whether a server is asked for that keeps its history in SQLite, as far as can be told without parsing. */
function mayWantSqlite([first = "serve"]: readonly string[]): boolean {
  const storage = Deno.env.get("PUSHD_MSG_STORAGE") ?? "sqlite";
  const isServe = first === "serve" || (first.startsWith("-") && !/^--?[vh]/.test(first));
  return isServe && storage === "sqlite";
}

if (import.meta.main) {
  if (mayWantSqlite(Deno.args)) beginSqliteThread();
  const { runProgram } = await import("./program.ts");
  await runProgram(Deno.args);
}
