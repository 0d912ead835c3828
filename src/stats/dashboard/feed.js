// The connection to the server: opens it, notices when it is lost, and opens it again.

/** The server says something each second. */
const SILENCE_MS = 5000;
const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 5000;

/** What is said, by the name of the event. */
const EVENTS = ["hello", "moment", "look", "log", "conf"];

/**
 * Listens for as long as the page is open.
 *
 * @param {{
 *   on: (event: string, data: any) => void,
 *   lost: (reason: string) => void,
 * }} page `lost` is called with each try that fails; the next `hello` ends it
 */
export function listen(page) {
  let retryMs = FIRST_RETRY_MS;
  let isLost = false;
  /** @type {EventSource | null} */
  let source = null;
  /** @type {number | undefined} */
  let watchdog;

  function open() {
    const opened = new EventSource("s/live");
    source = opened;
    watch(opened);
    for (const event of EVENTS) {
      opened.addEventListener(event, (message) => {
        if (source !== opened) return;
        watch(opened);
        retryMs = FIRST_RETRY_MS;
        isLost = false;
        page.on(event, JSON.parse(message.data));
      });
    }
    opened.addEventListener("error", () => {
      // The browser would try again by itself, but not after every status.
      const isRefused = opened.readyState === EventSource.CLOSED;
      if (source === opened) fail(isRefused);
    });
  }

  /** @param {EventSource} opened */
  function watch(opened) {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => {
      if (source === opened) fail(false);
    }, SILENCE_MS);
  }

  /** @param {boolean} isRefused */
  async function fail(isRefused) {
    source?.close();
    source = null;
    clearTimeout(watchdog);
    isLost = true;
    page.lost("");
    setTimeout(open, retryMs);
    retryMs = Math.min(retryMs * 2, MAX_RETRY_MS);
    if (isRefused) {
      const reason = await refusal();
      if (isLost) page.lost(reason);
    }
  }

  open();
}

/** Why the server does not let us listen; empty where that is not known. */
async function refusal() {
  try {
    const { status } = await fetch("s/live", { method: "HEAD", signal: AbortSignal.timeout(3000) });
    if (status === 401) return "the token has changed: reload this page";
    if (status === 429) return "as many pages as may look at this server do so already";
    return "";
  } catch {
    return "";
  }
}
