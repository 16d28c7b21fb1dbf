/** What listeners, UDP sockets and ping sessions have in common: a handle of the core, and its end. */

import * as abi from "../abi.js";
import type { CallName } from "../engine/core.js";
import type { Driver, Handler } from "../driver.js";
import type { TcpipError } from "../errors.js";
import { closedError } from "../streams.js";
import type { Hosts } from "./hosts.js";

export abstract class CoreHandle implements Handler {
  protected readonly hosts: Hosts;
  protected readonly driver: Driver;
  protected readonly handle: number;
  /** Why it can no longer be used. */
  protected failure: TcpipError | undefined;
  /** Called once there may be room to send. */
  #noRoom: (() => void)[] = [];

  constructor(hosts: Hosts, handle: number) {
    this.hosts = hosts;
    this.driver = hosts.driver;
    this.handle = handle;
    this.driver.handlers.set(handle, this);
  }

  /** Calls back once there may be room to send, or the end has come. */
  protected whenWritable(callback: () => void): void {
    this.#noRoom.push(callback);
  }

  onEvent(kind: number, value: number, at: number): void {
    if (kind !== abi.EVENT_WRITABLE) this.received(kind, value, at);
    else for (const callback of this.#noRoom.splice(0)) callback();
  }

  /** Takes an event that is not about room to send. */
  protected abstract received(kind: number, value: number, at: number): void;

  /** Ends every pending call with the error. */
  protected abstract ended(error: TcpipError): void;

  onStackGone(error: TcpipError): void {
    if (this.failure) return;
    this.failure = error;
    this.ended(error);
    this.onEvent(abi.EVENT_WRITABLE, 0, 0);
  }

  protected check(): void {
    if (this.failure) throw this.failure;
  }

  /** Makes a call on the handle. */
  protected call(name: CallName, detail: string, ...parameters: number[]): number {
    this.check();
    return this.driver.core.call(name, detail, this.handle, ...parameters);
  }

  protected async end(call: CallName, what: string): Promise<void> {
    const { driver, handle } = this;
    if (!this.failure) {
      driver.handlers.delete(handle);
      driver.core.raw(call, handle);
      driver.wake();
    }
    this.onStackGone(closedError(what));
  }
}
