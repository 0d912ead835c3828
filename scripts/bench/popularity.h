// Which channel is published to next where some are far more popular than others.
#ifndef PUSHD_BENCH_POPULARITY_H
#define PUSHD_BENCH_POPULARITY_H

#include <stdint.h>
#include <stdlib.h>

// Draws made beforehand, the same in every run: the k-th channel is as likely as 1/k (Zipf's law with exponent 1).
enum { DRAWS = 1 << 20 };
struct popularity {
  int *channels;
};

static inline void make_popularity(struct popularity *popularity, int channels) {
  double *upto = malloc((size_t)channels * sizeof *upto), sum = 0;
  for (int c = 0; c < channels; c++) upto[c] = sum += 1.0 / (c + 1);
  popularity->channels = malloc(DRAWS * sizeof *popularity->channels);
  uint64_t state = 1;
  for (int i = 0; i < DRAWS; i++) {
    state = state * 6364136223846793005u + 1442695040888963407u; // Knuth's MMIX
    double wanted = (double)(state >> 11) / (double)(1ull << 53) * sum;
    int low = 0, high = channels - 1;
    while (low < high) {
      int middle = (low + high) / 2;
      if (upto[middle] <= wanted) low = middle + 1;
      else high = middle;
    }
    popularity->channels[i] = low;
  }
  free(upto);
}

// Each publisher begins at another place.
static inline int popular_channel(const struct popularity *popularity, uint64_t message, int publisher, int publishers) {
  return popularity->channels[(message + (uint64_t)publisher * DRAWS / (uint64_t)publishers) % DRAWS];
}

#endif
