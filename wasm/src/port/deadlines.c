#include "port/deadlines.h"

#include <stddef.h>

static struct deadline *first;

/* Joins two heaps below `above`; on the way down each node's sides are exchanged, which keeps the paths short. */
static struct deadline *merge(struct deadline *a, struct deadline *b, struct deadline *above) {
  struct deadline *joined = NULL, **link = &joined;
  while (a != NULL && b != NULL) {
    if (b->at < a->at) {
      struct deadline *later = a;
      a = b;
      b = later;
    }
    struct deadline *rest = a->right;
    *link = a;
    a->above = above;
    a->right = a->left;
    above = a;
    link = &a->left;
    a = rest;
  }
  a = a != NULL ? a : b;
  *link = a;
  if (a != NULL) {
    a->above = above;
  }
  return joined;
}

void tw_deadline_set(struct deadline *deadline, uint64_t at) {
  if (deadline->at != 0) {
    struct deadline *above = deadline->above;
    struct deadline **link = above == NULL ? &first : above->left == deadline ? &above->left : &above->right;
    *link = merge(deadline->left, deadline->right, above);
  }
  deadline->at = at;
  deadline->left = deadline->right = NULL;
  if (at != 0) {
    first = merge(first, deadline, NULL);
  }
}

struct deadline *tw_deadline_first(void) { return first; }
