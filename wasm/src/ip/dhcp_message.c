/* The wire format of DHCP. What is written has a fixed form. What is read may come from any host of the link, and is used only
   if all its options are where their lengths say. */
#include "ip/dhcp_message.h"

#include "ip/dhcp_client.h"
#include "lwip/def.h"
#include "lwip/netif.h"
#include "lwip/pbuf.h"
#include "lwip/prot/ethernet.h"

#include <stddef.h>
#include <string.h>

enum {
  PAD = 0,
  MASK = 1,
  ROUTER = 3,
  NAME_SERVERS = 6,
  DOMAIN = 15,
  BROADCAST = 28,
  ADDRESS = 50,
  LEASE = 51,
  OVERLOAD = 52,
  TYPE = 53,
  SERVER = 54,
  WANTED = 55,
  LARGEST = 57,
  RENEWAL = 58,
  REBINDING = 59,
  SEARCH = 119,
  END = 255,
};
enum {
  HEAD = sizeof(struct dhcp_message),
  NAME_AT = offsetof(struct dhcp_message, server_name),
  FILE_AT = offsetof(struct dhcp_message, file),
  COOKIE_AT = offsetof(struct dhcp_message, cookie),
  SENT = HEAD + 60, /* RFC 1542, section 2.1: the messages of BOOTP have 300 bytes */
};

#define COOKIE 0x63825363u

/* The options that are read, in the order of the fields of dhcp_answer; those from TYPE on have one byte, the others four. */
static const uint8_t options_read[] = {MASK, ROUTER, SERVER, LEASE, RENEWAL, REBINDING, TYPE, OVERLOAD};
enum { FIRST_TIME = 3, FIRST_BYTE = 6 };

static uint8_t *add(uint8_t *at, uint8_t option, uint8_t length, const void *value) {
  at[0] = option;
  at[1] = length;
  memcpy(at + 2, value, length);
  return at + 2 + length;
}

/* RFC 2131, table 5. */
struct pbuf *tw_dhcp_message_write(const struct dhcp_client *client, uint8_t type) {
  static const uint8_t wanted[] = {
      LARGEST, 2,      DHCP_RECEIVED >> 8, DHCP_RECEIVED & 255, WANTED, 6,
      MASK,    ROUTER, BROADCAST,          NAME_SERVERS,        DOMAIN, SEARCH}; /* the embedder reads the last four */
  bool bound = dhcp_client_is_bound(client), named = !bound && type != DHCP_DISCOVER;
  struct pbuf *packet = pbuf_alloc(PBUF_TRANSPORT, SENT, PBUF_RAM);
  if (packet == NULL) {
    return NULL;
  }
  struct dhcp_message *message = packet->payload;
  memset(message, 0, SENT);
  message->operation = message->hardware = 1;
  message->hardware_length = ETH_HWADDR_LEN;
  message->transaction = client->transaction;
  memcpy(message->hardware_address, client->netif->hwaddr, ETH_HWADDR_LEN);
  message->cookie = PP_HTONL(COOKIE);
  uint8_t *at = (uint8_t *)(message + 1);
  *at++ = TYPE;
  *at++ = 1;
  *at++ = type;
  if (bound) {
    message->client = client->lease.address.addr;
  }
  if (named) {
    at = add(at, ADDRESS, 4, &client->lease.address);
  }
  if (named || type == DHCP_RELEASE) {
    at = add(at, SERVER, 4, &client->lease.server);
  }
  if (type <= DHCP_REQUEST) {
    message->seconds = lwip_htons(client->seconds);
    memcpy(at, wanted, sizeof wanted);
    at += sizeof wanted;
  }
  *at = END;
  return packet;
}

