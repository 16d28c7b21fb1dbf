/** The public types. Those that tcpip.js documents have its names and its members; the others are additions. */

/** Time for stacks. A simulation passes its own; all stacks of one clock share one scheduler. */
export interface Clock {
  /** Seconds, monotonic, above 0. */
  now(): number;
  /** Calls back at a time in seconds, perhaps Infinity. Returns a function that cancels it. */
  at(time: number, callback: () => void): () => void;
  /** Calls back in a macrotask: behind pending timers and input. */
  macrotask(callback: () => void): void;
}

/** A name server; its port is 53 if not given. */
export interface NameServer {
  ip: string;
  port?: number;
}

export interface NetworkStackOptions {
  /** Whether there is a loopback interface with 127.0.0.1/8 and ::1/128 from the start; true if not given. */
  initializeLoopback?: boolean;
  /** Where names are asked for; if not given, the servers that DHCP names, or else 127.0.0.1. */
  nameServer?: NameServer;
  /** At most 32 bytes or an integer from which every random choice derives; if not given, the platform's randomness. */
  seed?: Uint8Array | number | bigint;
  /** Time; if not given, the platform's. */
  clock?: Clock;
  /** The compiled lwip.wasm; if not given, the file beside the package's code. */
  module?: WebAssembly.Module;
}

/** A pair of streams. */
export interface DuplexStream<T = unknown> {
  readable: ReadableStream<T>;
  writable: WritableStream<T>;
}

/** What joins two interfaces or pairs of streams. */
export interface Link {
  /** Takes it apart: later frames are dropped. */
  close(): void;
}

export interface ConnectStreamsOptions {
  transformAtoB?: (chunk: Uint8Array) => Uint8Array;
  transformBtoA?: (chunk: Uint8Array) => Uint8Array;
}

// --- Interfaces -----------------------------------------------------------------------------------------------------

/** An address with its prefix such as "192.168.1.1/24", or several, of which one at most is of IPv4. */
export type InterfaceAddresses = string | readonly string[];

export interface LoopbackInterfaceOptions {
  ip?: InterfaceAddresses;
}

export interface TunInterfaceOptions {
  ip?: InterfaceAddresses;
  /** Whether checksums are generated and verified, as at the far end; true if not given. */
  checksums?: boolean;
  /** Bytes of the largest IP packet, 68 to 65,535; 1500 if not given. */
  mtu?: number;
}

export interface TapInterfaceOptions {
  /** Six bytes such as "02:00:00:00:00:01"; random if not given. Of a group address, frames get the address without the
   * group bit. */
  mac?: string;
  ip?: InterfaceAddresses;
  /** As that of a tun. */
  checksums?: boolean;
  /** Bytes of the largest IP packet, 68 to 65,535; 1500 if not given. */
  mtu?: number;
  /** Whether it has a link-local address at once; if not given, whether `ip` has an address of IPv6. Without, it sends
   * nothing of IPv6. */
  ipv6?: boolean;
}

export interface BridgeInterfaceOptions {
  ports: readonly TapInterface[];
  mac?: string;
  ip?: InterfaceAddresses;
  /** Bytes of the largest IP packet; the smallest of its ports' if not given. */
  mtu?: number;
  /** As that of a tap. */
  ipv6?: boolean;
}

/** Frames of one interface. */
export interface InterfaceStatistics {
  framesIn: number;
  framesOut: number;
  /** Dropped because lengths or addresses are impossible. */
  malformed: number;
  /** Refused by a full buffer; TCP sends its own again. */
  transmitFull: number;
  /** Addressed to another station. */
  foreign: number;
  /** Too long for a port of a bridge. */
  tooLong: number;
  /** Dropped because nothing listened. */
  unheard: number;
}

interface CommonInterface {
  /** Such as "tap0": the scope of its link-local addresses. */
  readonly name: string;
  /** The IPv4 address, or else the first of IPv6. */
  readonly ip?: string;
  /** The netmask of `ip`. */
  readonly netmask?: string;
  /** All addresses with their prefixes. */
  readonly addresses: readonly string[];
  /** Bytes of the largest IP packet. */
  readonly mtu: number;
  stats(): InterfaceStatistics;
}

export interface LoopbackInterface extends CommonInterface {
  readonly type: "loopback";
}

interface FrameInterface extends CommonInterface {
  /** What leaves. Nothing is kept until it is locked for the first time. */
  readonly readable: ReadableStream<Uint8Array>;
  /** The way in. A malformed frame is dropped and counted; one for an interface that is gone is dropped. */
  readonly writable: WritableStream<Uint8Array>;
  /** Locks `readable` and iterates over it. */
  listen(): AsyncIterableIterator<Uint8Array>;
  [Symbol.asyncIterator](): AsyncIterableIterator<Uint8Array>;
}

/** A point-to-point interface of IP packets. */
export interface TunInterface extends FrameInterface {
  readonly type: "tun";
}

/** What a DHCP server has granted. */
export interface Lease {
  /** With its prefix. */
  address: string;
  router?: string;
  server: string;
  /** Seconds from the grant on. */
  seconds: number;
  nameServers: string[];
  domain?: string;
}

