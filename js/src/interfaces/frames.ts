/**
 * Interfaces whose frames leave the stack as streams or by a cable: tun and tap.
 *
 * Owns the queue between the module's buffer and a reader. It is bounded in bytes; when it is full, frames wait in the
 * module, and when that is full too, TCP waits and other packets are dropped and counted there.
 */

import * as abi from "../abi.js";
import { toBytes } from "../arguments.js";
import { fromReadable, Inbox } from "../streams.js";
import type { TcpipError } from "../errors.js";
import { Interface, type Port } from "./interface.js";

/** The code of a StackTrappedError. */
const TRAPPED = "EIO";

interface FramePort extends Port {
  readonly inbox: Inbox<Uint8Array>;
}

function createFramePort(owner: FrameInterface): FramePort {
  let listening = false;
  let full = false;
  const inbox = new Inbox<Uint8Array>(
    abi.TRANSMIT_CAPACITY,
    () => {
      if (!full || inbox.size > abi.TRANSMIT_CAPACITY / 2) return;
      full = false;
      owner.resumeTransmit();
    },
    () => {
      if (!owner.removed) owner.detach();
    },
  );
  return {
    inbox,
    transmit(frame) {
      if (!listening && !(listening = inbox.readable.locked)) {
        owner.unheard++;
        return true;
      }
      // Its own buffer, so that a stream or a worker can have it transferred.
      full = !inbox.push(frame.slice(), frame.length);
      return !full;
    },
    // Of a trap; a stack that was closed ends its streams.
    detached: (error) => inbox.end(error?.code === TRAPPED ? error : undefined),
  };
}

export abstract class FrameInterface extends Interface {
  #frames: FramePort | undefined;
  #writable: WritableStream<Uint8Array> | undefined;
  #noRoom: (() => void) | undefined;

  get readable(): ReadableStream<Uint8Array> {
    if (!this.#frames || (this.#frames.inbox.ended && !this.removed)) {
      this.#frames = createFramePort(this);
      // Beside a cable, a stream has no frames.
      if (this.removed || this.attached) this.#frames.inbox.end();
      else this.attach(this.#frames);
    }
    return this.#frames.inbox.readable;
  }

  get writable(): WritableStream<Uint8Array> {
    return (this.#writable ??= new WritableStream<Uint8Array>({ write: (chunk) => this.#write(toBytes(chunk)) }));
  }

  #write(frame: Uint8Array): void | Promise<void> {
    const { driver } = this;
    if (driver.error?.code === TRAPPED) throw driver.error;
    // Frames for an interface that is gone are dropped: pipes of programs, which rarely catch errors, shall not fail when
    // a stack is closed in order.
    if (this.removed || this.inject(frame)) return;
    return new Promise<void>((resolve) => {
      this.#noRoom = resolve;
      driver.whenRoom(this.buffers, resolve);
    }).then(() => this.#write(frame));
  }

  listen(): AsyncIterableIterator<Uint8Array> {
    return fromReadable(this.readable);
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<Uint8Array> {
    return this.listen();
  }

  /** Makes way for a cable: a stream that nothing has locked gives way. */
  giveWay(): void {
    const frames = this.#frames;
    if (!frames || frames.inbox.readable.locked || !this.attached) return;
    this.detach();
    this.#frames = undefined;
  }

  protected override end(error: TcpipError | undefined): void {
    super.end(error);
    this.#noRoom?.();
  }
}
