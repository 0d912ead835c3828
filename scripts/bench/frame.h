// Looking at received bytes: whether they are the frame that was expected.
#ifndef PUSHD_BENCH_FRAME_H
#define PUSHD_BENCH_FRAME_H

#include "wire.h"

#include <stdlib.h>

// What every delivery of a channel must be, but for the bytes that differ from one to the next: there the mask is 0.
struct expectation {
  char *frame, *mask;
};

static inline struct expectation expect(const struct plan *plan, const struct shape *shape) {
  struct expectation expected = {malloc((size_t)shape->size), malloc((size_t)shape->size)};
  put_frame(expected.frame, plan, shape);
  memset(expected.mask, 0xff, (size_t)shape->size);
  if (shape->stamp_at >= 0) memset(expected.mask + shape->stamp_at, 0, 16);
  memset(expected.mask + shape->payload_at, 0, (size_t)header_size(plan));
  return expected;
}

typedef uint64_t block __attribute__((vector_size(16), aligned(1), may_alias));

static inline block differences(const char *at, const struct expectation *expected, int offset) {
  const block *got = (const block *)(at + offset), *frame = (const block *)(expected->frame + offset);
  return (*got ^ *frame) & *(const block *)(expected->mask + offset);
}

// Whether the frame is the expected one in every byte that is the same in all of them. All of it is compared
// without a branch, and the last block overlaps the one before: this is done for every delivery.
static inline int is_as_expected(const char *at, const struct expectation *expected, int size) {
  block found = differences(at, expected, size - (int)sizeof(block));
  for (int i = 0; i <= size - (int)sizeof(block); i += (int)sizeof(block)) found |= differences(at, expected, i);
  return (found[0] | found[1]) == 0;
}

// Whether a whole frame of this shape stands here, whatever it holds.
static inline int is_frame(const char *at, const struct shape *shape) {
  return memcmp(at, shape->head, (size_t)shape->head_size) == 0 &&
         memcmp(at + shape->size - shape->tail_size, shape->tail, (size_t)shape->tail_size) == 0;
}

// Whether this can be the beginning of one, of whatever channel, that is not whole yet.
static inline int may_be_frame(const char *at, size_t size, const struct shape *shape) {
  size_t head = (size_t)(shape->channel_at >= 0 ? shape->channel_at : shape->head_size);
  return head > 0 && size < (size_t)shape->size && memcmp(at, shape->head, size < head ? size : head) == 0;
}

// The stamp before, of 16 digits: as big-endian numbers they compare as text does.
struct stamp {
  uint64_t high, low;
};

// Whether the stamp is a later one, which then is the one before.
static inline int is_later(const char *at, struct stamp *before) {
  uint64_t high, low;
  memcpy(&high, at, 8);
  memcpy(&low, at + 8, 8);
  high = __builtin_bswap64(high);
  low = __builtin_bswap64(low);
  int later = high > before->high || (high == before->high && low > before->low);
  *before = (struct stamp){high, low};
  return later;
}

#endif
