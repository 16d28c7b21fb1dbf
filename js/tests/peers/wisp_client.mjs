// The Wisp client of wisp-js, driven by a test.

import { createHash, randomBytes } from "node:crypto";
import { client, extensions } from "@mercuryworkshop/wisp-js/client";
import { serveCalls } from "./lines.mjs";

const { MOTDExtension, PasswordAuthExtension, UDPExtension } = extensions;

let connection;
const streams = new Map();

/** What has arrived on a stream, and how it ended. */
class Stream {
  hash = createHash("sha256");
  size = 0;
  messages = [];
  reason = null;
  #changed = () => {};

  constructor(stream, keep) {
    this.stream = stream;
    stream.onmessage = (data) => {
      this.hash.update(data);
      this.size += data.length;
      if (keep) this.messages.push(Buffer.from(data).toString("hex"));
      this.#changed();
    };
    stream.onclose = (reason) => {
      this.reason = reason;
      this.#changed();
    };
  }

  async until(condition) {
    while (!condition()) await new Promise((resolve) => (this.#changed = resolve));
    return { size: this.size, reason: this.reason, sha256: this.hash.copy().digest("hex") };
  }
}

await serveCalls({
  /** Connects, and returns what the handshake gave; `closed` is true where the server ended it. */
  connect({ url, version, password }) {
    const options = { wisp_version: version };
    if (password) {
      const [username, word] = password;
      options.wisp_extensions = [
        new UDPExtension({ client_config: {} }),
        new MOTDExtension({ client_config: {} }),
        new PasswordAuthExtension({ client_config: { username, password: word } }),
      ];
    }
    connection = new client.ClientConnection(url, options);
    return new Promise((resolve) => {
      connection.onopen = () =>
        resolve({
          version: connection.wisp_version,
          udp: connection.udp_enabled,
          motd: connection.server_motd ?? null,
          credit: connection.max_buffer_size,
          extensions: Object.keys(connection.server_exts).map(Number),
        });
      connection.onclose = connection.onerror = () => resolve({ closed: true });
    });
  },

  open({ host, port, type = "tcp" }) {
    const stream = connection.create_stream(host, port, type);
    streams.set(stream.stream_id, new Stream(stream, type === "udp"));
    return stream.stream_id;
  },

  /** Hands random bytes to a stream at once, in packets of a size, and returns their SHA-256. */
  send({ stream, size, packet }) {
    const data = randomBytes(size);
    for (let at = 0; at < size; at += packet) streams.get(stream).stream.send(data.subarray(at, at + packet));
    return createHash("sha256").update(data).digest("hex");
  },

  sendText({ stream, text }) {
    streams.get(stream).stream.send(Buffer.from(text));
  },

  /** Returns how many packets of a stream wait for credit. */
  waiting: ({ stream }) => streams.get(stream).stream.send_buffer.length,

  /** Waits until a stream has received so many bytes, or has ended. */
  received({ stream, size }) {
    const one = streams.get(stream);
    return one.until(() => one.size >= size || one.reason !== null);
  },

  /** Waits for so many datagrams. */
  async datagrams({ stream, count }) {
    const one = streams.get(stream);
    await one.until(() => one.messages.length >= count || one.reason !== null);
    return one.messages;
  },

  /** Waits until a stream has ended. */
  ended({ stream }) {
    const one = streams.get(stream);
    return one.until(() => one.reason !== null);
  },

  close: ({ stream }) => streams.get(stream).stream.close(0x02),

  /** Reads no more of the WebSocket. */
  pause: () => connection.ws.pause(),
  resume: () => connection.ws.resume(),
});
