/* Unpredictable choices, all derived from the seed that the embedder passed: SipHash-2-4 (Aumasson and Bernstein, 2012) as a
   keyed hash of the purpose of a choice, or of a counter where it has none in particular. */
#include "port/random.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/address_codec.h"
#include "abi/module.h"
#include "port/in_place.h"

#include <string.h>

static uint64_t key_low, key_high, counter;

static inline IN_PLACE uint64_t rotate(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

static void sip_round(uint64_t v[4]) {
  v[0] += v[1];
  v[2] += v[3];
  v[1] = rotate(v[1], 13) ^ v[0];
  v[3] = rotate(v[3], 16) ^ v[2];
  v[0] = rotate(v[0], 32);
  v[2] += v[1];
  v[0] += v[3];
  v[1] = rotate(v[1], 17) ^ v[2];
  v[3] = rotate(v[3], 21) ^ v[0];
  v[2] = rotate(v[2], 32);
}

static void sip_absorb(uint64_t v[4], uint64_t word) {
  v[3] ^= word;
  sip_round(v);
  sip_round(v);
  v[0] ^= word;
}

uint64_t tw_random_keyed(const void *message, uint32_t length) {
  const uint8_t *bytes = message;
  uint64_t v[4] = {key_low ^ 0x736f6d6570736575, key_high ^ 0x646f72616e646f6d, key_low ^ 0x6c7967656e657261,
                   key_high ^ 0x7465646279746573};
  uint64_t word, last = (uint64_t)length << 56;
  for (; length >= 8; length -= 8, bytes += 8) {
    memcpy(&word, bytes, 8);
    sip_absorb(v, word);
  }
  for (uint32_t i = 0; i < length; i++) {
    last |= (uint64_t)bytes[i] << (8 * i);
  }
  sip_absorb(v, last);
  v[2] ^= 0xff;
  for (int i = 0; i < 4; i++) {
    sip_round(v);
  }
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void tw_random_seed(uint64_t low, uint64_t high) {
  key_low = low;
  key_high = high;
  counter = 0;
}

uint32_t tw_random_u32(void) {
  counter++;
  return (uint32_t)tw_random_keyed(&counter, sizeof counter);
}

enum { BEYOND = 65536 }; /* of the old sequence numbers the peer may still have segments of up to a window */

static uint32_t latest_ports, latest_sequence; /* of the connection that has left TIME-WAIT, or ended without, last */

/* LWIP_HOOK_TCP_TIMEWAIT_ENDS */
void tw_tcp_sequence_numbers_after(uint16_t local_port, uint16_t remote_port, uint32_t sequence) {
  latest_ports = (uint32_t)local_port << 16 | remote_port;
  latest_sequence = sequence;
}

/* RFC 6528, section 3: a clock of 4 microseconds plus a keyed hash of the four-tuple. A transfer may be faster than the clock:
   what follows it with the same ports is beyond it. */
uint32_t tw_tcp_initial_sequence_number(const ip_addr_t *local, uint16_t local_port, const ip_addr_t *remote,
                                        uint16_t remote_port) {
  struct abi_endpoint message[2];
  tw_address_write(&message[0], local, local_port);
  tw_address_write(&message[1], remote, remote_port);
  uint32_t number = (uint32_t)(tw_now / 4) + (uint32_t)tw_random_keyed(message, sizeof message);
  bool follows = latest_ports == ((uint32_t)local_port << 16 | remote_port);
  return follows && (int32_t)(number - latest_sequence) <= BEYOND ? latest_sequence + BEYOND : number;
}

/* RFC 6864, section 4.3, and RFC 7739, section 5.4, which IPv4 can use, too: a keyed offset for each destination, and some
   counters that destinations share, so that a receiver cannot derive from its numbers how many others get. */
uint16_t tw_ip4_identification(const struct ip4_addr *destination) {
  static uint16_t counters[64];
  static uint32_t latest;
  static uint64_t hash; /* of the latest destination: they come in runs */
  uint32_t address = destination->addr;
  if (address != latest || hash == 0) {
    hash = tw_random_keyed(&address, sizeof address);
    latest = address;
  }
  return (uint16_t)(hash + counters[hash >> 58]++);
}
