// The table of every key of the configuration, and of those that are read and mean nothing any more.

import { CLUSTER_KEYS } from "./cluster_keys.ts";
import { HISTORY_KEYS } from "./history_keys.ts";
import { HTTP_KEYS, SERV_KEYS } from "./server_keys.ts";

/** Every key by its name in the file; one in a section has the section's name in front. */
export const KEYS = { ...SERV_KEYS, ...HISTORY_KEYS, ...CLUSTER_KEYS, ...HTTP_KEYS };

/** Keys of the original that are read and mean nothing any more. */
export const WITHOUT_EFFECT: readonly string[] = [
  "redis_offline",
  "serv_initial_goroutine_num",
  "s2s_initial_goroutine_num",
];
