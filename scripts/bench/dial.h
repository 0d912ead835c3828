// Connections to the servers.
#ifndef PUSHD_BENCH_DIAL_H
#define PUSHD_BENCH_DIAL_H

#include "greet.h"

// A connection that waits, for at most ten seconds.
int dial(const char *host, int port);

// Returns when the server has answered; dies when it does not.
void ask(int fd, const struct text *asked, const struct text *answer);

void set_nonblocking(int fd);

// Returns when messages that are published at one server reach the subscribers that the other one has, where
// servers confirm a subscription before that is so. Dies when it takes longer than the given seconds.
void await_route(const struct plan *plan, const char *host, int publishers_port, int subscribers_port,
                 double patience);

#endif
