/* What lwIP needs to know of the compiler and the machine. */
#ifndef ARCH_CC_H
#define ARCH_CC_H

#include <stdint.h>

#define LWIP_NO_INTTYPES_H 0
#define LWIP_NO_UNISTD_H 0 /* ssize_t */
#define LWIP_ERRNO_STDINCLUDE 1

/* WebAssembly has no instruction that swaps bytes: inline it takes five instructions for 16 bits and nine for 32, a call takes
   one. Where a transfer spends its time (see HOT in the Makefile) it is inline. */
#define LWIP_DONT_PROVIDE_BYTEORDER_FUNCTIONS
#ifdef HOT
#define lwip_htons(x) __builtin_bswap16(x)
#define lwip_htonl(x) __builtin_bswap32(x)
#else
uint16_t tw_swap16(uint16_t value) __attribute__((const));
uint32_t tw_swap32(uint32_t value) __attribute__((const));
#define lwip_htons(x) (__builtin_constant_p(x) ? __builtin_bswap16(x) : tw_swap16((uint16_t)(x)))
#define lwip_htonl(x) (__builtin_constant_p(x) ? __builtin_bswap32(x) : tw_swap32((uint32_t)(x)))
#endif
#define lwip_ntohs(x) lwip_htons(x)
#define lwip_ntohl(x) lwip_htonl(x)

/* A failed assertion is a state that must not be reached: this one stack stops there, in a trap whose backtrace has its cause.
   No text is kept: it would be a tenth of the module. */
#ifdef __wasm__
#define LWIP_PLATFORM_ASSERT(message) __builtin_trap()
#else
#include <stdio.h>
#include <stdlib.h>
#define LWIP_PLATFORM_ASSERT(message) (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, message), abort())
#endif
#define LWIP_PLATFORM_DIAG(message) ((void)0)

/* Every random choice of lwIP derives from the seed that the embedder passed. */
uint32_t tw_random_u32(void);
#define LWIP_RAND() tw_random_u32()

#endif