export interface ConfigureOptions {
  /** Whether to request an IPv4 address of a DHCP server; true if not given. */
  dhcp?: boolean;
  /** Whether to follow router advertisements, for an interface with `ipv6`; false if not given. */
  slaac?: boolean;
  /** Milliseconds to wait for the addresses at most; 30,000 if not given. */
  timeout?: number;
  signal?: AbortSignal;
}

/** An interface of Ethernet frames. */
export interface TapInterface extends FrameInterface {
  readonly type: "tap";
  readonly mac: string;
  /** The lease that `configure` got, or undefined. */
  readonly lease?: Lease;
  /** Finds addresses by DHCP, SLAAC or both, and resolves to all that the interface has then. */
  configure(options?: ConfigureOptions): Promise<readonly string[]>;
  /** Gives up what `configure` found, and releases the lease. */
  release(): Promise<void>;
}

/** A switch between taps, which has addresses of its own. */
export interface BridgeInterface extends CommonInterface {
  readonly type: "bridge";
  readonly mac: string;
  addPort(port: TapInterface): void;
  removePort(port: TapInterface): void;
}

export type NetworkInterface = LoopbackInterface | TunInterface | TapInterface | BridgeInterface;

/** The interfaces of a stack, in order of creation. */
export interface NetworkInterfaces extends Iterable<NetworkInterface> {
  createLoopback(options?: LoopbackInterfaceOptions): Promise<LoopbackInterface>;
  createTun(options?: TunInterfaceOptions): Promise<TunInterface>;
  createTap(options?: TapInterfaceOptions): Promise<TapInterface>;
  createBridge(options: BridgeInterfaceOptions): Promise<BridgeInterface>;
  remove(netInterface: NetworkInterface): Promise<void>;
}

// --- Sockets --------------------------------------------------------------------------------------------------------

/** An address with a port. A link-local address has the interface's name as its scope: "fe80::1%tap0". */
export interface SocketAddress {
  host: string;
  port: number;
}

export interface TcpConnectionOptions {
  /** An address or a name. */
  host: string;
  port: number;
  /** Own address; if not given, the one that the route suggests. */
  localHost?: string;
  /** Own port; if not given, an unpredictable one. */
  localPort?: number;
  /** Milliseconds after which it gives up; if not given, TCP decides. */
  timeout?: number;
  signal?: AbortSignal;
}

export interface TcpConnection {
  /** What arrives: a byte stream, so that it has BYOB readers. Its window opens as it is read. */
  readonly readable: ReadableStream<Uint8Array>;
  /** What is sent. Closing it sends FIN; reading goes on. */
  readonly writable: WritableStream<Uint8Array>;
  readonly localAddress: SocketAddress;
  readonly remoteAddress: SocketAddress;
  /** Closes both directions; what was written is still delivered. Later and pending reads fail. */
  close(): Promise<void>;
  /** Resets the connection. */
  abort(): void;
  /** Whether small segments leave at once; true from the start. */
  setNoDelay(enabled: boolean): void;
  /** Whether idle connections are probed, from so many milliseconds on. */
  setKeepAlive(enabled: boolean, idle?: number): void;
  [Symbol.asyncIterator](): AsyncIterator<Uint8Array>;
}

export interface TcpListenerOptions {
  /** Own address, or a name of one; if not given, all addresses. */
  host?: string;
  /** 0 for a free one: see the listener's `port`. */
  port: number;
  /** Connections that may wait to be accepted, 1 to 4,096; 128 if not given. */
  backlog?: number;
}

export interface TcpListener {
  readonly port: number;
  /** The next connection, which may have arrived before. */
  accept(): Promise<TcpConnection>;
  /** Stops listening: what was not accepted is reset, pending calls of `accept` fail, and iterations end. */
  close(): Promise<void>;
  [Symbol.asyncIterator](): AsyncIterableIterator<TcpConnection>;
}

export interface UdpDatagram {
  host: string;
  port: number;
  data: Uint8Array;
}

export interface UdpSocketOptions {
  /** Own address or group; if not given, all addresses. */
  host?: string;
  /** Own port; if not given, an unpredictable one. */
  port?: number;
  /** Whether other sockets may have the same address and port, as with SO_REUSEADDR. */
  reuseAddress?: boolean;
}

export interface UdpSocket {
  /** What arrives. 256 KiB wait for a reader at most; what is more is dropped and counted. */
  readonly readable: ReadableStream<UdpDatagram>;
  readonly writable: WritableStream<UdpDatagram>;
  readonly localAddress: SocketAddress;
  /** Datagrams dropped because nothing read. */
  readonly dropped: number;
  /** Sends one. Where it cannot be sent, only this call fails, and not the stream. */
  send(datagram: UdpDatagram): Promise<void>;
  /** Joins a group, by an interface or by the one of the route. */
  join(group: string, netInterface?: NetworkInterface): void;
  leave(group: string, netInterface?: NetworkInterface): void;
  /** By which interface datagrams to groups and to 255.255.255.255 leave; without, by that of the route. */
  setMulticastInterface(netInterface?: NetworkInterface): void;
  /** TTL or hop limit of datagrams to groups, 0 to 255. */
  setMulticastHops(hops: number): void;
  /** Whether the stack's own members of a group receive what is sent to it; true from the start. */
  setMulticastLoop(enabled: boolean): void;
  close(): Promise<void>;
  [Symbol.asyncIterator](): AsyncIterator<UdpDatagram>;
}

