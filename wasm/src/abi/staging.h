/* The area in which the embedder writes what it sends; the control block has its address. */
#ifndef STAGING_H
#define STAGING_H

#include <stdbool.h>
#include <stdint.h>

const uint8_t *tw_staging(void);
bool tw_staging_may_stay(void); /* false without memory for another one; else tw_staging_stays has to follow */
void tw_staging_stays(bool stays); /* true: segments refer to this one, and the embedder gets the other */

#endif
