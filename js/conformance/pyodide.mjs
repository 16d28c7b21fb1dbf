/**
 * Runs a Python program in Pyodide under Node, with wheels installed.
 *
 *     node pyodide.mjs WHEEL... -- PROGRAM [FOLDER=FILE-SYSTEM-PATH...]
 *
 * A wheel is installed by its path; nothing is downloaded. PROGRAM is the path of a Python file, whose coroutine
 * functions may be awaited at its top level. A FOLDER of this machine is visible to it at the path behind the sign.
 * The process ends when the program has ended, and all tasks that it has created.
 */
import { readFileSync } from "node:fs";
import { loadPyodide } from "pyodide";

const split = process.argv.indexOf("--");
const wheels = process.argv.slice(2, split);
const [program, ...folders] = process.argv.slice(split + 1);

const pyodide = await loadPyodide();
if (!("Suspending" in WebAssembly)) {
  // Without stack switching, Pyodide cannot wait in a call: `asyncio.run` starts a task, for which the end below waits.
  pyodide.runPython("import asyncio; asyncio.run = asyncio.ensure_future");
}
for (const wheel of wheels) pyodide.unpackArchive(new Uint8Array(readFileSync(wheel)), "wheel");
for (const folder of folders) {
  const [real, seen] = folder.split("=");
  pyodide.FS.mkdirTree(seen);
  pyodide.FS.mount(pyodide.FS.filesystems.NODEFS, { root: real }, seen);
}
try {
  await pyodide.runPythonAsync(readFileSync(program, "utf8"), { filename: program });
  await pyodide.runPythonAsync(`
import asyncio
while others := asyncio.all_tasks() - {asyncio.current_task()}:
    await asyncio.gather(*others)
`);
  process.exit(0); // a timer that was cancelled would keep the process alive until it fires
} catch (error) {
  console.error(String(error));
  process.exit(1);
}
