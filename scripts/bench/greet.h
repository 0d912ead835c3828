// How connections are opened: what a client says at first, and what shows that the server has carried it out.
#ifndef PUSHD_BENCH_GREET_H
#define PUSHD_BENCH_GREET_H

#include "wire.h"

#include <stdarg.h>

// So many subscriptions are asked for before the answers are awaited.
enum { STEP = 500, MAX_TEXT = STEP * 96 };

struct text {
  size_t size;
  char at[MAX_TEXT];
};

static inline void add_bytes(struct text *text, const char *bytes, size_t size) {
  memcpy(text->at + text->size, bytes, size);
  text->size += size;
}

static inline __attribute__((format(printf, 2, 3))) void add(struct text *text, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  text->size += (size_t)vsnprintf(text->at + text->size, MAX_TEXT - text->size, format, arguments);
  va_end(arguments);
}

// The channel is the index'th of its connection.
static inline void add_subscription(struct text *ask, const struct plan *plan, int channel, int index) {
  char name[16];
  int length = channel_name(plan, channel, name, sizeof name);
  switch (plan->protocol) {
    case PUSHD:
    case PUSHD_JSON: add(ask, "sub %s\n", name); break;
    case NATS: add(ask, "SUB %s %s\r\n", name, is_shared(plan) ? name + 2 : "1"); break;
    case REDIS: add(ask, "*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n%s\r\n", length, name); break;
    case MQTT: {
      char head[] = {(char)0x82, (char)(2 + 2 + length + 1), (char)((index + 1) >> 8), (char)(index + 1), 0, (char)length};
      add_bytes(ask, head, sizeof head);
      add_bytes(ask, name, (size_t)length);
      add_bytes(ask, "\0", 1); // QoS 0
      break;
    }
  }
}

// What answers it: the server answers in order, so all before it are carried out, too.
static inline void set_subscribed(struct text *answer, const struct plan *plan, int channel, int index) {
  char name[16];
  int length = channel_name(plan, channel, name, sizeof name);
  answer->size = 0;
  switch (plan->protocol) {
    case PUSHD:
    case PUSHD_JSON: add(answer, "SUBSCRIBED %s\r\n", name); break;
    case NATS: add(answer, "PONG\r\n"); break;
    case REDIS: add(answer, "*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:%d\r\n", length, name, index + 1); break;
    case MQTT: {
      char suback[] = {(char)0x90, 3, (char)((index + 1) >> 8), (char)(index + 1), 0};
      add_bytes(answer, suback, sizeof suback);
      break;
    }
  }
}

static inline void add_hello(struct text *ask, const struct plan *plan) {
  static const char connect[] = {0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 0}; // a clean session
  if (plan->protocol == NATS) add(ask, "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n");
  if (plan->protocol == MQTT) add_bytes(ask, connect, sizeof connect);
  if (plan->protocol == PUSHD_JSON) add(ask, "hello 1 json\n");
}

// What a publisher's connection says.
static inline void greet_publisher(const struct plan *plan, struct text *ask, struct text *answer) {
  ask->size = answer->size = 0;
  add_hello(ask, plan);
  switch (plan->protocol) {
    case PUSHD:
    case PUSHD_JSON:
      add(ask, "ping\n");
      add(answer, "PONG\r\n");
      break;
    case NATS:
      add(ask, "PING\r\n");
      add(answer, "PONG\r\n");
      break;
    case REDIS:
      add(ask, "PING\r\n");
      add(answer, "+PONG\r\n");
      break;
    case MQTT: add_bytes(answer, "\x20\x02\0\0", 4); break;
  }
}

// What a subscriber's connection says in each of its steps, beginning with 0. Returns 0 behind the last.
static inline int greet_subscriber(const struct plan *plan, int lane, int step, struct text *ask, struct text *answer) {
  int held = (plan->channels - lane + plan->lanes - 1) / plan->lanes, from = step * STEP;
  int to = from + STEP < held ? from + STEP : held;
  if (from >= to) return 0;
  ask->size = 0;
  if (step == 0) add_hello(ask, plan);
  for (int i = from; i < to; i++) add_subscription(ask, plan, lane + i * plan->lanes, i);
  if (plan->protocol == NATS) add(ask, "PING\r\n");
  set_subscribed(answer, plan, lane + (to - 1) * plan->lanes, to - 1);
  return 1;
}

// Where publishing is not answered, a last question is: once its answer has come, all before it was taken.
struct question {
  const char *ask, *answer;
  int ask_size, answer_size; // 0 where publishing is answered
};

static inline struct question last_question(const struct plan *plan) {
  switch (plan->protocol) {
    case NATS: return (struct question){"PING\r\n", "PONG\r\n", 6, 6};
    case MQTT: return (struct question){"\xc0\0", "\xd0\0", 2, 2};
    default: return (struct question){"", "", 0, 0};
  }
}

#endif
