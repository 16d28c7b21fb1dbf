/**
 * Cables: two taps or two tuns, of the same or of different stacks, joined so that what one sends the other receives.
 *
 * A batch of frames crosses with one copy, since records leave as they enter. Nothing is lost on a cable: if the other end
 * has no room, frames stay queued, and the sender is held back.
 */

import { pipeStreams } from "../streams.js";
import type { ConnectStreamsOptions, DuplexStream, Link, TapInterface, TunInterface } from "../types.js";
import { FrameInterface } from "./frames.js";

/** Both are of this package, and of one clock. */
const joinable = (a: unknown, b: unknown): boolean =>
  a instanceof FrameInterface && b instanceof FrameInterface && a.driver.clock === b.driver.clock;

/**
 * Joins two taps or two tuns, of one stack or of two, by a cable.
 *
 * @throws TypeError for other objects, a tap and a tun, or an interface and itself; NetworkError `EBUSY` where one of them
 *   has a listener already.
 */
export function connect(a: TapInterface, b: TapInterface): Link;
export function connect(a: TunInterface, b: TunInterface): Link;
export function connect(a: TapInterface | TunInterface, b: TapInterface | TunInterface): Link {
  if (!joinable(a, b) || a === (b as unknown) || a.type !== b.type) {
    throw new TypeError(`a cable joins two taps or two tuns of one clock, not ${a?.name} and ${b?.name}`);
  }
  const ends = [a, b] as unknown as [FrameInterface, FrameInterface];
  const close = (): void => {
    for (const end of ends) if (open) end.detach();
    open = false;
  };
  let open = true;
  const port = { transmit: () => true, detached: close };
  ends[1].check();
  for (const end of ends) end.giveWay();
  ends[0].attach(port, ends[1]);
  try {
    ends[1].attach(port, ends[0]);
  } catch (error) {
    ends[0].detach();
    throw error;
  }
  for (const end of ends) end.resumeTransmit();
  return { close };
}

/**
 * Joins two pairs of streams: each one's `readable` is piped to the other's `writable`. Two taps or two tuns of this
 * package get a cable, which is much faster, unless there is something to transform.
 */
export function connectStreams(
  a: DuplexStream<Uint8Array>,
  b: DuplexStream<Uint8Array>,
  options: ConnectStreamsOptions = {},
): Link {
  const plain = !options.transformAtoB && !options.transformBtoA;
  const [one, other] = [a, b] as unknown as [TapInterface, TapInterface];
  if (plain && joinable(a, b) && one !== other && one.type === other.type) return connect(one, other);
  return pipeStreams(a, b, options);
}
