/** Waits that end: by their result, at a time, or by a signal. */

import type { Driver } from "./driver.js";

export interface Limits {
  /** Milliseconds until it rejects with what `late` returns; undefined for no such limit. */
  timeout: number | undefined;
  late(): Error;
  /** When it is aborted, the wait rejects with its reason. */
  signal?: AbortSignal | undefined;
  /** Called when the wait ends, before the promise settles. */
  finish(): void;
}

/** Waits for what `begin` resolves or rejects, within limits. */
export function withLimits<T>(
  driver: Driver,
  { timeout, late, signal, finish }: Limits,
  begin: (resolve: (value: T) => void, reject: (error: unknown) => void) => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const ending =
      <V>(settle: (value: V) => void) =>
      (value: V): void => {
        cancel?.();
        signal?.removeEventListener("abort", abort);
        finish();
        settle(value);
      };
    const fail = ending(reject);
    const abort = (): void => fail(signal!.reason);
    const cancel = timeout === undefined ? undefined : driver.after(timeout / 1000, () => fail(late()));
    signal?.addEventListener("abort", abort);
    begin(ending(resolve), fail);
  });
}
