/**
 * The network card of a v86 guest as a pair of streams of Ethernet frames, for `connectStreams` or `pipeTo`.
 *
 * Owns the frames that the guest has sent and nothing has read. The guest does not wait: what is more than the queue holds is
 * dropped and counted, as a card without buffers does; TCP sends its own again.
 */

/** Bytes of frames that wait for a reader at most. */
const MOST_WAITING = 1_048_576;
/** An Ethernet frame with the largest IP packet and a VLAN tag; a card sends nothing longer. */
const LONGEST = 65_553;

/** What is used of v86's `V86`. The card must be the first: its events are `net0-send` and `net0-receive`. */
export interface V86Emulator {
  readonly bus: { send(name: string, value: Uint8Array): void };
  add_listener(event: string, listener: (frame: Uint8Array) => void): void;
  remove_listener?(event: string, listener: (frame: Uint8Array) => void): void;
}

export interface V86NetworkStream {
  /** Frames that the guest sends, each a copy. Cancelling it closes the stream. */
  readonly readable: ReadableStream<Uint8Array>;
  /** Frames for the guest, each given as a copy. */
  readonly writable: WritableStream<Uint8Array>;
  /** Frames of the guest that were dropped: nothing read, or they were no frames. */
  readonly dropped: number;
  /** Ends the readable, and forgets what comes and goes from now on. */
  destroy(): void;
}

/** Returns the streams of a guest's network card. */
export function createV86NetworkStream(emulator: V86Emulator): V86NetworkStream {
  let dropped = 0;
  let ended = false;
  let waiting: ReadableStreamDefaultController<Uint8Array>;

  const receive = (frame: Uint8Array): void => {
    if (ended) return;
    if (
      !(frame instanceof Uint8Array) ||
      !frame.length ||
      frame.length > LONGEST ||
      (waiting.desiredSize ?? 0) < frame.length
    )
      dropped++;
    else waiting.enqueue(frame.slice()); // v86 may reuse its memory
  };
  const end = (): void => {
    ended = true;
    emulator.remove_listener?.("net0-send", receive);
  };

  const readable = new ReadableStream<Uint8Array>(
    { start: (controller) => void (waiting = controller), cancel: end },
    new ByteLengthQueuingStrategy({ highWaterMark: MOST_WAITING }),
  );
  const writable = new WritableStream<Uint8Array>({
    write(frame) {
      if (!ended) emulator.bus.send("net0-receive", frame.slice());
    },
  });
  emulator.add_listener("net0-send", receive);

  return {
    readable,
    writable,
    get dropped() {
      return dropped;
    },
    destroy() {
      if (ended) return;
      end();
      waiting.close();
    },
  };
}
