// What the asker and its null server share: each protocol's request that is answered, and its answer.
#ifndef PUSHD_BENCH_ASK_H
#define PUSHD_BENCH_ASK_H

#include "wire.h"

#include <stdlib.h>

// pub: pushd's PUBLISHED; xadd: Redis keeps; xadd_publish: Redis keeps and delivers; jetstream: NATS' PubAck;
// his: a page of pushd's history; xrange: a page of a stream of Redis.
enum question { ASK_PUB, ASK_XADD, ASK_XADD_PUBLISH, ASK_JETSTREAM, ASK_HIS, ASK_XRANGE };
enum { MAX_WINDOW = 256, MAX_REQUEST = 4096, MAX_REPLY = 4096 };

struct ask_plan {
  enum question question;
  int connections, window; // requests that a connection may have outstanding
  int size;                // bytes of a message
  int page;                // messages of a page of history
  uint64_t since;          // the timestamp from which on it is
};

struct request {
  char bytes[MAX_REQUEST];
  int size, sequence_at; // of eight digits; -1 without
};

static inline int asks_for_page(const struct ask_plan *plan) {
  return plan->question == ASK_HIS || plan->question == ASK_XRANGE;
}

// Every connection has a channel of its own; histories are all read from the first one's.
static inline void ask_channel(const struct ask_plan *plan, int connection, char *name, size_t size) {
  snprintf(name, size, plan->question == ASK_JETSTREAM ? "c.%05d" : "c%05d",
           asks_for_page(plan) ? 0 : connection);
}

static inline struct request make_request(const struct ask_plan *plan, int connection) {
  static const char *const formats[] = {
      [ASK_PUB] = "pub %1$s ",
      [ASK_XADD] = "*5\r\n$4\r\nXADD\r\n$6\r\n%1$s\r\n$1\r\n*\r\n$1\r\nm\r\n$%2$d\r\n",
      [ASK_XADD_PUBLISH] = "*1\r\n$5\r\nMULTI\r\n*5\r\n$4\r\nXADD\r\n$6\r\n%1$s\r\n$1\r\n*\r\n$1\r\nm\r\n$%2$d\r\n",
      [ASK_JETSTREAM] = "PUB %1$s _INBOX.%3$d %2$d\r\n",
      [ASK_HIS] = "his %1$s %5$lu %4$d\n",
      [ASK_XRANGE] = "XRANGE %1$s - + COUNT %4$d\r\n",
  };
  struct request request = {.sequence_at = -1};
  char name[16];
  ask_channel(plan, connection, name, sizeof name);
  char *bytes = request.bytes;
  int n = snprintf(bytes, MAX_REQUEST, formats[plan->question], name, plan->size, connection, plan->page,
                   plan->since);
  if (!asks_for_page(plan)) {
    request.sequence_at = n + SEQUENCE_AT;
    put_digits(bytes + n + PUBLISHER_AT, (uint32_t)connection);
    put_digits(bytes + n + SEQUENCE_AT, 0);
    put_filler(bytes + n + DUE_AT, plan->size - DUE_AT);
    n += plan->size;
    n += snprintf(bytes + n, 3, "%s", plan->question == ASK_PUB ? "\n" : "\r\n");
  }
  if (plan->question == ASK_XADD_PUBLISH) {
    n += snprintf(bytes + n, (size_t)(MAX_REQUEST - n), "*3\r\n$7\r\nPUBLISH\r\n$6\r\n%s\r\n$%d\r\n", name, plan->size);
    memcpy(bytes + n, bytes + request.sequence_at - SEQUENCE_AT, (size_t)plan->size);
    n += plan->size;
    n += snprintf(bytes + n, (size_t)(MAX_REQUEST - n), "\r\n*1\r\n$4\r\nEXEC\r\n");
  }
  request.size = n;
  return request;
}

// The first bytes of a connection, and what shows that the server has carried them out.
static inline void ask_handshake(const struct ask_plan *plan, int connection, char *hello, size_t size,
                                 const char **confirmed) {
  int is_redis = plan->question == ASK_XADD || plan->question == ASK_XADD_PUBLISH || plan->question == ASK_XRANGE;
  *confirmed = is_redis ? "+PONG\r\n" : "PONG\r\n";
  if (plan->question == ASK_JETSTREAM)
    // With no_responders a stream that does not exist is an error at once, not a silence.
    snprintf(hello, size,
             "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n"
             "SUB _INBOX.%d 1\r\nPING\r\n", connection);
  else snprintf(hello, size, plan->question == ASK_PUB || plan->question == ASK_HIS ? "ping\n" : "PING\r\n");
}

enum answer { ANSWER_UNFINISHED, ANSWER_GOOD, ANSWER_ERROR, ANSWER_ODD, ANSWER_PING };

struct reply {
  enum answer answer;
  int size;
  uint64_t id; // what the server calls the message: it must increase on a connection
};

// How long the line is that stands here, 0 when it is not whole yet.
static inline int line_size(const char *at, const char *end) {
  const char *found = memchr(at, '\n', (size_t)(end - at));
  return found != NULL ? (int)(found + 1 - at) : 0;
}

