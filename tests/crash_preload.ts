// Loaded into a server under test before its own code: puts a bug into it.
//
// PUSHD_TEST_CRASH says where: `<module under src/> <class> <method>`, and that method throws; or
// `worker`, and at SIGUSR1 every worker gets a message that is a bug.

const what = Deno.env.get("PUSHD_TEST_CRASH") ?? "";
if (what === "worker") breakWorkers();
else await breakMethod(what.split(" "));

async function breakMethod([path, className, method]: string[]): Promise<void> {
  const module = await import(new URL(`../src/${path}`, import.meta.url).href);
  const { prototype } = module[className];
  if (typeof prototype[method] !== "function") {
    throw new Error(`PUSHD_TEST_CRASH: ${className} of src/${path} has no method ${method}`);
  }
  prototype[method] = () => {
    throw new TypeError("put in by a test");
  };
}

function breakWorkers(): void {
  globalThis.Worker = class extends Worker {
    constructor(url: string | URL, options?: WorkerOptions) {
      super(url, options);
      Deno.addSignalListener("SIGUSR1", () => this.postMessage(null));
    }
  };
}
