/* Indices with a generation: a handle that the embedder holds can be stale, but never names another object. */
#ifndef HANDLES_H
#define HANDLES_H

#include <stdint.h>

enum handle_kind { HANDLE_FREE, HANDLE_INTERFACE, HANDLE_LISTENER, HANDLE_CONNECTION, HANDLE_UDP, HANDLE_PING };
int32_t tw_handle_open(enum handle_kind kind, void *object); /* or ABI_ERROR_NO_MEMORY */
void *tw_handle_object(int32_t handle, enum handle_kind kind); /* or NULL */
void tw_handle_close(int32_t handle);
uint32_t tw_handle_count(void);

#endif