static inline uint64_t digits_of(const char *at, const char *end, const char **after) {
  uint64_t value = 0;
  for (; at < end && *at >= '0' && *at <= '9'; at++) value = value * 10 + (uint64_t)(*at - '0');
  *after = at;
  return value;
}

static inline struct reply first_line(enum answer answer, const char *at, const char *end) {
  int size = line_size(at, end);
  return (struct reply){size > 0 ? answer : ANSWER_UNFINISHED, size, 0};
}

static inline struct reply read_published(const char *at, const char *end) {
  const char *after;
  if (end - at < 28 || memcmp(at, "PUBLISHED ", 10) != 0)
    return first_line(memcmp(at, "ERROR", end - at < 5 ? (size_t)(end - at) : 5) == 0 ? ANSWER_ERROR : ANSWER_ODD, at, end);
  uint64_t stamp = digits_of(at + 10, end, &after);
  if (after != at + 26 || memcmp(after, "\r\n", 2) != 0) return first_line(ANSWER_ODD, at, end);
  return (struct reply){ANSWER_GOOD, 28, stamp};
}

// A bulk string that holds milliseconds, a dash and a count.
static inline struct reply read_stream_id(const char *at, const char *end) {
  int head = line_size(at, end);
  if (head == 0) return (struct reply){.answer = ANSWER_UNFINISHED};
  if (at[0] != '$') return (struct reply){at[0] == '-' ? ANSWER_ERROR : ANSWER_ODD, head, 0};
  int body = line_size(at + head, end);
  if (body == 0) return (struct reply){.answer = ANSWER_UNFINISHED};
  const char *after, *last;
  uint64_t ms = digits_of(at + head, end, &after);
  uint64_t count = *after == '-' ? digits_of(after + 1, end, &last) : 0;
  int whole = *after == '-' && last + 2 == at + head + body && last - (at + head) == atoi(at + 1);
  return (struct reply){whole ? ANSWER_GOOD : ANSWER_ODD, head + body, ms << 20 | count};
}

static inline struct reply read_transaction(const char *at, const char *end) {
  static const char head[] = "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n";
  size_t size = sizeof head - 1, got = (size_t)(end - at) < size ? (size_t)(end - at) : size;
  if (memcmp(at, head, got) != 0) return first_line(memchr(at, '-', got) != NULL ? ANSWER_ERROR : ANSWER_ODD, at, end);
  if (got < size) return (struct reply){.answer = ANSWER_UNFINISHED};
  struct reply id = read_stream_id(at + size, end);
  if (id.answer == ANSWER_UNFINISHED) return id;
  int count = line_size(at + size + id.size, end);
  if (count == 0) return (struct reply){.answer = ANSWER_UNFINISHED};
  if (id.answer == ANSWER_GOOD && memcmp(at + size + id.size, ":0\r\n", 4) != 0) id.answer = ANSWER_ODD;
  id.size += (int)size + count;
  return id;
}

static inline struct reply read_pub_ack(const char *at, const char *end) {
  static const char sequence[] = "\"seq\":";
  int head = line_size(at, end);
  if (head == 0) return (struct reply){.answer = ANSWER_UNFINISHED};
  if (head == 6 && memcmp(at, "PING\r\n", 6) == 0) return (struct reply){ANSWER_PING, head, 0};
  // HMSG: a status instead of an answer, such as that nobody takes the subject.
  if (memcmp(at, "MSG _INBOX.", head < 11 ? (size_t)head : 11) != 0)
    return (struct reply){at[0] == '-' || at[0] == 'H' ? ANSWER_ERROR : ANSWER_ODD, head, 0};
  const char *length = at + head - 2, *after;
  while (length[-1] != ' ') length--;
  int body = (int)digits_of(length, end, &after);
  if (end - at < head + body + 2) return (struct reply){.answer = ANSWER_UNFINISHED};
  const char *found = memmem(at + head, (size_t)body, sequence, sizeof sequence - 1);
  int failed = memmem(at + head, (size_t)body, "\"error\"", 7) != NULL;
  if (failed || found == NULL) return (struct reply){failed ? ANSWER_ERROR : ANSWER_ODD, head + body + 2, 0};
  return (struct reply){ANSWER_GOOD, head + body + 2, digits_of(found + sizeof sequence - 1, end, &after)};
}

static inline struct reply read_reply(enum question question, const char *at, const char *end) {
  switch (question) {
    case ASK_XADD: return read_stream_id(at, end);
    case ASK_XADD_PUBLISH: return read_transaction(at, end);
    case ASK_JETSTREAM: return read_pub_ack(at, end);
    default: return read_published(at, end);
  }
}

enum ask_fault { ASK_NO_FAULT, ASK_SILENCE, ASK_FAILURE, ASK_REPEAT };

// Answers requests without looking at them until a connection closes; the given request of the first connection
// is left unanswered, refused, or answered with an old id. Never returns.
_Noreturn void ask_null_server(const struct ask_plan *plan, int listener, enum ask_fault fault, uint64_t fault_at);

#endif
