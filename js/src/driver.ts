/**
 * The driver: it polls cores when they have work, hands out their events, and arms one timer for each.
 *
 * Theory of operation. A stack has work when a program has called it, when frames have arrived in it, or when its timer
 * has fired; then it is in the scheduler's queue (`Driver.wake`). All stacks of a clock share one scheduler, whose run is a
 * microtask: it polls the stack at the front of the queue, which hands out events and moves frames; a frame that crosses a
 * cable puts the other stack into the queue, and it is polled in the same run. Four rules:
 *
 * 1. Time. Runs follow each other as microtasks, which would keep timers and input of the page waiting for ever. After
 *    `SLICE` seconds since the latest macrotask, the queue waits for the next macrotask, which was requested when the
 *    first of these runs began.
 * 2. Programs first. A stack that has notified a program is polled again in the next run, not in this one: the program's
 *    promise reactions run before, and its answer and the acknowledgement leave together.
 * 3. Acknowledgements wait. A stack that has only acknowledgements or window updates to send is polled in the next run.
 * 4. Order. First come, first served, but a stack that sends is polled before those that receive, so that they receive
 *    everything in one poll, unless the run before had no time for all.
 *
 * Some calls need no poll: where nothing else waits, a core sends within `send` and `received`. Its deadline is then out
 * of date, so it is polled within `LATEST_POLL`. The timer of a stack is set to the core's deadline, and an idle stack has
 * none. One that has become too early is left to fire, since setting it anew for each segment would cost more.
 *
 * The reasons are in docs/explanation/javascript.md.
 */

import * as abi from "./abi.js";
import type { Core } from "./engine/core.js";
import type { FrameBuffers } from "./engine/records.js";
import type { TcpipError } from "./errors.js";
import type { Clock } from "./types.js";

/** Seconds of work after which timers and input of the page are served. */
const SLICE = 0.002;
/** Polls of one run, where a clock stands still, as in a simulation. */
const MOST_POLLS = 4096;
/** Polls between two readings of the clock. */
const POLLS_A_LOOK = 4;
/** Seconds after which a core that sent something at once has to be polled: one tick of TCP. */
const LATEST_POLL = 0.025;
/** Microtasks that a program's reaction to an event may take before its stack is polled again. */
const HOPS = 4;

/** What a handle belongs to: an interface, a listener, a connection. */
export interface Handler {
  /** Takes an event; its payload is in the core's memory at `at`. A TRANSMIT with value 0 says that some frames wait. */
  onEvent(kind: number, value: number, at: number): void;
  /** The stack is gone: ends every pending call with the error. */
  onStackGone(error: TcpipError): void;
}

interface Scheduler {
  /** Puts a driver into the queue; `first`: before the others. */
  add(driver: Driver, first: boolean): void;
  /** Has a driver polled in the next run. */
  addLater(driver: Driver): void;
  /** Whether the latest run had no time for all. */
  isBehind(): boolean;
  /** A driver's program is notified in this run, whose number is returned. */
  notify(): number;
}

function createScheduler(clock: Clock): Scheduler {
  const queue: Driver[] = [];
  let later: Driver[] = [];
  let behind = false;
  let notified = false;
  let runs = 0;
  let scheduled = false;
  let marked = false;
  let until = 0;

  const begin = (): void => {
    if (scheduled) return;
    scheduled = true;
    queueMicrotask(run);
  };

  const mark = (): void => {
    marked = false;
    if (!scheduled && (queue.length || later.length)) run();
  };

  const hop = (left: number): void => queueMicrotask(left ? () => hop(left - 1) : run);

  const run = (): void => {
    let now = clock.now();
    if (!marked) {
      marked = true;
      until = now + SLICE;
      clock.macrotask(mark);
    } else if (now >= until) {
      scheduled = false; // `mark` runs the queue
      return;
    }
    scheduled = true;
    runs++;
    const late = later;
    later = [];
    const held: Driver[] = [];
    let polls = 0;
    let driver: Driver | undefined;
    while ((driver = queue.shift())) {
      if (!driver.awake) continue;
      if (driver.notified === runs) {
        held.push(driver);
        continue;
      }
      driver.turn(now);
      if (++polls % POLLS_A_LOOK === 0) {
        now = clock.now();
        if (polls >= MOST_POLLS) until = now; // the clock stands still, as in a simulation
        if (now >= until) break;
      }
    }
    for (const one of late) if (one.isLate) one.turn(now);
    behind = queue.length > 0;
    queue.push(...held);
    const hops = notified ? HOPS : 0;
    scheduled = notified || queue.length > 0 || later.length > 0;
    notified = false;
    if (scheduled) hop(hops);
  };

  return {
    add(driver, first) {
      if (first) queue.unshift(driver);
      else queue.push(driver);
      begin();
    },
    addLater(driver) {
      later.push(driver);
      begin();
    },
    isBehind: () => behind,
    notify() {
      notified = true;
      return runs;
    },
  };
}

const schedulers = new WeakMap<Clock, Scheduler>();

export class Driver {
  readonly handlers = new Map<number, Handler>();
  /** Whether it is in the queue of those to be polled. */
  awake = false;
  /** Whether it is to be polled in the next run. */
  isLate = false;
  /** The scheduler's latest run in which handlers received more than frames. */
  notified = 0;
  /** Why the stack is gone. */
  error: TcpipError | undefined;
  /** Called after each poll and at the stack's end. */
  readonly watchers = new Set<() => void>();
  readonly now: () => number;

  readonly #scheduler: Scheduler;
  readonly #clock: Clock;
  #cancelTimer: (() => void) | undefined;
  #due = Infinity;
  #sentSincePoll = false;
  #waiting: [buffers: FrameBuffers, callback: () => void][] = [];

