// The version of this pushd.

import meta from "../../deno.json" with { type: "json" };

/** As in deno.json, e.g. "0.1.0". */
export const VERSION: string = meta.version;
