/* Checks that a received frame is well-formed enough for lwIP. */
#ifndef FRAME_H
#define FRAME_H

#include <stdbool.h>
#include <stdint.h>

enum frame_verdict { FRAME_DROP, FRAME_COPY, FRAME_IN_PLACE };
enum frame_verdict tw_frame_check_ethernet(const uint8_t *frame, uint32_t length);
uint8_t tw_frame_skip_extensions(const uint8_t *packet, uint32_t *at, uint32_t end);
enum frame_verdict tw_frame_check_packet(const uint8_t *packet, uint32_t length, bool inside);

#endif
