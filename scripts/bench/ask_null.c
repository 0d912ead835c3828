// The cheapest server that satisfies the asker: it counts bytes, and answers from a frame made beforehand.
#define _GNU_SOURCE
#include "ask.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct ask_plan *plan;
static uint64_t last_id = 1700000000000000;

// Blocking is safe: the asker always reads.
static void send_all(int fd, const char *bytes, size_t size) {
  while (size > 0) {
    ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
    if (sent <= 0) _exit(0);
    bytes += sent;
    size -= (size_t)sent;
  }
}

static char *make_page(size_t *size) {
  char *page = malloc((size_t)plan->page * (size_t)(plan->size + 64) + 64), *at = page;
  if (plan->question == ASK_XRANGE) {
    at += sprintf(at, "*%d\r\n", plan->page);
    for (int i = 0; i < plan->page; i++) {
      at += sprintf(at, "*2\r\n$15\r\n%013lu-0\r\n*2\r\n$1\r\nm\r\n$%d\r\n", last_id / 1000 + (uint64_t)i, plan->size);
      put_filler(at, plan->size);
      at += sprintf(at + plan->size, "\r\n") + plan->size;
    }
    *size = (size_t)(at - page);
    return page;
  }
  at += sprintf(at, "HISTORY c00000 [");
  for (int i = 0; i < plan->page; i++) {
    at += sprintf(at, "%s{\"channel\":\"c00000\",\"msg\":\"", i > 0 ? "," : "");
    put_filler(at, plan->size);
    at += sprintf(at + plan->size, "\",\"ts\":%lu}", last_id + (uint64_t)i) + plan->size;
  }
  at += sprintf(at, "]\r\n");
  *size = (size_t)(at - page);
  return page;
}

static int put_reply(char *at, int connection, uint64_t id) {
  char body[128];
  switch (plan->question) {
    case ASK_XADD: return sprintf(at, "$15\r\n%013lu-0\r\n", id / 1000);
    case ASK_XADD_PUBLISH:
      return sprintf(at, "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$15\r\n%013lu-0\r\n:0\r\n", id / 1000);
    case ASK_JETSTREAM:
      return sprintf(at, "MSG _INBOX.%d 1 %d\r\n%s\r\n", connection,
                     snprintf(body, sizeof body, "{\"stream\":\"c\",\"seq\":%lu}", id), body);
    default: return sprintf(at, "PUBLISHED %016lu\r\n", id);
  }
}

static int put_failure(char *at, int connection) {
  switch (plan->question) {
    case ASK_XADD: return sprintf(at, "-ERR refused\r\n");
    case ASK_XADD_PUBLISH: return sprintf(at, "-MISCONF refused\r\n");
    case ASK_JETSTREAM: return sprintf(at, "MSG _INBOX.%d 1 16\r\n{\"error\":\"full\"}\r\n", connection);
    default: return sprintf(at, "ERROR storage-unavailable refused\r\n");
  }
}

static int welcome(int listener, int connection) {
  char hello[512], got[512];
  const char *confirmed;
  ask_handshake(plan, connection, hello, sizeof hello, &confirmed);
  int fd = accept(listener, NULL, NULL), one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (fd < 0 || recv(fd, got, strlen(hello), MSG_WAITALL) != (ssize_t)strlen(hello)) _exit(1);
  send_all(fd, confirmed, strlen(confirmed));
  return fd;
}

_Noreturn void ask_null_server(const struct ask_plan *for_plan, int listener, enum ask_fault fault, uint64_t fault_at) {
  plan = for_plan;
  size_t page_size;
  const char *page = make_page(&page_size);
  int *sockets = calloc((size_t)plan->connections, sizeof *sockets), epoll = epoll_create1(0);
  int *request_sizes = calloc((size_t)plan->connections, sizeof *request_sizes);
  int *left_over = calloc((size_t)plan->connections, sizeof *left_over); // bytes of a request that is not whole
  uint64_t answered_first = 0;
  for (int i = 0; i < plan->connections; i++) {
    sockets[i] = welcome(listener, i);
    request_sizes[i] = make_request(plan, i).size;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
    epoll_ctl(epoll, EPOLL_CTL_ADD, sockets[i], &event);
  }
  static char requests[MAX_WINDOW * MAX_REQUEST], replies[(MAX_WINDOW + 1) * 256];
  for (;;) {
    struct epoll_event events[256];
    int ready = epoll_wait(epoll, events, 256, -1);
    for (int e = 0; e < ready; e++) {
      int i = (int)events[e].data.u32, size = 0;
      ssize_t got = recv(sockets[i], requests, sizeof requests, 0);
      if (got <= 0) _exit(0);
      left_over[i] += (int)got;
      for (; left_over[i] >= request_sizes[i]; left_over[i] -= request_sizes[i]) {
        int is_faulty = fault != ASK_NO_FAULT && i == 0 && answered_first++ == fault_at;
        if (asks_for_page(plan)) {
          send_all(sockets[i], page, page_size - (is_faulty ? 3 : 0));
          continue;
        }
        last_id += 1000;
        if (!is_faulty) size += put_reply(replies + size, i, last_id);
        else if (fault == ASK_FAILURE) size += put_failure(replies + size, i);
        else if (fault == ASK_REPEAT) size += put_reply(replies + size, i, last_id - 1000 * (uint64_t)plan->connections * MAX_WINDOW);
      }
      if (size > 0) send_all(sockets[i], replies, (size_t)size);
    }
  }
}
