/** `createStack`: a virtual host, put together from its parts. Its methods are its own properties. */

import * as abi from "./abi.js";
import { type Cidr, formatAddress, parseAddress, parseMac, parseNetwork } from "./addresses.js";
import { checkInteger, checkPort, checkTimeout } from "./arguments.js";
import { systemClock } from "./clock.js";
import { createDriver, type Driver } from "./driver.js";
import { Core } from "./engine/core.js";
import { loadModule } from "./engine/module.js";
import { StackClosedError } from "./errors.js";
import { Bridge, Loopback, Tun } from "./interfaces/kinds.js";
import { hasIPv6, type Interface, parseAddresses, type Setup } from "./interfaces/interface.js";
import { Tap } from "./interfaces/tap.js";
import { createNames } from "./names/names.js";
import type { Server } from "./names/questions.js";
import { createRandom, type Random, seedBytes } from "./random.js";
import { Connection } from "./sockets/connection.js";
import { createHosts } from "./sockets/hosts.js";
import { createPingSession } from "./sockets/ping.js";
import { connectTcp, listenTcp } from "./sockets/tcp.js";
import { openUdp } from "./sockets/udp.js";
import type {
  BridgeInterfaceOptions,
  CloseOptions,
  LoopbackInterfaceOptions,
  NetworkInterface,
  NetworkInterfaces,
  NetworkStack,
  NetworkStackOptions,
  PingSessionOptions,
  Route,
  RouteOptions,
  StackStatistics,
  TapInterfaceOptions,
  TcpConnectionOptions,
  TcpListenerOptions,
  TunInterfaceOptions,
  UdpSocketOptions,
} from "./types.js";

const DEFAULT_MTU = 1500;
const DNS_PORT = 53;
const STATISTICS = (
  "tcpSegmentsIn tcpSegmentsOut tcpRetransmissions checksumErrors malformed protocolDrops memoryErrors heapUsed " +
  "connections timeWait handles udpIn udpOut udpNoPort udpDrops fragmentsIn fragmentsOut fragmentDrops icmpIn icmpOut " +
  "icmpUnmatched forwarded forwardDrops inconsistencies synCookies backlogDrops icmpLimited"
).split(" ");

/** What the module knows a route by. */
const routeKey = ({ address, prefix }: Cidr, metric: number): string => `${formatAddress(address)}/${prefix} ${metric}`;

