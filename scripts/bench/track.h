// What the generator keeps about what it saw: one sequence per publisher and subscriber, and a histogram of latencies.
#ifndef PUSHD_BENCH_TRACK_H
#define PUSHD_BENCH_TRACK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct tally {
  uint64_t delivered;  // messages that a subscriber got for the first time
  uint64_t duplicated; // got again
  uint64_t late;       // got after a later one of the same publisher and channel
  uint64_t missing;    // skipped so far, and not come late either
};

struct gap {
  uint32_t publisher, from, to; // to is not in it
};

struct track {
  uint32_t *next;    // by publisher
  uint64_t passed;   // messages delivered or skipped
  struct gap *gaps;  // what was skipped, so that a late message can be told from a second one
  size_t gap_count, gap_room;
};

static inline void track_open(struct track *track, int publishers) {
  *track = (struct track){.next = calloc((size_t)publishers, sizeof(uint32_t))};
}

static inline void track_add_gap(struct track *track, struct gap gap) {
  if (track->gap_count == track->gap_room) {
    track->gap_room = track->gap_room * 2 + 16;
    track->gaps = realloc(track->gaps, track->gap_room * sizeof *track->gaps);
    if (track->gaps == NULL) abort();
  }
  track->gaps[track->gap_count++] = gap;
}

// The rest of the messages: one skips some, fills a gap, or was had before.
static inline void track_unexpected(struct track *track, struct tally *tally, uint32_t publisher, uint32_t sequence) {
  uint32_t next = track->next[publisher];
  if (sequence > next) {
    track_add_gap(track, (struct gap){publisher, next, sequence});
    track->next[publisher] = sequence + 1;
    track->passed += sequence + 1 - next;
    tally->missing += sequence - next;
    tally->delivered++;
    return;
  }
  for (size_t i = 0; i < track->gap_count; i++) {
    struct gap gap = track->gaps[i];
    if (gap.publisher != publisher || sequence < gap.from || sequence >= gap.to) continue;
    track->gaps[i] = track->gaps[--track->gap_count];
    if (gap.from < sequence) track_add_gap(track, (struct gap){publisher, gap.from, sequence});
    if (sequence + 1 < gap.to) track_add_gap(track, (struct gap){publisher, sequence + 1, gap.to});
    tally->missing--;
    tally->late++;
    tally->delivered++;
    return;
  }
  tally->duplicated++;
}

// Whether it is the next one, which is then counted by the caller: many at a time, as this is the common case.
static inline int track_expected(struct track *track, uint32_t publisher, uint32_t sequence) {
  if (__builtin_expect(track->next[publisher] != sequence, 0)) return 0;
  track->next[publisher] = sequence + 1;
  return 1;
}

// Buckets are 1/32 of their power of two wide, so a percentile is at most 3 % too high.
enum { HISTOGRAM_SIZE = 64 * 32 };
struct histogram {
  uint64_t count, max, buckets[HISTOGRAM_SIZE];
};

static inline void histogram_add(struct histogram *histogram, uint64_t value) {
  int power = value < 32 ? 0 : 63 - __builtin_clzll(value) - 5;
  histogram->buckets[power * 32 + (int)(value >> power)]++;
  histogram->count++;
  if (value > histogram->max) histogram->max = value;
}

// The upper end of the bucket that holds the given share of all values.
static inline uint64_t histogram_at(const struct histogram *histogram, double share) {
  uint64_t wanted = (uint64_t)(share * (double)histogram->count), seen = 0;
  for (int i = 0; i < HISTOGRAM_SIZE; i++) {
    seen += histogram->buckets[i];
    if (seen <= wanted) continue;
    int power = i < 64 ? 0 : i / 32 - 1;
    uint64_t top = ((uint64_t)(i - power * 32 + 1) << power) - 1;
    return top < histogram->max ? top : histogram->max;
  }
  return histogram->max;
}

// A member of a JSON object behind others: of nanoseconds, in microseconds.
static inline void print_percentiles(const char *name, const struct histogram *histogram) {
  printf(",\"%s\":{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f}", name,
         (double)histogram_at(histogram, 0.5) / 1e3, (double)histogram_at(histogram, 0.9) / 1e3,
         (double)histogram_at(histogram, 0.99) / 1e3, (double)histogram_at(histogram, 0.999) / 1e3,
         (double)histogram->max / 1e3);
}

#endif
