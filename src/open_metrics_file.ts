// Opens the file of the metrics log that the configuration names.

import { resolve } from "node:path";
import type { Config } from "./config/schema.ts";
import { messageOf } from "./core/message_of.ts";
import { StartError } from "./start_error.ts";
import { type MetricsFile, openMetricsFile } from "./stats/metrics_log.ts";

/**
 * The file, null where there is to be none. Throws a {@link StartError} that names the key where it
 * cannot be written.
 */
export async function metricsFileOf(config: Config): Promise<MetricsFile | null> {
  const { metrics_logfile: name } = config;
  if (name === "") return null;
  try {
    return await openMetricsFile(resolve(name));
  } catch (error) {
    const text = `metrics_logfile: "${name}" cannot be written: ${messageOf(error)}`;
    throw new StartError(text, { cause: error });
  }
}
