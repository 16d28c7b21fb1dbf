/* Addresses as the embedder writes and reads them. */
#ifndef ADDRESS_CODEC_H
#define ADDRESS_CODEC_H

#include "abi.h"
#include "lwip/ip_addr.h"

#include <stdbool.h>
#include <stdint.h>

bool tw_address_read(ip_addr_t *address, int32_t family, const uint8_t *bytes, int32_t scope);
void tw_address_write(struct abi_endpoint *endpoint, const ip_addr_t *address, uint16_t port);
bool tw_address_read_endpoint(ip_addr_t *address, uint16_t *port, const struct abi_endpoint *endpoint);

#endif
