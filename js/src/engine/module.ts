/** Loading of `lwip.wasm`, which lies beside the package's code. The only file that touches the platform's files. */

import { ModuleMismatchError } from "../errors.js";

let compiled: Promise<WebAssembly.Module> | undefined;

async function compile(): Promise<WebAssembly.Module> {
  const url = new URL("./lwip.wasm", import.meta.url);
  try {
    if (url.protocol === "file:") {
      // Computed, so that bundlers for pages do not look for the module.
      const files = (await import(/* @vite-ignore */ /* webpackIgnore: true */ ["node", "fs/promises"].join(":"))) as {
        readFile(path: URL): Promise<Uint8Array<ArrayBuffer>>;
      };
      return await WebAssembly.compile(await files.readFile(url));
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
