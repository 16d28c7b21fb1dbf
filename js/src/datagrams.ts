/** What services over UDP need: a stack, or its `udp`, and a loop over what arrives. */

import { type UdpDatagram, type UdpSocket, type UdpSocketOptions } from "./types.js";

/** A stack's `udp`, or anything else that opens such sockets. */
export interface DatagramTransport {
  open(options?: UdpSocketOptions): Promise<UdpSocket>;
}

/** A stack, or its `udp`. */
export type Datagrams = DatagramTransport | { readonly udp: DatagramTransport };

export const transportOf = (given: Datagrams): DatagramTransport => ("udp" in given ? given.udp : given);

/** Calls `receive` with each datagram until the socket is closed or its stack ends. An error of one ends no other. */
export async function serveDatagrams(socket: UdpSocket, receive: (datagram: UdpDatagram) => void): Promise<void> {
  try {
    for await (const datagram of socket) receive(datagram);
  } catch {
    // The socket is closed.
  }
}