  constructor(
    readonly core: Core,
    clock: Clock,
  ) {
    let scheduler = schedulers.get(clock);
    if (!scheduler) schedulers.set(clock, (scheduler = createScheduler(clock)));
    this.#scheduler = scheduler;
    this.#clock = clock;
    this.now = core.clock = () => clock.now();
  }

  get clock(): Clock {
    return this.#clock;
  }

  /** Calls back after so many seconds, unless it is cancelled. */
  after(seconds: number, callback: () => void): () => void {
    return this.#clock.at(this.now() + seconds, callback);
  }

  /** Sees to it that the core is polled soon; `first`: before those that wait for it already. */
  wake(first = false): void {
    if (this.awake || this.error) return;
    this.awake = true;
    const scheduler = this.#scheduler;
    scheduler.add(this, first && !scheduler.isBehind());
  }

  /** Sees to it that the core is polled in the next run, when the application may have more to send. */
  wakeSoon(): void {
    if (this.awake || this.isLate || this.error) return;
    this.isLate = true;
    this.#scheduler.addLater(this);
  }

  /**
   * Hands data to the core, as much as it takes, and sees to it that it leaves: at once where possible, else soon.
   *
   * @returns how many bytes were taken; `core.sendFull` where no more would be. -1 where the connection has ended: an
   *   event reports how.
   */
  send(handle: number, data: Uint8Array): number {
    const { core } = this;
    const now = this.now();
    let taken: number;
    try {
      taken = core.tcpSend(handle, data, now);
    } catch {
      this.wake();
      return -1;
    }
    if (core.sentAtOnce) this.#handOn(core.sentAtOnce, now);
    else this.wake(true); // before the stacks that receive it, which else would be polled for a part of it
    return taken;
  }

  /** Opens the receive window by so many bytes, and has that advertised. */
  received(handle: number, length: number): void {
    const { core } = this;
    const now = this.now();
    try {
      core.tcpReceived(handle, length, now);
    } catch {
      this.wake(); // an event reports how the connection ended
      return;
    }
    if (core.sentAtOnce) this.#handOn(core.sentAtOnce, now);
    else this.wakeSoon();
  }

  /** Hands on what a call has sent at once. */
  #handOn(handle: number, now: number): void {
    this.isLate = false;
    this.handlers.get(handle)?.onEvent(abi.EVENT_TRANSMIT, 0, 0);
    if (!this.#sentSincePoll) {
      this.#sentSincePoll = true;
      if (!this.awake && this.#due > now + LATEST_POLL) this.#arm(now + LATEST_POLL);
    }
  }

  /** Calls back once the core has emptied an interface's receive buffer; never if the stack is gone. */
  whenRoom(buffers: FrameBuffers, callback: () => void): void {
    if (this.error) return;
    this.#waiting.push([buffers, callback]);
    // At once, even if its programs were notified in this run: the caller may have to drop what arrives meanwhile.
    this.awake = true;
    this.notified = 0;
    this.#scheduler.add(this, true);
  }

  /** Polls the core once and hands out its events. Only the scheduler calls this. */
  turn(now: number): void {
    this.awake = this.isLate = this.#sentSincePoll = false;
    if (this.error) return;
    const { core, handlers } = this;
    try {
      core.poll(now);
    } catch (error) {
      this.end(error as TcpipError);
      return;
    }
    const first = core.firstEvent;
    if (first && first !== abi.EVENT_TRANSMIT) {
      this.notified = this.#scheduler.notify();
    }
    core.events((kind, handle, value, at) => {
      const handler = handlers.get(handle);
      try {
        if (handler) handler.onEvent(kind, value, at);
        else if (kind === abi.EVENT_ACCEPTED) core.raw("tcp_abort", value); // an earlier event closed its listener
      } catch (error) {
        this.report(error); // one callback must not stop the other stacks
      }
    });
    if (core.death) this.end(core.death);
    if (this.error) return;
    this.#goOn();
  }

  /** Sees to it that the next poll comes when it has to. */
  #goOn(): void {
    const { core } = this;
    if (this.#waiting.length) {
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const entry of waiting) {
        if (entry[0].receiveLength === 0) entry[1]();
        else this.#waiting.push(entry);
      }
    }
    if (core.more || this.#waiting.length) this.wake();
    else if (core.soon) this.wakeSoon();
    if (core.deadline < this.#due) this.#arm(core.deadline);
    for (const watcher of this.watchers) watcher();
  }

  #arm(deadline: number): void {
    this.#cancelTimer?.();
    this.#due = deadline;
    this.#cancelTimer = this.#clock.at(deadline, this.#onTimer);
  }

  #onTimer = (): void => {
    this.#cancelTimer = undefined;
    this.#due = Infinity;
    const { deadline } = this.core;
    if (this.#sentSincePoll || deadline <= this.now()) this.wake();
    else if (deadline < Infinity) this.#arm(deadline);
  };

  /** Reports an error that no caller can catch, as the platform does for a callback that throws. */
  report(error: unknown): void {
    this.#clock.macrotask(() => {
      throw error;
    });
  }

  /** Throws the stack's error if it is gone. */
  check(): void {
    if (this.error) throw this.error;
  }

  /** Ends the stack: every handler is notified once, and nothing is polled any more. */
  end(error: TcpipError): void {
    if (this.error) return;
    this.error = error;
    this.#cancelTimer?.();
    this.#waiting = [];
    const handlers = [...this.handlers.values()];
    this.handlers.clear();
    for (const handler of handlers) handler.onStackGone(error);
    this.core.close();
    for (const watcher of this.watchers) watcher();
  }
}
