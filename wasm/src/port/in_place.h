/* For what is called for each segment: inlined wherever it is called, which the build's limit on inlining would forbid. */
#ifndef IN_PLACE_H
#define IN_PLACE_H

#ifdef __wasm__
#define IN_PLACE __attribute__((always_inline))
#else
#define IN_PLACE
#endif

#endif
