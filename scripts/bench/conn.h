// Bytes in and out of a connection, which may be one over TLS: as recv and send do, with errno EAGAIN where it waits.
#ifndef PUSHD_BENCH_CONN_H
#define PUSHD_BENCH_CONN_H

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#ifdef WITH_TLS

// From here on connections are made over TLS, by a client that trusts anybody, or by a server with this certificate.
void tls_client(void);
void tls_server(const char *cert, const char *key);
// The handshake on a connection that waits; nothing without the above. Dies when it fails.
void conn_open(int fd);
// Its reads are to take all there is, not one record of 16 KiB.
void conn_set_greedy(int fd);
// Of at least CONN_RECORD bytes, so that none of a record that was read is left where epoll does not see it.
ssize_t conn_get(int fd, void *at, size_t size);
ssize_t conn_put(int fd, const void *at, size_t size);
int conn_is_secure(void);

#else

static inline void conn_open(int fd) { (void)fd; }
static inline void conn_set_greedy(int fd) { (void)fd; }
static inline ssize_t conn_get(int fd, void *at, size_t size) { return recv(fd, at, size, 0); }
static inline ssize_t conn_put(int fd, const void *at, size_t size) { return send(fd, at, size, MSG_NOSIGNAL); }
static inline int conn_is_secure(void) { return 0; }

#endif

enum { CONN_RECORD = 16384 };

#endif
