/** The options of a DHCP message that a resolver needs (RFC 2132). */

import { FAMILY_IPV4 } from "../abi.js";
import { formatAddress } from "../addresses.js";
import type { Lease } from "../types.js";

/** Fixed fields and the magic cookie (RFC 2131, section 2). */
const OPTIONS = 240;
const PAD = 0;
const NAME_SERVERS = 6;
const DOMAIN = 15;
const END = 255;

/** Returns the name servers and the domain that a message has. It comes from a server that may be an attacker's. */
export function readDhcpOptions(message: Uint8Array): Pick<Lease, "nameServers" | "domain"> {
  const found: Pick<Lease, "nameServers" | "domain"> = { nameServers: [] };
  for (let at = OPTIONS; at < message.length && message[at] !== END;) {
    const code = message[at++]!;
    if (code === PAD) continue;
    const length = message[at++] ?? 0;
    const value = message.subarray(at, (at += length));
    if (value.length < length) break;
    if (code === NAME_SERVERS) {
      for (let i = 0; i + 4 <= length; i += 4)
        found.nameServers.push(formatAddress({ family: FAMILY_IPV4, bytes: value.subarray(i, i + 4) }));
    } else if (code === DOMAIN) {
      const text = new TextDecoder().decode(value).replace(/\0+$/, "");
      if (/^[\w.-]+$/.test(text)) found.domain = text;
    }
  }
  return found;
}
