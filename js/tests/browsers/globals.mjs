// Sets Node's globals for packages in a page; to be imported before them, by a name, since this package has no side effects.

import { Buffer } from "buffer";
import process from "process/browser.js";

Object.assign(globalThis, {
  Buffer,
  process,
  setImmediate: (callback, ...values) => setTimeout(callback, 0, ...values),
});

export { Buffer };
