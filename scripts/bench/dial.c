// Connecting: each connection is greeted, and the way from one server to another tried.
#define _GNU_SOURCE
#include "dial.h"
#include "conn.h"
#include "program.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>

int dial(const char *host, int port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1) die("'%s' is not an IPv4 address", host);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
    die("cannot connect to %s:%d: %s", host, port, strerror(errno));
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  struct timeval patience = {.tv_sec = 10};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  conn_open(fd);
  return fd;
}

static void send_text(int fd, const char *at, size_t size) {
  while (size > 0) {
    ssize_t n = conn_put(fd, at, size);
    if (n <= 0) die("cannot send: %s", strerror(errno));
    at += n;
    size -= (size_t)n;
  }
}

void ask(int fd, const struct text *asked, const struct text *answer) {
  send_text(fd, asked->at, asked->size);
  char got[4 * CONN_RECORD];
  size_t size = 0;
  // The answer comes last, so what is before the last bytes need not be kept.
  while (memmem(got, size, answer->at, answer->size) == NULL) {
    if (size > sizeof got / 2) {
      memmove(got, got + size - answer->size, answer->size);
      size = answer->size;
    }
    ssize_t n = conn_get(fd, got + size, sizeof got - size);
    if (n <= 0) die("no '%.*s' from the server but '%.*s'", (int)answer->size, answer->at, (int)size, got);
    size += (size_t)n;
  }
}

void set_nonblocking(int fd) {
  fcntl(fd, F_SETFL, O_NONBLOCK);
  conn_set_greedy(fd);
}

// Subscriptions are told over the route in the order in which they were made, so once a message of the last one
// comes through, all are known.
void await_route(const struct plan *plan, const char *host, int publishers_port, int subscribers_port,
                 double patience) {
  static struct text asked, answer;
  // One channel more, which nobody else uses.
  struct plan probe = *plan;
  probe.lanes = probe.channels = plan->channels + 1;
  int subscriber = dial(host, subscribers_port), publisher = dial(host, publishers_port);
  greet_subscriber(&probe, plan->channels, 0, &asked, &answer);
  ask(subscriber, &asked, &answer);
  greet_publisher(&probe, &asked, &answer);
  ask(publisher, &asked, &answer);
  struct shape request = request_shape(&probe);
  char *frame = malloc((size_t)request.size), name[16], got[16384];
  put_frame(frame, &probe, &request);
  put_channel(frame + request.channel_at, probe.digits, plan->channels);
  int length = channel_name(&probe, plan->channels, name, sizeof name);
  struct pollfd waiting = {.fd = subscriber, .events = POLLIN};
  size_t size = 0;
  for (int64_t deadline = now_ns() + (int64_t)(patience * 1e9); memmem(got, size, name, (size_t)length) == NULL;) {
    if (now_ns() > deadline)
      die("what is published at port %d does not reach port %d", publishers_port, subscribers_port);
    send_text(publisher, frame, (size_t)request.size);
    if (poll(&waiting, 1, 1) <= 0) continue;
    ssize_t n = recv(subscriber, got + size, sizeof got - size, 0);
    if (n <= 0) die("the server at port %d closed the probe's connection", subscribers_port);
    if (plan->protocol == NATS && memmem(got + size, (size_t)n, "PING\r\n", 6) != NULL) send_text(subscriber, "PONG\r\n", 6);
    size += (size_t)n;
  }
  free(frame);
  close(publisher);
  close(subscriber);
}
