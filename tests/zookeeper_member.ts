// A process whose memberships a test freezes, kills, or has speak to what is no ZooKeeper.
// deno-lint-ignore-file no-console

import { getLogger } from "../src/core/logger.ts";
import { ZooKeeperMembership } from "../src/s2s/zookeeper.ts";

/** A membership of the child. */
export interface ChildMember {
  id: string;
  incarnation: string;
  servers: string[];
  sessionTimeoutMs: number;
}

if (import.meta.main) {
  const members: ChildMember[] = JSON.parse(Deno.args[0]);
  const memberships = members.map(({ id, incarnation, servers, sessionTimeoutMs }) => {
    const logger = getLogger("s2s");
    const membership = new ZooKeeperMembership({
      servers,
      cluster: "pushd",
      sessionTimeoutMs,
      logger,
    });
    membership.start(
      { id, incarnation, s2sAddr: "127.0.0.1:2223", clientAddr: "127.0.0.1:2222", version: "0" },
      {
        onMembers: (list) =>
          console.log(list.map(({ info }) => `${info?.id}@${info?.incarnation}`).join(" ")),
      },
    );
    return membership;
  });
  Deno.addSignalListener("SIGTERM", async () => {
    await Promise.all(memberships.map((membership) => membership.stop(1000)));
    console.log("stopped");
    Deno.exit(0);
  });
  console.log("started");
}