static bool read_option(struct dhcp_answer *answer, uint8_t option, const uint8_t *at, uint8_t length) {
  for (uint32_t i = 0; i < sizeof options_read; i++) {
    if (options_read[i] == option) {
      if (length != (i < FIRST_BYTE ? 4 : 1) && (option != ROUTER || length < 4)) {
        return false;
      }
      uint32_t value = *at;
      if (i < FIRST_BYTE) {
        memcpy(&value, at, sizeof value);
        value = i < FIRST_TIME ? value : lwip_ntohl(value);
      }
      if ((answer->given >> i & 1) == 0) { /* the first of a kind counts */
        answer->given |= 1u << i;
        (&answer->lease.mask.addr)[i] = value;
      }
    }
  }
  return true;
}

/* Section 4.1: the options' field, then the file's, then that of the server's name. None may exceed its field. */
static bool read_options(struct dhcp_answer *answer, const void *message, uint32_t length) {
  uint32_t at = HEAD, end = length;
  for (;;) {
    const uint8_t *bytes = message;
    uint8_t option = at < end ? bytes[at++] : PAD;
    if (option == END) {
      if ((answer->overload & 1) != 0) {
        at = FILE_AT;
        end = COOKIE_AT;
      } else if ((answer->overload & 2) != 0) {
        at = NAME_AT;
        end = FILE_AT;
      } else {
        return true;
      }
      answer->overload &= answer->overload - 1;
    } else if (option != PAD) {
      uint32_t from = at + 1;
      if (from > end || (at = from + bytes[at]) > end || !read_option(answer, option, bytes + from, (uint8_t)(at - from))) {
        return false;
      }
    } else if (at >= end) {
      return false;
    }
  }
}

/* Zero if this is no host's address, or the mask no mask. Without one it is that of the address's class (RFC 791). */
static uint32_t check_mask(const struct dhcp_answer *answer) {
  uint32_t address = lwip_ntohl(answer->lease.address.addr), mask = lwip_ntohl(answer->lease.mask.addr);
  if ((answer->given & 1) == 0) {
    mask = UINT32_MAX << ((24 - 8 * __builtin_clz(~address | 1)) & 31);
  }
  uint32_t hosts = ~mask, host = address & hosts, first = address >> 24;
  bool valid = ((hosts & (hosts + 1)) == 0) & ((hosts <= 1) | (host - 1 < hosts - 1)) & (first - 1 < 223) & (first != 127);
  return valid ? mask : 0;
}

/* Section 4.4.5: a time that is missing is half of the lease, or seven eighths; so are both where they are not in order. */
static void check_times(struct dhcp_lease *lease) {
  uint32_t seconds = lease->seconds, half = seconds / 2, most = seconds - seconds / 8;
  if (lease->renewal == 0) {
    lease->renewal = half;
  }
  if (lease->rebinding == 0) {
    lease->rebinding = most;
  }
  if (lease->renewal >= lease->rebinding || lease->rebinding > seconds) {
    lease->renewal = half;
    lease->rebinding = most;
  }
  if (seconds == UINT32_MAX) { /* section 3.3: for ever */
    lease->renewal = lease->rebinding = seconds;
  }
}

bool tw_dhcp_message_read(const struct dhcp_client *client, const struct dhcp_message *message, uint32_t length,
                          struct dhcp_answer *answer) {
  memset(answer, 0, sizeof *answer);
  if (length < HEAD || message->operation != 2 || message->transaction != client->transaction ||
      message->cookie != PP_HTONL(COOKIE) || memcmp(message->hardware_address, client->netif->hwaddr, ETH_HWADDR_LEN) != 0 ||
      !read_options(answer, message, length)) {
    return false;
  }
  answer->lease.address.addr = message->yours;
  answer->lease.mask.addr = lwip_htonl(check_mask(answer));
  check_times(&answer->lease);
  return true;
}

_Static_assert(offsetof(struct dhcp_lease, rebinding) == offsetof(struct dhcp_lease, mask) + 5 * sizeof(uint32_t) &&
                   offsetof(struct dhcp_answer, overload) == offsetof(struct dhcp_lease, mask) + 7 * sizeof(uint32_t),
               "fields in the order of options_read");
