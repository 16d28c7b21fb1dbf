/** Checks of what callers write: wrong input gets an error that names the argument and the value. */

/** Returns the error for an argument that is of another type. */
export const wrongType = (name: string, wanted: string, value: unknown): TypeError =>
  new TypeError(`${name} must be ${wanted}, not ${typeof value}`);

/** @throws TypeError for anything but a whole number, RangeError out of range. */
export function checkInteger(name: string, value: number, least: number, most: number): number {
  if (typeof value !== "number") throw wrongType(name, "a number", value);
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(`${name}: ${value} is not a whole number from ${least} to ${most}`);
  }
  return value;
}

export const checkPort = (name: string, port: number, least = 0): number => checkInteger(name, port, least, 65535);

/** @throws TypeError for anything but a number, RangeError for a negative one. */
export function checkTimeout(timeout: number): number {
  if (typeof timeout !== "number") throw wrongType("timeout", "milliseconds", timeout);
  if (!(timeout >= 0)) throw new RangeError(`timeout: ${timeout} is not a time in milliseconds`);
  return timeout;
}

/** Returns the bytes of a buffer or of a view over one. */
export function toBytes(data: Uint8Array | ArrayBuffer | ArrayBufferView): Uint8Array {
  if (data instanceof Uint8Array) return data;
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  throw wrongType("data", "a Uint8Array or another view of bytes", data);
}
