/** The platform's clock: time, timers and macrotasks. */

import type { Clock } from "./types.js";

/** Longest delay that timers of all platforms take, in milliseconds: above 2^31 they fire at once. */
const LONGEST = 2 ** 31 - 1;

/** `now` 0 has a meaning to the module, so that the clock begins later. */
const OFFSET = 1000;

type Immediate = (callback: () => void) => unknown;

interface Platform {
  setImmediate?: Immediate;
  scheduler?: { postTask?: Immediate };
}

function nextMacrotask(): Immediate {
  const { setImmediate, scheduler } = globalThis as Platform;
  if (setImmediate) return setImmediate;
  // A message of Chromium passes through another thread, which costs half a millisecond; a posted task does not.
  if (scheduler?.postTask) return (callback) => scheduler.postTask!(callback);
  // setTimeout(0) of nested timers waits for 4 ms in pages; a message does not.
  const { port1, port2 } = new MessageChannel();
  const queue: (() => void)[] = [];
  port1.onmessage = () => queue.shift()?.();
  return (callback) => {
    queue.push(callback);
    port2.postMessage(0);
  };
}

let macrotask: Immediate | undefined;

export const systemClock: Clock = {
  now: () => performance.now() / 1000 + OFFSET,

  at(time, callback) {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const arm = (): void => {
      // Rounded up: a timer that fires early would find nothing to do.
      const delay = Math.max(0, Math.ceil((time - systemClock.now()) * 1000));
      timer =
        delay > LONGEST ? (time === Infinity ? undefined : setTimeout(arm, LONGEST)) : setTimeout(callback, delay);
    };
    arm();
    return () => clearTimeout(timer);
  },

  macrotask: (callback) => void (macrotask ??= nextMacrotask())(callback),
};
