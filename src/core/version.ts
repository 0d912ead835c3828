// The version of this pushd.

import meta from "../../deno.json" with { type: "json" };

/** As in deno.json, e.g. "0.1.0". */
export const VERSION: string = meta.version;

/** In a compiled program the commit stands here: scripts/compile.ts writes it in the place of these words. */
const STAMP: string = "pushd: what was compiled";

/** What was built: a commit, with "-dirty" where files had been changed since, or "dev" from source. */
export const BUILD: string = STAMP.includes(":") ? "dev" : STAMP;
