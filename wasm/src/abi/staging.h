/* The area that the control block shows to the host for what it sends. */
#ifndef STAGING_H
#define STAGING_H

#include <stdbool.h>
#include <stdint.h>

const uint8_t *staging(void);
bool staging_may_stay(void); /* false without memory for another one; else staging_stays has to follow */
void staging_stays(bool stays); /* true: segments refer to this one, and the host gets the other */

#endif
