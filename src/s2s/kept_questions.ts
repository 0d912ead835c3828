// The question for what a peer keeps of a channel's history, and its answer.

import { type KeptPage, type KeptRequest, PeerError } from "../engine/ports/router.ts";
import { FrameError } from "./frame.ts";
import type { Peer } from "./peer.ts";
import { answerFrame, describeBlocks, isCount, readBlocks } from "./questions.ts";

/** Asks; `saw` is told of the peer's timestamp. Rejects with a {@link PeerError}. */
export async function askKept(
  peer: Peer,
  request: KeptRequest,
  saw: (peer: Peer, ts: number) => void,
): Promise<KeptPage> {
  const { value, bytes } = await peer.ask({ op: "kept", ...withoutInfinity(request) }, true);
  try {
    const page = readPage(value, bytes);
    saw(peer, page.throughTs);
    return page;
  } catch (error) {
    if (!(error instanceof FrameError)) throw error;
    throw new PeerError(`${peer.id} has answered nonsense: ${error.message}`);
  }
}

/** Numbers as JSON has them. */
function withoutInfinity(request: KeptRequest): KeptRequest {
  const { maxMessages, maxBytes } = request;
  return {
    ...request,
    maxMessages: Math.min(maxMessages, Number.MAX_SAFE_INTEGER),
    maxBytes: Math.min(maxBytes, Number.MAX_SAFE_INTEGER),
  };
}

/** What a peer asks for. Throws a {@link FrameError} for what {@link askKept} never sends. */
export function readKeptRequest(question: unknown): KeptRequest {
  const { app, channel, afterTs, which, maxMessages, maxBytes } = question as Partial<KeptRequest>;
  if (
    typeof app !== "string" || typeof channel !== "string" || !isCount(afterTs) ||
    (which !== "all" && which !== "unsettled") || !isCount(maxMessages) || !isCount(maxBytes)
  ) {
    throw new FrameError("a question for history that cannot be");
  }
  return { app, channel, afterTs, which, maxMessages, maxBytes };
}

/** The answer as a frame. */
export function keptAnswer(id: number, page: KeptPage): Uint8Array {
  const { blocks, isEnd, throughTs, isPartial, count } = page;
  const value = { isEnd, throughTs, isPartial, count, blocks: describeBlocks(blocks) };
  return answerFrame(id, true, value, blocks);
}

function readPage(value: unknown, bytes: Uint8Array): KeptPage {
  if (typeof value !== "object" || value === null) throw new FrameError("a page that is none");
  const { isEnd, throughTs, isPartial, count, blocks } = value as Record<string, unknown>;
  if (
    typeof isEnd !== "boolean" || typeof isPartial !== "boolean" || !isCount(throughTs) ||
    !isCount(count)
  ) {
    throw new FrameError("a page that cannot be");
  }
  return { blocks: readBlocks(blocks, bytes), isEnd, throughTs, isPartial, count };
}
