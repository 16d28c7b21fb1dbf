/**
 * The buffers through which frames enter and leave an interface, in the module's memory.
 *
 * Frames lie there as records: the ABI's header, the frame, padding up to the next record. What leaves one stack enters
 * another as it is, so that a cable moves a whole run with one copy.
 */

import * as abi from "../abi.js";
import type { Core } from "./core.js";

/** Returns the bytes that a frame of so many bytes takes as a record. */
export const recordSize = (length: number): number => (abi.RECORD_HEADER_SIZE + length + 3) & ~3;

export class FrameBuffers {
  readonly #core: Core;
  readonly #block: number;
  readonly #receive: number;
  readonly #transmit: number;
  #gone: Uint32Array | undefined;

  constructor(core: Core, handle: number) {
    this.#core = core;
    const block = (this.#block = core.call("interface_block", "interface", handle) >> 2);
    this.#receive = core.u32[block + abi.BLOCK_RECEIVE_BUFFER]!;
    this.#transmit = core.u32[block + abi.BLOCK_TRANSMIT_BUFFER]!;
  }

  /** Bytes of records that wait to be sent. */
  get transmitLength(): number {
    return this.#gone ? 0 : this.#core.u32[this.#block + abi.BLOCK_TRANSMIT_LENGTH]!;
  }

  /** Bytes of records that wait to be taken in by `poll`. */
  get receiveLength(): number {
    return this.#gone ? 0 : this.#core.u32[this.#block + abi.BLOCK_RECEIVE_LENGTH]!;
  }

  /**
   * Hands the waiting frames, one by one, to a function, until it returns false, and takes off those that it took. The
   * views are valid during the call, which must not call into the stack.
   */
  drain(take: (frame: Uint8Array<ArrayBuffer>) => boolean): void {
    if (this.#gone) return;
    const { u8, u32 } = this.#core;
    const word = this.#block + abi.BLOCK_TRANSMIT_LENGTH;
    const start = this.#transmit;
    const end = start + u32[word]!;
    let at = start;
    while (at < end) {
      const length = u32[at >> 2]!;
      const frame = at + abi.RECORD_HEADER_SIZE;
      if (!take(u8.subarray(frame, frame + length))) break;
      at += recordSize(length);
    }
    if (at < end) u8.copyWithin(start, at, end);
    u32[word] = end - at;
  }

  /** Moves all that waits to be sent to another interface, and returns true; or returns false if it does not fit now. */
  moveTo(other: FrameBuffers): boolean {
    if (this.#gone || other.#gone) return true;
    const { u8, u32 } = this.#core;
    const word = this.#block + abi.BLOCK_TRANSMIT_LENGTH;
    const far = other.#core.u32;
    const farWord = other.#block + abi.BLOCK_RECEIVE_LENGTH;
    const length = u32[word]!;
    const used = far[farWord]!;
    if (used + length > abi.RECEIVE_CAPACITY) return false;
    other.#core.u8.set(u8.subarray(this.#transmit, this.#transmit + length), other.#receive + used);
    far[farWord] = used + length;
    u32[word] = 0;
    return true;
  }

  /** Appends one frame and returns true, or returns false if it does not fit now. */
  receive(frame: Uint8Array): boolean {
    if (this.#gone) return true;
    const { u8, u32 } = this.#core;
    const word = this.#block + abi.BLOCK_RECEIVE_LENGTH;
    const used = u32[word]!;
    const end = used + recordSize(frame.length);
    if (end > abi.RECEIVE_CAPACITY) return false;
    const start = this.#receive + used;
    u32[start >> 2] = frame.length;
    u8.set(frame, start + abi.RECORD_HEADER_SIZE);
    u32[word] = end;
    return true;
  }

  /** Returns frames received and transmitted, and those dropped: malformed, refused by a full buffer, for another station, too long. */
  counters(): Uint32Array {
    const first = this.#block + abi.BLOCK_RECEIVED_FRAMES;
    return this.#gone ?? this.#core.u32.slice(first, first + 6);
  }

  /** The interface is about to be removed: keeps its counters, and uses its memory no more. */
  close(): void {
    this.#gone = this.#core.death ? new Uint32Array(6) : this.counters();
  }
}
