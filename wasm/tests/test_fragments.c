/* Reassembly: datagrams from fragments in any order, overlaps, contradictions, and floods of fragments that complete
   nothing. */
#include "support.h"
#include "port/heap.h"

#include "lwip/stats.h"

#include <string.h>

static int32_t interface, socket;
static struct packet whole, part;
static uint8_t data[65507];

static void open_all(void) {
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  CHECK_EQUAL(interface_set_ipv6(interface, HOST6), 0);
  socket = udp_socket_open(ABI_FAMILY_ANY, NULL, 53);
  pattern_fill(data, sizeof data, 0);
  host_poll();
  frames_forget();
}

static void close_all(void) {
  CHECK_EQUAL(abi_udp_close(socket), 0);
  host_advance(70 * (int64_t)SECOND); /* the ICMP errors about timed-out datagrams need the interface */
  frames_forget();
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

static void build(int32_t family, uint32_t length) {
  bool four = family == ABI_FAMILY_IPV4;
  struct datagram sent = {.family = family,
                          .from = four ? PEER4 : PEER6,
                          .to = four ? HOST4 : HOST6,
                          .from_port = 4000,
                          .to_port = 53,
                          .data = data,
                          .length = length};
  packet_udp(&whole, &sent);
}

static void deliver(void) {
  interface_receive(interface, part.bytes, part.length);
  host_poll();
}

static bool deliver_part(uint32_t size, uint32_t number, uint16_t identification) {
  bool there = packet_fragment(&part, &whole, size, number, identification);
  if (there) {
    deliver();
  }
  return there;
}

static void expect_complete(uint32_t length) {
  struct datagram there = datagram_expect(socket);
  CHECK_EQUAL(there.length, length);
  pattern_check(there.data, length, 0);
  event_expect_none();
}

static uint32_t drops(void) {
  abi_statistics();
  return lwip_stats.ip_frag.drop + lwip_stats.ip6_frag.drop;
}

static void datagrams_are_complete_in_any_order(void) {
  open_all();
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    uint32_t most = family == ABI_FAMILY_IPV4 ? ABI_MAX_DATAGRAM : ABI_MAX_DATAGRAM6;
    const uint32_t lengths[] = {1, 9, 1473, 4000, 20000, most};
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
      uint32_t length = lengths[i], size = length < 100 ? 8 : 1440, parts = (length + 8 + size - 1) / size;
      build(family, length);
      for (uint32_t n = 0; n < parts; n++) {
        CHECK(deliver_part(size, n, 1));
      }
      expect_complete(length);
      for (uint32_t n = parts; n > 0; n--) {
        CHECK(deliver_part(size, n - 1, 2));
      }
      expect_complete(length);
      for (uint32_t n = 0; n < parts; n++) { /* shuffled, and each twice */
        deliver_part(size, (n * 7919) % parts, 3);
        if (n + 1 < parts) {
          deliver_part(size, (n * 7919) % parts, 3);
        }
      }
      if (parts % 7919 != 0) {
        expect_complete(length);
      }
    }
  }
  close_all();
}

/* Overlapping fragments are dropped and counted; the others complete the datagram. */
static void overlaps_are_dropped(void) {
  open_all();
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    build(family, 400);
    uint32_t before = drops();
    deliver_part(80, 0, 5);
    deliver_part(80, 2, 5);
    deliver_part(160, 0, 5);
    deliver_part(160, 1, 5);
    deliver_part(96, 1, 5);
    deliver_part(8, 5, 5);
    CHECK_EQUAL(drops(), before + 4);
    deliver_part(80, 1, 5);
    deliver_part(80, 3, 5);
    deliver_part(80, 4, 5);
    event_expect_none();
    deliver_part(80, 5, 5);
    expect_complete(400);
  }
  close_all();
}

/* A raw fragment at a byte offset, with or without the flag "more fragments". */
static void raw(int32_t family, uint32_t at, uint32_t length, bool more, uint16_t identification) {
  static uint8_t payload[PACKET_CAPACITY];
  if (family == ABI_FAMILY_IPV4) {
    packet_ip(&part, family, PEER4, HOST4, 0, data, length);
    part.bytes[9] = PROTOCOL_UDP;
    put16(part.bytes + 4, identification);
    put16(part.bytes + 6, (more ? 0x2000u : 0) | at / 8);
    put16(part.bytes + 10, 0);
    put16(part.bytes + 10, (uint16_t)~reference_checksum(part.bytes, 20, 0));
  } else {
    memset(payload, 0, 8);
    payload[0] = PROTOCOL_UDP;
    put16(payload + 2, at | more);
    put32(payload + 4, identification);
    memcpy(payload + 8, data, length);
    packet_ip(&part, family, PEER6, HOST6, 44, payload, 8 + length);
  }
  deliver();
}

