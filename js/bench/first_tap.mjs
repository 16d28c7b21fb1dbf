// Milliseconds from the import to the first tap, in a process of its own.
const started = performance.now();
const { createStack } = await import("../dist/index.js");
const stack = await createStack();
await stack.createTapInterface({ ip: "10.0.0.1/24" });
console.log(performance.now() - started);
await stack.close();
