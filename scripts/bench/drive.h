// What a run needs to be told, and what it found.
#ifndef PUSHD_BENCH_DRIVE_H
#define PUSHD_BENCH_DRIVE_H

#include "program.h"
#include "track.h"
#include "wire.h"

struct options {
  const char *host;
  int port, subscribers_port;      // one server, or two that are linked
  int server_pid, subscribers_pid; // 0: its processor time is not looked at
  double seconds, warmup;
  int zipf;          // channels are published to by popularity, not in turns
  double rate;       // messages per second; 0: as fast as the window allows
  double stall;      // seconds without any progress after which what is missing counts as lost
  uint64_t messages; // publish so many instead of for some time; 0: for some time
  uint64_t window;   // bytes that one subscriber may be behind its publishers
  uint64_t in_flight; // bytes that all of them together may be behind
};

struct moment {
  int64_t at_ns;
  uint64_t delivered, published;
  double own_cpu, server_cpu, subscribers_cpu, machine_cpu; // seconds of processor time
};

struct outcome {
  struct moment from, to; // the measured time
  struct tally tally;
  uint64_t expected, passed; // deliveries over all subscribers; passed: had or skipped
  uint64_t published, unanswered;
  uint64_t corrupt, cut, errors;
  uint64_t stamps_back; // timestamps that did not increase
  int stalled;
  struct problem problem;
  struct histogram latencies, delays; // in timed runs, ns; delays: how late the generator itself sent
};

// Connects, publishes, reads until everything has come or nothing comes any more.
void drive(const struct plan *plan, const struct options *options, struct outcome *outcome);

#endif