static void contradicting_fragments_are_dropped(void) {
  open_all();
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    uint32_t before = drops();
    raw(family, 800, 0, true, 1); /* without payload, of both kinds */
    raw(family, 800, 0, false, 1);
    raw(family, 65528, 1400, true, 2); /* beyond the largest datagram */
    raw(family, 65528, 1400, false, 2);
    raw(family, 64400, 1400, true, 2);
    raw(family, 64400, 1400, false, 2);
    CHECK_EQUAL(drops(), before + 6);
    raw(family, 800, 80, false, 3); /* the last fragment */
    before = drops();
    raw(family, 880, 80, true, 3); /* data behind the end */
    raw(family, 800, 88, false, 3); /* another end */
    raw(family, 400, 80, false, 3);
    CHECK_EQUAL(drops(), before + 3);
    raw(family, 1600, 80, true, 4);
    before = drops();
    raw(family, 800, 80, false, 4); /* an end before data that is there already */
    CHECK_EQUAL(drops(), before + 1);
    if (family == ABI_FAMILY_IPV4) {
      raw(family, 0, 81, true, 5); /* the next fragment would have an offset that is no multiple of 8 */
      CHECK_EQUAL(drops(), before + 2);
    }
  }
  event_expect_none();
  close_all();
}

/* An IPv6 packet whose first fragment has more headers than the others, in total longer than lwIP's 16-bit length. */
static void headers_longer_than_a_packet_are_dropped(void) {
  static uint8_t payload[PACKET_CAPACITY];
  open_all();
  uint32_t at = 0, step = 1440, end = 65488;
  for (at = step; at + step < end; at += step) {
    raw(ABI_FAMILY_IPV6, at, step, true, 9);
  }
  raw(ABI_FAMILY_IPV6, at, end - at, false, 9);
  memset(payload, 0, 80);
  payload[0] = 44; /* destination options of 64 bytes, then the fragment header */
  payload[1] = 7;
  payload[2] = 1;
  payload[3] = 60;
  payload[64] = PROTOCOL_UDP;
  put16(payload + 66, 1);
  put32(payload + 68, 9);
  packet_ip(&part, ABI_FAMILY_IPV6, PEER6, HOST6, 60, payload, 72 + step);
  deliver();
  event_expect_none();
  close_all();
}

/* Ten thousand first fragments: memory stays bounded, dropped ones are counted, and all memory is freed after the time-out. */
static void incomplete_datagrams_are_bounded(void) {
  open_all();
  uint32_t base = tw_heap_used(), most = 0;
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    uint32_t before = drops();
    for (uint32_t i = 0; i < 10000; i++) {
      raw(family, i % 3 * 800, 1400 / 8 * 8, true, (uint16_t)i);
      most = LWIP_MAX(most, tw_heap_used() - base);
      frames_forget();
    }
    CHECK(drops() - before >= 9800);
  }
  CHECK(most < 2 * 128 * 2048);
  for (uint32_t i = 0; i < 5000; i++) { /* and of one datagram */
    raw(ABI_FAMILY_IPV4, i * 8, 8, true, 1);
    raw(ABI_FAMILY_IPV6, i * 8, 8, true, 1);
    most = LWIP_MAX(most, tw_heap_used() - base);
  }
  CHECK(most < 2 * 128 * 2048);
  build(ABI_FAMILY_IPV4, 3000); /* a complete datagram is delivered meanwhile */
  for (uint32_t n = 0; deliver_part(1440, n, 77); n++) {
  }
  expect_complete(3000);
  host_advance(70 * (int64_t)SECOND);
  frames_forget();
  CHECK_EQUAL(tw_heap_used(), base);
  close_all();
}

/* The header of a reassembled packet has the total length: an ICMP error that quotes it, here Port Unreachable, shows it. */
static void reassembled_headers_have_the_total_length(void) {
  open_all();
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    bool four = family == ABI_FAMILY_IPV4;
    build(family, 300);
    whole.bytes[(four ? 20 : 40) + 3] = 54; /* port 54 instead of 53, and its checksum */
    uint8_t *sum = whole.bytes + (four ? 20 : 40) + 6;
    put16(sum, get16(sum) - 1);
    for (uint32_t n = 0; deliver_part(152, n, 6); n++) {
    }
    struct frame error = frame_next();
    CHECK(error.length >= (four ? 20u + 8 + 28 : 40u + 8 + 48));
    const uint8_t *quoted = error.bytes + (four ? 28 : 48);
    if (four) {
      CHECK_EQUAL(get16(quoted + 2), 20 + 8 + 300);
      CHECK_EQUAL(get16(quoted + 6), 0);
    } else {
      CHECK_EQUAL(get16(quoted + 4), 8 + 300);
      CHECK_EQUAL(quoted[6], PROTOCOL_UDP);
    }
  }
  close_all();
}

/* Each allocation fails once, alone or with all that follow, while fragments arrive, are evicted or time out, and while errors
   about them are sent. No datagram stays in the table without a fragment. */
