// Connecting: each connection is greeted, and the way from one server to another tried.
#define _GNU_SOURCE
#include "dial.h"
#include "drive.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int dial(const char *host, int port, const char *hello, const char *confirmed) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1) die("'%s' is not an IPv4 address", host);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
    die("cannot connect to %s:%d: %s", host, port, strerror(errno));
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  struct timeval patience = {.tv_sec = 10};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (send(fd, hello, strlen(hello), MSG_NOSIGNAL) != (ssize_t)strlen(hello)) die("cannot greet: %s", strerror(errno));
  char got[4096];
  size_t size = 0;
  while (memmem(got, size, confirmed, strlen(confirmed)) == NULL) { // NATS tells about itself first
    ssize_t n = recv(fd, got + size, sizeof got - size, 0);
    if (n <= 0) die("no '%.*s' from the server but '%.*s'", (int)strcspn(confirmed, "\r"), confirmed, (int)size, got);
    size += (size_t)n;
  }
  fcntl(fd, F_SETFL, O_NONBLOCK);
  return fd;
}

static double now_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void send_line(int fd, const char *line) {
  if (send(fd, line, strlen(line), MSG_NOSIGNAL) != (ssize_t)strlen(line)) die("cannot send: %s", strerror(errno));
}

// Subscriptions are told over the route in the order in which they were made, so once a message of the last one
// comes through, all are known.
void await_nats_route(const char *host, int publishers_port, int subscribers_port, double patience) {
  const char *subscribe = "CONNECT {\"verbose\":false}\r\nSUB probe 1\r\nPING\r\n";
  int subscriber = dial(host, subscribers_port, subscribe, "PONG\r\n");
  int publisher = dial(host, publishers_port, "CONNECT {\"verbose\":false}\r\nPING\r\n", "PONG\r\n");
  struct pollfd waiting = {.fd = subscriber, .events = POLLIN};
  char got[4096];
  size_t size = 0;
  for (double deadline = now_seconds() + patience; memmem(got, size, "MSG probe", 9) == NULL;) {
    if (now_seconds() > deadline)
      die("what is published at port %d does not reach port %d", publishers_port, subscribers_port);
    send_line(publisher, "PUB probe 1\r\nx\r\n");
    if (poll(&waiting, 1, 1) <= 0) continue;
    ssize_t n = recv(subscriber, got + size, sizeof got - size, 0);
    if (n <= 0) die("the server at port %d closed the probe's connection", subscribers_port);
    if (memmem(got + size, (size_t)n, "PING\r\n", 6) != NULL) send_line(subscriber, "PONG\r\n");
    size += (size_t)n;
  }
  close(publisher);
  close(subscriber);
}
