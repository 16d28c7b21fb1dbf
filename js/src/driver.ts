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
import type { Core, EventHandler } from "./engine/core.js";
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

export interface Driver {
  readonly core: Core;
  readonly clock: Clock;
  readonly handlers: Map<number, Handler>;
  /** Called after each poll and at the stack's end. */
  readonly watchers: Set<() => void>;
  /** Whether it is in the queue of those to be polled. */
  awake: boolean;
  /** Whether it is to be polled in the next run. */
  isLate: boolean;
  /** The scheduler's latest run in which handlers received more than frames. */
  notified: number;
  /** Why the stack is gone. */
  error: TcpipError | undefined;
  now(): number;
  /** Calls back after so many seconds, unless it is cancelled. */
  after(seconds: number, callback: () => void): () => void;
  /** Sees to it that the core is polled soon; `first`: before those that wait for it already. */
  wake(first?: boolean): void;
  /**
   * Hands data to the core, as much as it takes, and sees to it that it leaves: at once where possible, else soon.
   *
   * @returns how many bytes were taken; `core.sendFull` where no more would be. -1 where the connection has ended: an
   *   event reports how.
   */
  send(handle: number, data: Uint8Array): number;
  /** Opens the receive window by so many bytes, and has that advertised. */
  received(handle: number, length: number): void;
  /** Calls back once the core has emptied an interface's receive buffer; never if the stack is gone. */
  whenRoom(buffers: FrameBuffers, callback: () => void): void;
  /** Polls the core once and hands out its events. Only the scheduler calls this. */
  turn(now: number): void;
  /** Throws the stack's error if it is gone. */
  check(): void;
  /** Ends the stack: every handler is notified once, and nothing is polled any more. */
  end(error: TcpipError): void;
}

export function createDriver(core: Core, clock: Clock): Driver {
  let scheduler = schedulers.get(clock)!;
  if (!scheduler) schedulers.set(clock, (scheduler = createScheduler(clock)));
  const handlers = new Map<number, Handler>();
  const watchers = new Set<() => void>();
  const now = (core.clock = () => clock.now());
  let cancelTimer: (() => void) | undefined;
  let due = Infinity;
  let sentSincePoll = false;
  let waiting: [buffers: FrameBuffers, callback: () => void][] = [];

  const arm = (deadline: number): void => {
    cancelTimer?.();
    due = deadline;
    cancelTimer = clock.at(deadline, onTimer);
  };

  const onTimer = (): void => {
    cancelTimer = undefined;
    due = Infinity;
    const { deadline } = core;
    if (sentSincePoll || deadline <= now()) driver.wake();
    else if (deadline < Infinity) arm(deadline);
  };

  /** Sees to it that the core is polled in the next run, when the application may have more to send. */
  const wakeSoon = (): void => {
    if (driver.awake || driver.isLate || driver.error) return;
    driver.isLate = true;
    scheduler.addLater(driver);
  };

  /** Hands on what a call has sent at once. */
  const handOn = (handle: number, time: number): void => {
    driver.isLate = false;
    handlers.get(handle)?.onEvent(abi.EVENT_TRANSMIT, 0, 0);
    if (!sentSincePoll) {
      sentSincePoll = true;
      if (!driver.awake && due > time + LATEST_POLL) arm(time + LATEST_POLL);
    }
  };

  const onEvent: EventHandler = (kind, handle, value, at) => {
    const handler = handlers.get(handle);
    try {
      if (handler) handler.onEvent(kind, value, at);
      else if (kind === abi.EVENT_ACCEPTED) core.raw("tcp_abort", value); // an earlier event closed its listener
    } catch (error) {
      // One callback must not stop the other stacks. No caller can catch it: it is reported as one that a callback throws.
      clock.macrotask(() => {
        throw error;
      });
    }
  };

  const driver: Driver = {
    core,
    clock,
    handlers,
    watchers,
    awake: false,
    isLate: false,
    notified: 0,
    error: undefined,
    now,
    after: (seconds, callback) => clock.at(now() + seconds, callback),

    wake(first = false) {
      if (driver.awake || driver.error) return;
      driver.awake = true;
      scheduler.add(driver, first && !scheduler.isBehind());
    },

    send(handle, data) {
      const time = now();
      let taken: number;
      try {
        taken = core.tcpSend(handle, data, time);
      } catch {
        driver.wake();
        return -1;
      }
      if (core.sentAtOnce) handOn(core.sentAtOnce, time);
      else driver.wake(true); // before the stacks that receive it, which else would be polled for a part of it
      return taken;
    },

    received(handle, length) {
      const time = now();
      try {
        core.tcpReceived(handle, length, time);
      } catch {
        driver.wake(); // an event reports how the connection ended
        return;
      }
      if (core.sentAtOnce) handOn(core.sentAtOnce, time);
      else wakeSoon();
    },

    whenRoom(buffers, callback) {
      if (driver.error) return;
      waiting.push([buffers, callback]);
      // At once, even if its programs were notified in this run: the caller may have to drop what arrives meanwhile.
      driver.awake = true;
      driver.notified = 0;
      scheduler.add(driver, true);
    },

    turn(time) {
      driver.awake = driver.isLate = sentSincePoll = false;
      if (driver.error) return;
      try {
        core.poll(time);
      } catch (error) {
        driver.end(error as TcpipError);
        return;
      }
      const first = core.firstEvent;
      if (first && first !== abi.EVENT_TRANSMIT) driver.notified = scheduler.notify();
      core.events(onEvent);
      if (core.death) driver.end(core.death);
      if (driver.error) return;
      if (waiting.length) {
        const entries = waiting;
        waiting = [];
        for (const entry of entries) {
          if (entry[0].receiveLength === 0) entry[1]();
          else waiting.push(entry);
        }
      }
      if (core.more || waiting.length) driver.wake();
      else if (core.soon) wakeSoon();
      if (core.deadline < due) arm(core.deadline);
      for (const watcher of watchers) watcher();
    },

    check() {
      if (driver.error) throw driver.error;
    },

    end(error) {
      if (driver.error) return;
      driver.error = error;
      cancelTimer?.();
      waiting = [];
      const ended = [...handlers.values()];
      handlers.clear();
      for (const handler of ended) handler.onStackGone(error);
      core.close();
      for (const watcher of watchers) watcher();
    },
  };
  return driver;
}
