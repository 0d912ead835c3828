// What the crowd and its null server share: who subscribes to what.
#ifndef PUSHD_BENCH_CROWD_H
#define PUSHD_BENCH_CROWD_H

#include "greet.h"

#include <stdlib.h>

struct crowd {
  struct plan plan;
  int connections;
  int parallel; // connections that are not confirmed yet
};

static inline void crowd_greeting(const struct crowd *crowd, int index, struct text *ask, struct text *answer) {
  greet_subscriber(&crowd->plan, index % crowd->plan.channels, 0, ask, answer);
}

// Answers the connections in the order in which they come. Never returns.
_Noreturn void crowd_null(const struct crowd *crowd, int listener);

#endif
