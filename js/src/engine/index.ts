/** The sans-I/O core and its buffers, for embedders that have a loop of their own and for conformance runs. */

export * as abi from "../abi.js";
export { type CallName, Core, type Endpoint, type EventHandler } from "./core.js";
export { loadModule } from "./module.js";
export { FrameBuffers, recordSize } from "./records.js";
