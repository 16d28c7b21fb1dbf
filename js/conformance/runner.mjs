/**
 * Executes compiled scenarios of the conformance suite by calling the module directly, in Node and in browsers.
 *
 * conformance/runner.py does the same by the Python core, and its docstring has the order in which things happen. Both
 * make the same calls with the same bytes in the scratch and staging areas, so that the memories are equal as well.
 */

const MOST_STEPS = 200_000;
const encoder = new TextEncoder();

const fromHex = (text) => Uint8Array.from({ length: text.length / 2 }, (_, at) => parseInt(text.substr(2 * at, 2), 16));
const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** What an operation sends: hexadecimal, or the length and the salt of a pattern. */
function payload(data) {
  if (typeof data === "string") return fromHex(data);
  const [length, salt] = data;
  return Uint8Array.from({ length }, (_, at) => at * 31 + (at >> 8) * 7 + (at >> 16) + salt);
}

/** Chunks whose SHA-256 is taken at the end: the web's digest does not take them one by one. */
class Chunks {
  #chunks = [];
  length = 0;

  add(chunk) {
    this.#chunks.push(chunk.slice());
    this.length += chunk.length;
  }

  async digest() {
    const whole = new Uint8Array(this.length);
    let at = 0;
    for (const chunk of this.#chunks) {
      whole.set(chunk, at);
      at += chunk.length;
    }
    return toHex(new Uint8Array(await crypto.subtle.digest("SHA-256", whole)));
  }
}

/** A handle and its application, which reads what arrives unless it pauses, and writes what there is room for. */
function createSocket(name) {
  const flags = { holds: false, pauses: false, connected: false, finishes: false };
  return { name, events: [], received: new Chunks(), accepted: 0, unread: 0, queue: new Uint8Array(0), ...flags };
}

/** One instance of the module, by the calls and buffers of its ABI. */
class Host {
  handles = new Map();
  sockets = new Map();
  interfaces = new Map(); // by index, those that exist
  added = 0;
  last = new Uint8Array(0); // the latest frame that was sent
  hasWork = true;
  more = 0;
  deadline = Infinity; // microseconds

  constructor(module, abi, index, seed, now) {
    this.abi = abi;
    this.index = index;
    this.exports = new WebAssembly.Instance(module).exports;
    this.exports._initialize();
    this.control = this.exports.start(now / 1e6, BigInt(seed[0]), BigInt(seed[1])) / 4;
    this.scratch = this.word("SCRATCH");
  }

  // Growth detaches views, in any call, so they are made where they are used.
  get bytes() {
    return new Uint8Array(this.exports.memory.buffer);
  }
  get words() {
    return new Uint32Array(this.exports.memory.buffer);
  }
  word(name) {
    return this.words[this.control + this.abi.control[name]];
  }
  stage(data) {
    this.bytes.set(data, this.word("STAGING"));
  }

  addInterface(values, mac) {
    this.bytes.set(mac, this.scratch);
    const handle = this.exports.interface_add(...values);
    return { handle, block: this.exports.interface_block(handle) / 4 };
  }

  field(port, name) {
    return this.words[port.block + this.abi.interface_block[name]];
  }

  setField(port, name, value) {
    this.words[port.block + this.abi.interface_block[name]] = value;
  }

  /** Appends a frame to the receive buffer, and returns whether there was room. */
  receive(port, frame) {
    const used = this.field(port, "RECEIVE_LENGTH");
    const end = used + ((4 + frame.length + 3) & ~3);
    if (end > this.abi.limits.RECEIVE_CAPACITY) return false;
    const start = this.field(port, "RECEIVE_BUFFER") + used;
    this.words[start / 4] = frame.length;
    this.bytes.set(frame, start + 4);
    this.setField(port, "RECEIVE_LENGTH", end);
    return true;
  }

  /** Returns the frames of the transmit buffer, and empties it. */
  transmitted(port) {
    const start = this.field(port, "TRANSMIT_BUFFER");
    const end = start + this.field(port, "TRANSMIT_LENGTH");
    const frames = [];
    for (let at = start; at < end;) {
      const length = this.words[at / 4];
      frames.push(this.bytes.slice(at + 4, at + 4 + length));
      at += (4 + length + 3) & ~3;
    }
    this.setField(port, "TRANSMIT_LENGTH", 0);
    return frames;
  }

  poll(now) {
    const deadline = this.exports.poll(now);
    this.deadline = deadline === Infinity ? Infinity : Math.floor(deadline * 1e6) + 1;
    this.more = this.word("MORE") & (this.abi.more.NOW | this.abi.more.SOON);
  }

  events() {
    const start = this.word("EVENT_BUFFER");
    const whole = this.bytes.slice(start, start + this.word("EVENT_LENGTH"));
    const view = new DataView(whole.buffer);
    const events = [];
    for (let at = 0; at < whole.length;) {
      const [size, kind, handle, value] = [0, 4, 8, 12].map((offset) => view.getUint32(at + offset, true));
      const end = kind === this.abi.events.DATA.kind ? at + 16 + value : at + size;
      events.push([kind, handle, value, whole.subarray(at + 16, end)]);
      at += size;
    }
    return events;
  }
}

