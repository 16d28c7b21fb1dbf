// Compiled, not run: what programs that know tcpip.js's types write.

import {
  connect,
  connectStreams,
  createStack,
  IcmpError,
  NetworkError,
  type BridgeInterface,
  type LoopbackInterface,
  type NetworkInterface,
  type NetworkStack,
  type PingReply,
  type PingSession,
  type TapInterface,
  type TapInterfaceOptions,
  type TcpConnection,
  type TcpConnectionOptions,
  type TcpListener,
  type TcpListenerOptions,
  type TunInterface,
  type UdpDatagram,
  type UdpSocket,
  type UdpSocketOptions,
} from "tcpip-wasm";

const stack: NetworkStack = await createStack({ initializeLoopback: false, nameServer: { ip: "127.0.0.1", port: 53 } });
const loopback: LoopbackInterface = await stack.createLoopbackInterface({ ip: "127.0.0.1/8" });
const tun: TunInterface = await stack.createTunInterface({ ip: "192.168.1.1/24" });
const options: TapInterfaceOptions = { mac: "01:23:45:67:89:ab", ip: "192.168.1.1/24" };
const tap: TapInterface = await stack.createTapInterface(options);
const port: TapInterface = await stack.createTapInterface();
const bridge: BridgeInterface = await stack.createBridgeInterface({ ports: [port], ip: "192.168.2.1/24" });
const all: NetworkInterface[] = [...stack.interfaces];
for (const each of all) {
  if (each.type === "tap") each.mac satisfies string;
  each.ip satisfies string | undefined;
}
const readable: ReadableStream<Uint8Array> = tap.readable;
const writable: WritableStream<Uint8Array> = tun.writable;
const iterator: AsyncIterableIterator<Uint8Array> = tap.listen();
connect(tap, port);
// @ts-expect-error: a tap and a tun
connect(tap, tun);
connectStreams(tap, { readable, writable }, { transformAtoB: (chunk) => chunk });

const { connectTcp } = { ...stack };
const connecting: TcpConnectionOptions = { host: "192.168.1.2", port: 80 };
const connection: TcpConnection = await connectTcp(connecting);
const listening: TcpListenerOptions = { port: 80 };
const listener: TcpListener = await stack.listenTcp(listening);
for await (const accepted of listener) {
  accepted satisfies TcpConnection;
  for await (const chunk of accepted) chunk satisfies Uint8Array;
}
const byob: ReadableStreamBYOBReader = connection.readable.getReader({ mode: "byob" });
const binding: UdpSocketOptions = { host: "0.0.0.0", port: 53 };
const socket: UdpSocket = await stack.openUdp(binding);
for await (const datagram of socket) datagram satisfies UdpDatagram;
const session: PingSession = await stack.createPingSession({ host: "192.168.1.2", timeout: 500 });
const reply: PingReply = await session.ping({ payload: new Uint8Array(8), timeout: 100 });
reply.roundTripTime satisfies number;
try {
  await connection.close();
} catch (error) {
  if (error instanceof NetworkError) error.code satisfies string;
  if (error instanceof IcmpError) error.reporter satisfies string;
}
await stack.removeInterface(bridge);
await stack.close({ drain: 1000 });
export { byob, iterator, loopback };
