// Connections to the servers, which are ready when they are returned.
#ifndef PUSHD_BENCH_DIAL_H
#define PUSHD_BENCH_DIAL_H

// A non-blocking connection whose server has answered the greeting with what confirms it.
int dial(const char *host, int port, const char *hello, const char *confirmed);

// Returns when messages that are published at one NATS server reach the subscribers that the other one has.
// Dies when that takes longer than the given seconds.
void await_nats_route(const char *host, int publishers_port, int subscribers_port, double patience);

#endif