class Run {
  #scenario;
  #kinds;
  #dataAt = new Map();
  #now;
  #frames = new Chunks();
  #events = new Chunks();
  #hosts;
  #flying = [];
  #order = 0;
  #counts;
  #ends = new Map();
  #results = [];

  constructor(module, abi, scenario) {
    this.abi = abi;
    this.#scenario = scenario;
    this.#kinds = Object.fromEntries(Object.entries(abi.events).map(([name, event]) => [name, event.kind]));
    for (const event of Object.values(abi.events)) if (event.bytes) this.#dataAt.set(event.kind, event.data);
    this.#now = scenario.start;
    this.#hosts = scenario.hosts.map((seed, index) => new Host(module, abi, index, seed, this.#now));
    this.#counts = scenario.links.map(() => 0);
    scenario.links.forEach((link, number) =>
      link.ends.forEach((end, side) => this.#ends.set(end.join("."), [number, link.ends[1 - side]])),
    );
  }

  async run() {
    const operations = this.#scenario.operations;
    let done = 0;
    let steps = 0;
    while (steps < MOST_STEPS) {
      steps++;
      let busy = false;
      while (done < operations.length && operations[done].at <= this.#now) {
        this.#execute(operations[done++]);
        busy = true;
      }
      this.#deliver();
      for (const host of this.#hosts) {
        if (host.hasWork || host.more || host.deadline <= this.#now) {
          this.#poll(host);
          busy = true;
        }
      }
      if (busy) continue;
      const due = Math.min(
        ...this.#hosts.map((host) => host.deadline),
        done < operations.length ? operations[done].at : Infinity,
        this.#flying.length ? this.#flying[0].due : Infinity,
      );
      if (due > this.#scenario.until) break;
      this.#now = due;
    }
    return await this.#seen(steps);
  }

  async #seen(steps) {
    const memories = new Chunks();
    const seen = { results: this.#results, handles: {}, statistics: {}, interfaces: {}, steps };
    const counters = Object.keys(this.abi.interface_block).slice(4, 10);
    for (const host of this.#hosts) {
      const name = this.#scenario.names[host.index];
      host.exports.statistics();
      const at = host.word("STATISTICS") / 4;
      seen.statistics[name] = [...host.words.slice(at, at + this.abi.statistics.length)];
      for (const [index, port] of host.interfaces) {
        seen.interfaces[`${name}.${index}`] = counters.map((counter) => host.field(port, counter));
      }
      for (const socket of host.sockets.values()) {
        const received = [socket.received.length, await socket.received.digest()];
        seen.handles[`${name}.${socket.name}`] = { events: socket.events, received };
      }
      memories.add(host.bytes);
    }
    seen.digests = {};
    for (const [kind, chunks] of Object.entries({ frames: this.#frames, events: this.#events, memories })) {
      seen.digests[kind] = await chunks.digest();
    }
    return seen;
  }

  // --- Operations

  #execute(operation) {
    const { call, name } = operation;
    const host = this.#hosts[operation.host];
    const data = payload(operation.data ?? "");
    let result = 0;
    if (call === "interface") {
      const port = host.addInterface(operation.args, fromHex(operation.scratch));
      result = port.handle;
      host.handles.set(name, result);
      if (operation.args[0] !== this.abi.loopback) host.interfaces.set(host.added, port); // the module itself moves those frames
      host.sockets.set(result, createSocket(name));
      host.added++;
    } else if (call === "inject") {
      for (const [source, length, target] of operation.copy) {
        data.set(host.last.subarray(source, source + length), target);
      }
      const handle = host.handles.get(name);
      result = Number(
        host.receive(
          [...host.interfaces.values()].find((port) => port.handle === handle),
          data,
        ),
      );
    } else if (["write", "finish", "pause", "resume"].includes(call)) {
      result = this.#act(host, call, name, data);
    } else {
      result = this.#call(host, operation, data);
    }
    this.#results.push(result);
    this.#note(this.#events, `${this.#now} ${host.index} ${call} ${result}\n`);
    host.hasWork = true;
    this.#collect(host);
  }

  #act(host, call, name, data) {
    const socket = host.sockets.get(host.handles.get(name));
    if (socket === undefined) return this.abi.errors.BAD_HANDLE;
    const queue = new Uint8Array(socket.queue.length + data.length);
    queue.set(socket.queue);
    queue.set(data, socket.queue.length);
    socket.queue = queue;
    socket.finishes ||= call === "finish";
    if (call === "pause" || call === "resume") socket.pauses = call === "pause";
    this.#push(host, socket);
    this.#read(host, socket);
    return 0;
  }

  #call(host, operation, data) {
    const scratch = fromHex(operation.scratch);
    for (const [at, name] of operation.handles) {
      new DataView(scratch.buffer).setUint32(at, host.handles.get(name) ?? 0, true);
    }
    if (scratch.length) host.bytes.set(scratch, host.scratch);
    if (operation.data !== undefined) host.stage(data);
    const values = operation.args.map((value) =>
      value === "now" ? this.#now / 1e6 : typeof value === "string" ? (host.handles.get(value) ?? 0) : value,
    );
    const result = host.exports[operation.call](...values);
    if (operation.bind && result > 0) {
      host.handles.set(operation.name, result);
      const socket = createSocket(operation.name);
      socket.holds = operation.hold ?? false;
      host.sockets.set(result, socket);
    }
    if (operation.call === "interface_remove" && result >= 0) {
      for (const [index, port] of host.interfaces) if (port.handle === values[0]) host.interfaces.delete(index);
    }
    return operation.state === undefined ? result : host.words[host.scratch / 4];
  }

  #push(host, socket) {
    const handle = host.handles.get(socket.name);
    while (socket.connected && socket.queue.length) {
      const chunk = socket.queue.subarray(0, this.abi.limits.STAGING_CAPACITY);
      host.stage(chunk);
      const taken = host.exports.tcp_send(0, handle, chunk.length);
      if (taken < 0) return;
      socket.queue = socket.queue.subarray(taken);
      if (taken < chunk.length) return;
    }
    if (socket.connected && socket.finishes) {
      socket.finishes = false;
      host.exports.tcp_shutdown(handle);
    }
  }