static void failing_allocations_leak_no_fragments(void) {
  open_all();
  uint32_t base = tw_heap_used();
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    for (int once = 0; once <= 1; once++) {
      for (int64_t allocation = 0; allocation < 40; allocation++) {
        build(family, 3000);
        allocations_fail_once = once;
        allocations_left = allocation;
        for (uint16_t identification = 1; identification <= 8; identification++) {
          deliver_part(1440, 0, identification);
          deliver_part(1440, 2, identification);
        }
        for (uint32_t n = 0; n < 3; n++) {
          deliver_part(1440, n, 9);
        }
        while (event_next().kind != 0) {
        }
        host_advance(70 * (int64_t)SECOND);
        allocations_left = -1;
        frames_forget();
        while (event_next().kind != 0) {
        }
        CHECK_EQUAL(tw_heap_used(), base);
        for (uint32_t n = 0; n < 3; n++) {
          deliver_part(1440, n, 10);
        }
        expect_complete(3000);
      }
    }
  }
  close_all();
}

static void random_fragments_do_not_break_reassembly(void) {
  open_all();
  for (int i = 0; i < 60000; i++) {
    uint32_t at = random_next() % 8 == 0 ? random_next() % 65536 & ~7u : random_next() % 4096 & ~7u;
    raw(random_next() % 2 ? ABI_FAMILY_IPV4 : ABI_FAMILY_IPV6, at, random_next() % 1400, random_next() % 3 != 0,
        (uint16_t)(random_next() % 8));
    while (event_next().kind != 0) {
    }
    frames_forget();
    if (i % 1000 == 0) {
      host_advance(random_next() % 20 * (int64_t)SECOND);
    }
  }
  close_all();
}

/* Extension headers of more than 32,767 bytes, which a signed 16-bit length cannot hold: before a fragment that stays alone,
   before one whose datagram is completed, and before a datagram to a closed port. */
static void extension_headers_beyond_32767_bytes(void) {
  enum { OPTIONS = 2048, HEADERS = 17, BEFORE = OPTIONS * HEADERS };
  static uint8_t payload[BEFORE + 8 + 16];
  for (int way = 0; way < 4; way++) { /* 1: the remaining fragment comes, too; 2: not fragmented */
    open_all();
    memset(payload, 0, sizeof payload);
    for (uint32_t i = 0; i < HEADERS; i++) {
      uint8_t *header = payload + i * OPTIONS;
      header[0] = i + 1 < HEADERS ? 60 : way & 2 ? PROTOCOL_UDP : 44;
      header[1] = OPTIONS / 8 - 1;
      for (uint32_t at = 2; at < OPTIONS; at += header[at + 1] + 2u) {
        header[at] = 1; /* PadN */
        header[at + 1] = (uint8_t)LWIP_MIN(OPTIONS - at - 2, 255);
        if (OPTIONS - at - 2 - header[at + 1] == 1) {
          header[at + 1]--;
        }
      }
    }
    uint8_t *last = payload + BEFORE;
    uint32_t length = BEFORE + 16;
    if (way & 2) {
      put16(last, 4000);
      put16(last + 2, way & 1 ? 53 : 54);
      put16(last + 4, 16);
      put16(last + 6, (uint16_t)(~0u)); /* a wrong checksum, unless it is corrected below */
    } else {
      last[0] = PROTOCOL_UDP;
      put16(last + 2, 1); /* more fragments follow */
      put32(last + 4, 77);
      put16(last + 8, 4000);
      put16(last + 10, 53);
      put16(last + 12, 16);
    }
    packet_ip(&part, ABI_FAMILY_IPV6, PEER6, HOST6, 60, payload, length);
    CHECK_EQUAL(abi_interface_checksums(interface, 0), 0); /* the checksum does not matter here */
    deliver();
    if (way == 1) {
      static const uint8_t rest[16] = {PROTOCOL_UDP, 0, 0, 8, 0, 0, 0, 77, 1, 2, 3, 4, 5, 6, 7, 8};
      packet_ip(&part, ABI_FAMILY_IPV6, PEER6, HOST6, 44, rest, sizeof rest);
      deliver();
      CHECK_EQUAL(datagram_expect(socket).length, 8);
    } else if (way == 3) {
      CHECK_EQUAL(datagram_expect(socket).length, 8);
    } else {
      host_advance(70 * (int64_t)SECOND);
      struct frame frame = frame_next();
      CHECK_EQUAL(frame.length, 1280); /* RFC 4443, section 3: as much of the packet as fits */
      CHECK_EQUAL(frame.bytes[40], way == 0 ? 3 : 1); /* time exceeded, or unreachable */
      CHECK(memcmp(frame.bytes + 48, part.bytes, 1280 - 48) == 0);
    }
    close_all();
  }
}

int main(void) {
  host_start();
  host_reserve_handles(64);
  RUN(datagrams_are_complete_in_any_order);
  RUN(overlaps_are_dropped);
  RUN(contradicting_fragments_are_dropped);
  RUN(headers_longer_than_a_packet_are_dropped);
  RUN(incomplete_datagrams_are_bounded);
  RUN(reassembled_headers_have_the_total_length);
  RUN(failing_allocations_leak_no_fragments);
  RUN(random_fragments_do_not_break_reassembly);
  RUN(extension_headers_beyond_32767_bytes);
  return 0;
}
