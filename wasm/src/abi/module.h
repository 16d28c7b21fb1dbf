/* The control block, and the areas that the embedder reads and writes between calls. One stack is one instance of the module:
   all state is static. */
#ifndef MODULE_H
#define MODULE_H

#include "abi.h"
#include "lwip/err.h"

#include <stdint.h>

extern uint32_t tw_control[ABI_CONTROL_WORDS];
/* What a call reads from scratch, or writes there: see `scratch` and `scratch_result` in abi.toml. */
union tw_scratch {
  uint8_t bytes[ABI_SCRATCH_CAPACITY];
  struct abi_endpoint endpoint;
  struct abi_ip_address ip_address;
  struct abi_mac_address mac_address;
  struct abi_connect_addresses connect;
  struct abi_route_addresses route;
  struct abi_information information;
};
extern union tw_scratch tw_scratch;
extern uint64_t tw_now; /* microseconds, as of the latest call that carried the time */
int32_t tw_error_from_lwip(err_t error);

#endif
