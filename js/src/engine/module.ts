/** Loading of `lwip.wasm`, which lies beside the package's code. The only file that touches the platform's files. */

import { ModuleMismatchError } from "../errors.js";

interface Files {
  readFileSync(path: URL): Uint8Array<ArrayBuffer>;
}

/** Of Node 20.16 and later: within the call, so that compiling begins at once. */
interface Process {
  getBuiltinModule?(name: string): Files;
}

let compiled: Promise<WebAssembly.Module> | undefined;

async function compile(): Promise<WebAssembly.Module> {
  const url = new URL("./lwip.wasm", import.meta.url);
  try {
    if (url.protocol === "file:") {
      const { process } = globalThis as { process?: Process };
      // Computed, so that bundlers for pages do not look for the module.
      const name = ["node", "fs"].join(":");
      const files =
        process?.getBuiltinModule?.(name) ??
        ((await import(/* @vite-ignore */ /* webpackIgnore: true */ name)) as Files);
      return await WebAssembly.compile(files.readFileSync(url));
    }
    const response = await fetch(url);
    if (!response.ok) throw new Error(`HTTP status ${response.status}`);
    // Not compileStreaming: servers often send another content type, which it refuses.
    return await WebAssembly.compile(await response.arrayBuffer());
  } catch (cause) {
    throw new ModuleMismatchError("ENOENT", `lwip.wasm cannot be loaded from ${url}: ${cause}`, { cause });
  }
}

/**
 * Returns the package's module. It is fetched and compiled once.
 *
 * @throws ModuleMismatchError where it cannot be loaded; the next call tries again.
 */
export function loadModule(): Promise<WebAssembly.Module> {
  compiled ??= compile().catch((error: unknown) => {
    compiled = undefined;
    throw error;
  });
  return compiled;
}