  #read(host, socket) {
    if (!socket.unread || socket.pauses) return;
    host.exports.tcp_received(0, host.handles.get(socket.name), socket.unread);
    socket.unread = 0;
    host.hasWork = true;
  }

  // --- Polls and frames

  #poll(host) {
    const kinds = this.#kinds;
    host.hasWork = false;
    host.poll(this.#now / 1e6);
    for (const [kind, handle, value, payload] of host.events()) {
      this.#note(this.#events, `${this.#now} ${host.index} ${kind} ${handle} ${value} ${payload.length}\n`, payload);
      const socket = host.sockets.get(handle);
      if (socket === undefined) continue;
      if (![kinds.TRANSMIT, kinds.DATA, kinds.WRITABLE].includes(kind)) {
        socket.events.push([kind, this.#dataAt.has(kind) || kind === kinds.ACCEPTED ? 0 : value]);
      }
      if (this.#dataAt.has(kind)) {
        const at = this.#dataAt.get(kind);
        socket.received.add(payload.subarray(at, at + value));
      }
      if (kind === kinds.DATA) {
        socket.unread += value;
        this.#read(host, socket);
      } else if (kind === kinds.ACCEPTED) {
        const accepted = createSocket(`${socket.name}.${++socket.accepted}`);
        accepted.connected = true;
        host.handles.set(accepted.name, value);
        host.sockets.set(value, accepted);
        if (!socket.holds) host.exports.tcp_accepted(value);
      } else if (kind === kinds.CONNECTED || kind === kinds.WRITABLE) {
        socket.connected = true;
        this.#push(host, socket);
        host.hasWork = true;
      } else if (kind === kinds.CLOSED) {
        socket.connected = false;
      }
    }
    this.#collect(host);
  }

  #collect(host) {
    for (const [index, port] of host.interfaces) {
      if (!host.field(port, "TRANSMIT_LENGTH")) continue;
      const end = this.#ends.get(`${host.index}.${index}`);
      host.hasWork = true; // the buffer may have refused segments
      for (const frame of host.transmitted(port)) {
        host.last = frame;
        this.#note(this.#frames, `${this.#now} ${host.index} ${index} ${frame.length}\n`, frame);
        if (end !== undefined) this.#send(frame, ...end);
      }
    }
  }

  #send(frame, number, to) {
    const link = this.#scenario.links[number];
    const count = this.#counts[number]++;
    if (link.drop.includes(count) || (link.drop_every && count % link.drop_every === link.drop_every - 1)) return;
    if (link.down.some(([begin, end]) => begin <= this.#now && this.#now < end)) return;
    if (count in link.corrupt) {
      frame = frame.slice();
      frame[link.corrupt[count]] ^= 0xff;
    }
    const due = this.#now + link.delay + (link.late[count] ?? 0);
    const copies = link.double.includes(count) ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) this.#flying.push({ due, order: this.#order++, to, frame });
    this.#flying.sort((one, other) => one.due - other.due || one.order - other.order);
  }

  #deliver() {
    while (this.#flying.length && this.#flying[0].due <= this.#now) {
      const { to, frame } = this.#flying[0];
      const host = this.#hosts[to[0]];
      const port = host.interfaces.get(to[1]);
      if (port !== undefined && !host.receive(port, frame)) return; // after the next poll of this host
      this.#flying.shift();
      host.hasWork = true;
    }
  }

  #note(chunks, head, data = new Uint8Array(0)) {
    chunks.add(encoder.encode(head));
    chunks.add(data);
  }
}

/** Executes all scenarios, and returns what was seen, by name. */
export async function runSuite(suite, binary) {
  const module = new WebAssembly.Module(binary);
  const seen = {};
  for (const [name, scenario] of Object.entries(suite.scenarios)) {
    seen[name] = await new Run(module, suite.abi, scenario).run();
  }
  return seen;
}