export interface PingSessionOptions {
  host: string;
  /** Milliseconds to wait for each reply; 1,000 if not given. */
  timeout?: number;
}

export interface PingProbeOptions {
  timeout?: number;
  /** 56 bytes if not given. */
  payload?: Uint8Array;
  /** TTL or hop limit, 1 to 255; 64 if not given. */
  hops?: number;
}

export interface PingReply {
  host: string;
  identifier: number;
  sequenceNumber: number;
  payload: Uint8Array;
  /** Milliseconds. */
  roundTripTime: number;
}

export interface PingSession {
  readonly host: string;
  readonly identifier: number;
  /** Sends an echo request, and resolves to the reply. Any number may be in flight. */
  ping(options?: PingProbeOptions): Promise<PingReply>;
  close(): Promise<void>;
}

// --- The stack ------------------------------------------------------------------------------------------------------

export interface RouteOptions {
  /** The destinations: "10.0.0.0/8", or "0.0.0.0/0" for the default. */
  network: string;
  /** The gateway; without, they are on the interface's link. */
  via?: string;
  /** What packets leave by; without, the interface whose network the gateway is in. */
  interface?: NetworkInterface;
  /** The lowest of equally long prefixes wins; 0 if not given. */
  metric?: number;
}

export interface Route {
  readonly network: string;
  readonly via?: string;
  readonly interface: NetworkInterface;
  readonly metric: number;
}

/** What a stack has counted. */
export interface StackStatistics {
  tcpSegmentsIn: number;
  tcpSegmentsOut: number;
  tcpRetransmissions: number;
  checksumErrors: number;
  malformed: number;
  protocolDrops: number;
  memoryErrors: number;
  heapUsed: number;
  connections: number;
  timeWait: number;
  handles: number;
  udpIn: number;
  udpOut: number;
  udpNoPort: number;
  udpDrops: number;
  fragmentsIn: number;
  fragmentsOut: number;
  fragmentDrops: number;
  icmpIn: number;
  icmpOut: number;
  icmpUnmatched: number;
  forwarded: number;
  forwardDrops: number;
  inconsistencies: number;
  synCookies: number;
  backlogDrops: number;
  icmpLimited: number;
  /** Bytes of linear memory. */
  memory: number;
}

export interface CloseOptions {
  /** Milliseconds to wait at most until the peers have acknowledged what was written to closed connections; 0 if not
   * given. */
  drain?: number;
}

/** A virtual host. Its methods are its own properties, so that `{...stack}` has them. */
export interface NetworkStack {
  readonly ready: Promise<void>;
  readonly interfaces: NetworkInterfaces;
  readonly tcp: {
    connect(options: TcpConnectionOptions): Promise<TcpConnection>;
    listen(options: TcpListenerOptions): Promise<TcpListener>;
  };
  readonly udp: { open(options?: UdpSocketOptions): Promise<UdpSocket> };
  readonly ping: { createSession(options: PingSessionOptions): Promise<PingSession> };
  createLoopbackInterface(options?: LoopbackInterfaceOptions): Promise<LoopbackInterface>;
  createTunInterface(options?: TunInterfaceOptions): Promise<TunInterface>;
  createTapInterface(options?: TapInterfaceOptions): Promise<TapInterface>;
  createBridgeInterface(options: BridgeInterfaceOptions): Promise<BridgeInterface>;
  /** Removes an interface of this stack; what is attached to it ends. */
  removeInterface(netInterface: NetworkInterface): Promise<void>;
  listenTcp(options: TcpListenerOptions): Promise<TcpListener>;
  connectTcp(options: TcpConnectionOptions): Promise<TcpConnection>;
  openUdp(options?: UdpSocketOptions): Promise<UdpSocket>;
  createPingSession(options: PingSessionOptions): Promise<PingSession>;
  /** The addresses of a name, or the address itself. */
  lookup(host: string): Promise<string[]>;
  /** Addresses of names that no server is asked for; "localhost" is one. */
  readonly hosts: Map<string, string[]>;
  addRoute(options: RouteOptions): Route;
  removeRoute(route: Pick<RouteOptions, "network" | "metric">): void;
  /** The routes that were added. */
  readonly routes: readonly Route[];
  /** Whether packets for other hosts are passed on; false from the start. */
  forwarding: boolean;
  stats(): StackStatistics;
  /** Whether the stack is gone. */
  readonly closed: boolean;
  /** Ends the stack with every pending call, and notifies the peers. Idempotent. */
  close(options?: CloseOptions): Promise<void>;
}
