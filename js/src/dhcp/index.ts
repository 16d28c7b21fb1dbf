/**
 * A DHCP server over a stack (RFC 2131), for guests and other stacks on its link.
 *
 * Owns the leases and the offers, at most one for each address of the range, so that the range bounds them. Clients are known
 * by their MAC.
 */

import { checkInteger } from "../arguments.js";
import { type Datagrams, serveDatagrams, transportOf } from "../datagrams.js";
import { type UdpSocket } from "../types.js";
import * as messages from "./messages.js";
import { toNumber, toText } from "./messages.js";

const SERVER_PORT = 67;
const CLIENT_PORT = 68;
const BROADCAST = "255.255.255.255";
/** Addresses of a range at most: each costs memory when clients ask for all. */
const MOST_ADDRESSES = 65_536;
/** Milliseconds that an address is kept for a client to which it was offered. */
const OFFER_TIME = 30_000;
/** Milliseconds that an address is not offered after a client found it in use. */
const DECLINED_TIME = 600_000;

export interface DhcpServerOptions {
  /** The addresses that may be leased, both ends included. */
  leaseRange: { start: string; end: string };
  /** The server's address, usually the interface's. */
  serverIdentifier: string;
  netmask: string;
  router: string;
  /** Seconds; 86,400 if not given. */
  leaseDuration?: number | undefined;
  dnsServers?: readonly string[] | undefined;
  hostname?: string | undefined;
  domainName?: string | undefined;
  searchDomains?: readonly string[] | undefined;
}

export interface DhcpLease {
  ip: string;
  mac: string;
  /** Milliseconds, as `Date.now()` has them. */
  expiresAt: number;
}

/** A running server. */
export interface DhcpServer {
  /** By MAC. Those that have expired stay until their address is needed. */
  readonly leases: ReadonlyMap<string, DhcpLease>;
  close(): Promise<void>;
}

export interface Dhcp {
  /** Serves on all interfaces of the stack. @throws RangeError for malformed options. */
  serve(options: DhcpServerOptions): Promise<DhcpServer>;
}

class Server implements DhcpServer {
  readonly leases = new Map<string, DhcpLease>();
  /** By address: the client that has it, or none for a declined one, and until when. */
  readonly #taken = new Map<number, { mac: string; until: number }>();
  /** The address that a client has or was offered. */
  readonly #own = new Map<string, number>();
  readonly #first: number;
  readonly #last: number;
  readonly #server: number;
  readonly #seconds: number;
  readonly #options: Uint8Array;
  #socket: UdpSocket | undefined;
  #next: number;

  constructor(given: DhcpServerOptions) {
    this.#first = this.#next = toNumber("leaseRange.start", given.leaseRange.start);
    this.#last = toNumber("leaseRange.end", given.leaseRange.end);
    if (this.#last < this.#first || this.#last - this.#first >= MOST_ADDRESSES) {
      throw new RangeError(
        `leaseRange: ${given.leaseRange.start} to ${given.leaseRange.end} is not a range of 1 to ${MOST_ADDRESSES} addresses`,
      );
    }
    this.#server = toNumber("serverIdentifier", given.serverIdentifier);
    this.#seconds = checkInteger("leaseDuration", given.leaseDuration ?? 86_400, 1, 2 ** 32 - 1);
    const { netmask, router, dnsServers = [], hostname, domainName, searchDomains = [] } = given;
    this.#options = messages.configurationOptions({ netmask, router, dnsServers, hostname, domainName, searchDomains });
  }

  listen(socket: UdpSocket): void {
    this.#socket = socket;
    void serveDatagrams(socket, ({ data }) => {
      const request = messages.readRequest(data);
      if (request) this.#answer(request);
    });
  }

  async close(): Promise<void> {
    await this.#socket!.close();
  }

  #send(request: messages.Request, type: number, address: number): void {
    const granted = type === messages.OFFER || (type === messages.ACK && request.type !== messages.INFORM);
    const data = messages.buildAnswer(
      request,
      type,
      address,
      this.#server,
      granted ? this.#seconds : undefined,
      this.#options,
    );
    // A client without an address takes broadcasts alone here: the stack has no neighbour entry for it (section 4.1).
    const known = type !== messages.NAK && request.client !== 0;
    const target = request.relay
      ? { host: toText(request.relay), port: SERVER_PORT }
      : { host: known ? toText(request.client) : BROADCAST, port: CLIENT_PORT };
    this.#socket!.send({ ...target, data }).catch(() => undefined); // lost, as any datagram may be
  }

  #answer(request: messages.Request): void {
    const { type, mac, server, requested, client } = request;
    if (type === messages.DISCOVER) {
      const address = this.#choose(mac, requested);
      if (address === undefined) return;
      if (!this.leases.has(mac) || this.#own.get(mac) !== address) this.#take(address, mac, Date.now() + OFFER_TIME);
      this.#send(request, messages.OFFER, address);
    } else if (type === messages.REQUEST) {
      if (server !== undefined && server !== this.#server) {
        if (!this.leases.has(mac)) this.#forget(mac); // another server's offer was taken
        return;
      }
      const address = requested ?? client;
      if (!this.#isFree(address, mac)) {
        this.#send(request, messages.NAK, 0);
        return;
      }
      const expiresAt = Date.now() + this.#seconds * 1000;
      this.#take(address, mac, expiresAt);
      this.leases.set(mac, { ip: toText(address), mac, expiresAt });
      this.#send(request, messages.ACK, address);
    } else if (type === messages.RELEASE) {
      if (this.#own.get(mac) === client) this.#forget(mac);
    } else if (type === messages.DECLINE) {
      if (requested === undefined || this.#own.get(mac) !== requested) return;
      this.#forget(mac);
      this.#taken.set(requested, { mac: "", until: Date.now() + DECLINED_TIME });
    } else if (type === messages.INFORM && client) {
      this.#send(request, messages.ACK, 0);
    }
  }

  #forget(mac: string): void {
    const address = this.#own.get(mac);
    this.leases.delete(mac);
    this.#own.delete(mac);
    if (address !== undefined) this.#taken.delete(address);
  }

  /** Gives a free address to a client, which loses the one that it had. */
  #take(address: number, mac: string, until: number): void {
    const before = this.#taken.get(address)?.mac;
    if (before) this.#forget(before);
    this.#forget(mac);
    this.#taken.set(address, { mac, until });
    this.#own.set(mac, address);
  }

  #isFree(address: number, mac: string): boolean {
    if (address < this.#first || address > this.#last || address === this.#server) return false;
    const taken = this.#taken.get(address);
    return !taken || taken.mac === mac || taken.until <= Date.now();
  }

  /** The client's own address, the one that it asks for, a free one, or undefined where the range is exhausted. */
  #choose(mac: string, requested: number | undefined): number | undefined {
    const own = this.#own.get(mac);
    if (own !== undefined) return own;
    if (requested !== undefined && this.#isFree(requested, mac)) return requested;
    const count = this.#last - this.#first + 1;
    for (let i = 0; i < count; i++) {
      const address = this.#first + ((this.#next - this.#first + i) % count);
      if (!this.#isFree(address, mac)) continue;
      this.#next = address === this.#last ? this.#first : address + 1;
      return address;
    }
    return undefined;
  }
}

/** Makes DHCP servers of a stack, or of its `udp`. */
export async function createDhcp(stack: Datagrams): Promise<Dhcp> {
  const transport = transportOf(stack);
  return {
    async serve(options) {
      const server = new Server(options);
      server.listen(await transport.open({ port: SERVER_PORT }));
      return server;
    },
  };
}