function put(driver: Driver, random: Random, given: NetworkStackOptions): NetworkStack {
  const { core } = driver;
  const list: Interface[] = [];
  const numbers: Record<string, number> = {};
  const routes = new Map<string, Route>(); // by what `routeKey` returns
  const hosts = createHosts(driver, list);
  let forwards = false;

  const { nameServer } = given;
  const server = (ip: string, port: number): Server => ({ target: hosts.literal(ip)![0], port });
  const names = createNames(hosts, random, () => {
    if (nameServer) return [server(nameServer.ip, nameServer.port ?? DNS_PORT)];
    const learned = list.flatMap((one) => (one instanceof Tap && one.lease?.nameServers) || []);
    return (learned.length ? learned : ["127.0.0.1"]).map((ip) => server(ip, DNS_PORT));
  });
  hosts.resolve = names.resolve;

  const add = <T extends Interface>(kind: string, make: (setup: Setup) => T, checksums = true): T => {
    driver.check();
    const number = numbers[kind] ?? 0;
    const made = make({ driver, name: `${kind}${number}` });
    numbers[kind] = number + 1;
    list.push(made);
    if (!checksums) core.call("interface_checksums", made.name, made.handle, 0);
    return made;
  };

  const createLoopbackInterface = async ({ ip = "127.0.0.1/8" }: LoopbackInterfaceOptions = {}) =>
    add("lo", (setup) => new Loopback(setup, parseAddresses(ip)));

  const createTunInterface = async ({ ip, mtu = DEFAULT_MTU, checksums }: TunInterfaceOptions = {}) =>
    add("tun", (setup) => new Tun(setup, parseAddresses(ip), mtu), checksums);

  const createTapInterface = async ({ mac, ip, mtu = DEFAULT_MTU, ipv6, checksums }: TapInterfaceOptions = {}) => {
    const addresses = parseAddresses(ip);
    const bytes = mac === undefined ? random.mac() : parseMac(mac);
    return add("tap", (setup) => new Tap(setup, addresses, mtu, bytes, ipv6 ?? hasIPv6(addresses)), checksums);
  };

  const createBridgeInterface = async ({ ports, mac, ip, mtu, ipv6 }: BridgeInterfaceOptions) => {
    const addresses = parseAddresses(ip);
    const bytes = mac === undefined ? random.mac() : parseMac(mac);
    const size = mtu ?? Math.min(...ports.map((port) => port.mtu), ports.length ? abi.MAX_FRAME : DEFAULT_MTU);
    const bridge = add("br", (setup) => new Bridge(setup, addresses, size, bytes, ipv6 ?? hasIPv6(addresses)));
    try {
      for (const port of ports) bridge.addPort(port);
    } catch (error) {
      list.pop();
      bridge.remove();
      throw error;
    }
    return bridge;
  };

  const removeInterface = async (netInterface: NetworkInterface) => {
    driver.check();
    const index = list.indexOf(netInterface as unknown as Interface);
    if (index < 0) throw new RangeError("unknown interface: it is none of this stack's");
    const [removed] = list.splice(index, 1);
    removed!.remove();
    for (const [key, route] of routes) if (route.interface === netInterface) routes.delete(key);
  };

  const interfaces: NetworkInterfaces = {
    createLoopback: createLoopbackInterface,
    createTun: createTunInterface,
    createTap: createTapInterface,
    createBridge: createBridgeInterface,
    remove: removeInterface,
    [Symbol.iterator]: () => [...(list as unknown as NetworkInterface[])][Symbol.iterator](),
  };

  const addRoute = ({ network, via, interface: by, metric = 0 }: RouteOptions): Route => {
    const cidr = parseNetwork("network", network);
    checkInteger("metric", metric, 0, 2 ** 31 - 1);
    const gateway = via === undefined ? undefined : hosts.literal(via)?.[0];
    if (via !== undefined && gateway?.address.family !== cidr.address.family)
      throw new RangeError(`via: ${via} is no gateway of ${network}`);
    const own = by as unknown as Interface | undefined;
    if (own && !list.includes(own)) throw new RangeError("interface: it is none of this stack's");
    const handle = own?.handle ?? gateway?.scope ?? 0;
    if (!handle && !gateway) throw new TypeError(`route to ${network}: it needs via, interface or both`);
    core.putScratch(cidr.address.bytes, gateway?.address.bytes);
    const { family } = cidr.address;
    const leaves = core.call(
      "route_add",
      `route to ${network}`,
      family,
      cidr.prefix,
      handle,
      Number(!!gateway),
      metric,
    );
    const found = list.find((one) => one.handle === leaves) as unknown as NetworkInterface;
    const route = { network, ...(via !== undefined && { via }), interface: found, metric };
    routes.set(routeKey(cidr, metric), route);
    return route;
  };

  const removeRoute = ({ network, metric = 0 }: Pick<RouteOptions, "network" | "metric">): void => {
    const cidr = parseNetwork("network", network);
    core.putScratch(cidr.address.bytes, undefined);
    core.call("route_remove", `route to ${network}`, cidr.address.family, cidr.prefix, metric);
    routes.delete(routeKey(cidr, metric));
  };

  const stats = (): StackStatistics => {
    const counted = core.statistics();
    const named = Object.fromEntries(STATISTICS.map((name, i) => [name, counted[i]!]));
    return { ...named, memory: core.u8.length } as unknown as StackStatistics;
  };

  /** Waits until the peers have acknowledged all that was closed. */
  const drain = (timeout: number): Promise<void> =>
    new Promise((resolve) => {
      const done = (): boolean =>
        driver.error !== undefined ||
        !list.some((one) => one.attached) ||
        (!core.raw("tcp_undelivered") &&
          ![...driver.handlers.values()].some((one) => one instanceof Connection && one.finishing));
      const finish = (): void => {
        cancel();
        driver.watchers.delete(look);
        resolve();
      };
      const look = (): void => {
        if (done()) finish();
      };
      const cancel = driver.after(timeout / 1000, finish);
      driver.watchers.add(look);
      look();
    });

  const close = async ({ drain: timeout = 0 }: CloseOptions = {}) => {
    checkTimeout(timeout);
    if (timeout) await drain(timeout);
    if (driver.error) return;
    core.raw("tcp_end");
    for (const one of list) one.resumeTransmit(); // what `tcp_end` sends is in the buffers at once
    driver.end(new StackClosedError());
    list.length = 0;
  };

  const connect = (options: TcpConnectionOptions) => connectTcp(hosts, options);
  const listen = (options: TcpListenerOptions) => listenTcp(hosts, options);
  const open = (options?: UdpSocketOptions) => openUdp(hosts, options);
  const createSession = (options: PingSessionOptions) => createPingSession(hosts, options);

  return {
    ready: Promise.resolve(),
    interfaces,
    tcp: { connect, listen },
    udp: { open },
    ping: { createSession },
    createLoopbackInterface,
    createTunInterface,
    createTapInterface,
    createBridgeInterface,
    removeInterface,
    listenTcp: listen,
    connectTcp: connect,
    openUdp: open,
    createPingSession: createSession,
    lookup: async (host) => (await hosts.findHost(host)).map((target) => hosts.text(target)),
    hosts: names.hosts,
    addRoute,
    removeRoute,
    get routes() {
      return [...routes.values()];
    },
    get forwarding() {
      return forwards;
    },
    set forwarding(enabled: boolean) {
      core.call("forwarding", "forwarding", Number(enabled));
      forwards = !!enabled;
    },
    stats,
    get closed() {
      return driver.error !== undefined;
    },
    close,
  };
}

/**
 * Makes a virtual host.
 *
 * @throws ModuleMismatchError where lwip.wasm cannot be loaded.
 */
export async function createStack(options: NetworkStackOptions = {}): Promise<NetworkStack> {
  const { initializeLoopback = true, nameServer, seed, clock = systemClock } = options;
  if (nameServer) {
    if (!parseAddress(nameServer.ip)) throw new RangeError(`nameServer: ${nameServer.ip} is no address`);
    checkPort("nameServer.port", nameServer.port ?? DNS_PORT, 1);
  }
  const loading = options.module ?? loadModule(); // first: it compiles beside what follows
  const bytes = await seedBytes(seed);
  const module = await loading;
  const driver = createDriver(new Core(module, clock.now(), bytes), clock);
  const stack = put(driver, createRandom(seed === undefined ? undefined : bytes), options);
  if (initializeLoopback) await stack.createLoopbackInterface({ ip: ["127.0.0.1/8", "::1/128"] });
  return stack;
}
