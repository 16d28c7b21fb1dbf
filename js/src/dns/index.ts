/**
 * A DNS server over a stack, which a function answers, and single queries to a server.
 *
 * Owns the queries that are being answered, at most `MOST_ANSWERING`: what comes above is dropped, and its client asks again.
 * Programs that connect by name need none of this: a stack resolves names itself.
 */

import { checkPort } from "../arguments.js";
import { type Datagrams, serveDatagrams, transportOf } from "../datagrams.js";
import { NameResolutionError } from "../errors.js";
import { type UdpDatagram } from "../types.js";
import * as messages from "./messages.js";
import { type DnsResponse, type DnsType } from "./messages.js";

export { ptrNameToIP } from "./messages.js";
export type { DnsResponse, DnsType } from "./messages.js";

const PORT = 53;
const MOST_ANSWERING = 1024;
/** Milliseconds that each try waits for its answer. */
const ROUNDS = [1000, 2000, 4000];
/** Forged or malformed datagrams of one try that are read. */
const MOST_BAD = 100;

export interface DnsQuery {
  name: string;
  type: DnsType;
}

/** Answers a query: a record, several, or undefined where there is no such name. What it throws is answered by SERVFAIL. */
export type RequestFn = (
  query: DnsQuery,
) => Promise<DnsResponse | DnsResponse[] | undefined> | DnsResponse | DnsResponse[] | undefined;

export interface DnsServerOptions {
  /** Own address; if not given, all addresses. */
  host?: string | undefined;
  /** 53 if not given. */
  port?: number | undefined;
  request: RequestFn;
}

export interface DnsServer {
  close(): Promise<void>;
}

export interface DnsClientOptions {
  /** The server's address; 127.0.0.1 if not given. */
  server?: string | undefined;
  /** 53 if not given. */
  port?: number | undefined;
}

export interface CreateDnsOptions {
  client?: DnsClientOptions | undefined;
}

export interface Dns {
  serve(options: DnsServerOptions): Promise<DnsServer>;
  /** Returns an IPv4 address of a name. @throws NameResolutionError: ENOTFOUND for a name without, EAI_AGAIN without an answer. */
  lookup(name: string): Promise<string>;
  /** Returns the name of an address. @throws NameResolutionError as `lookup` does. */
  reverse(ip: string): Promise<string>;
}

/** Makes DNS servers and queries of a stack, or of its `udp`. */
export async function createDns(stack: Datagrams, { client = {} }: CreateDnsOptions = {}): Promise<Dns> {
  const transport = transportOf(stack);
  const { server = "127.0.0.1", port: serverPort = PORT } = client;
  checkPort("port", serverPort, 1);

  /** Sends a query once, from a port of its own (RFC 5452), and returns its answer. */
  const ask = async (query: Uint8Array, milliseconds: number): Promise<messages.Answer | undefined> => {
    const socket = await transport.open();
    const timer = setTimeout(() => void socket.close(), milliseconds);
    try {
      await socket.send({ host: server, port: serverPort, data: query });
      let left = MOST_BAD;
      for await (const { host, port, data } of socket) {
        const answer = port === serverPort && host === server ? messages.readAnswer(data, query) : undefined;
        if (answer) return answer;
        if (!left--) break;
      }
    } catch {
      // It was closed by the timer, or nothing could be sent: the next try follows.
    } finally {
      clearTimeout(timer);
      await socket.close();
    }
    return undefined;
  };

  const query = async (name: string, type: DnsType): Promise<DnsResponse[]> => {
    for (const milliseconds of ROUNDS) {
      const id = crypto.getRandomValues(new Uint16Array(1))[0]!;
      const answer = await ask(messages.buildQuestion(id, name, type), milliseconds);
      if (!answer) continue;
      if (answer.code) {
        const code = answer.code === messages.NXDOMAIN ? "ENOTFOUND" : "EAI_AGAIN";
        throw new NameResolutionError(code, `dns query failed with rcode: ${messages.codeName(answer.code)}`);
      }
      return answer.records;
    }
    throw new NameResolutionError("EAI_AGAIN", `no name server answered for ${name}`);
  };

  return {
    async serve({ host, port = PORT, request }) {
      if (typeof request !== "function") throw new TypeError("request must be a function");
      const socket = await transport.open({ port, ...(host !== undefined && { host }) });
      let answering = 0;
      const answer = async (question: messages.Question): Promise<Uint8Array> => {
        const type = messages.typeOf(question.type);
        // Names may have records of types that are unknown here: no error, and no record (RFC 2308, section 2.2).
        if (!type) return messages.buildAnswer(question, messages.NOERROR, []);
        try {
          const found = await request({ name: question.name, type });
          if (!found) return messages.buildAnswer(question, messages.NXDOMAIN, []);
          return messages.buildAnswer(question, messages.NOERROR, Array.isArray(found) ? found : [found]);
        } catch (error) {
          console.error(`the request function failed for ${type} ${question.name}:`, error);
          return messages.buildAnswer(question, messages.SERVFAIL, []);
        }
      };
      const receive = async ({ host: client, port: clientPort, data }: UdpDatagram): Promise<void> => {
        const question = messages.readQuestion(data);
        if (question === undefined || answering >= MOST_ANSWERING) return;
        answering++;
        try {
          const reply = typeof question === "number" ? messages.buildError(data, question) : await answer(question);
          await socket.send({ host: client, port: clientPort, data: reply });
        } catch {
          // Lost, as any datagram may be.
        } finally {
          answering--;
        }
      };
      void serveDatagrams(socket, (datagram) => void receive(datagram));
      return { close: () => socket.close() };
    },
    async lookup(name) {
      const found = (await query(name, "A")).find((record) => record.type === "A");
      if (!found) throw new NameResolutionError("ENOTFOUND", `no A record found for ${name}`);
      return found.ip;
    },
    async reverse(ip) {
      const found = (await query(messages.ptrName(ip), "PTR")).find((record) => record.type === "PTR");
      if (!found) throw new NameResolutionError("ENOTFOUND", `no PTR record found for ${ip}`);
      return found.ptr;
    },
  };
}
