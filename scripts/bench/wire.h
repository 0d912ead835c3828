// What the generator and the null server share: the plan of a run, and the shape of each protocol's bytes.
#ifndef PUSHD_BENCH_WIRE_H
#define PUSHD_BENCH_WIRE_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { MAX_HEAD = 128, MAX_PAYLOAD = 60000, MAX_FRAME = MAX_PAYLOAD + 2 * MAX_HEAD };
enum { CHUNK = 64 * 1024, READ_SIZE = 512 * 1024 };
enum protocol { PUSHD, PUSHD_JSON, NATS, REDIS, MQTT };
enum fault { NO_FAULT, FAULT_LOSS, FAULT_DUPLICATE, FAULT_SWAP, FAULT_CORRUPT };

// A lane is what one connection is subscribed to. As a rule that is one channel, and there are as many lanes as
// channels; where there are fewer, lanes share the channels: channel c is in lane c % lanes.
struct plan {
  enum protocol protocol;
  int publishers, channels, subscribers; // subscribers of each lane
  int lanes;
  int size;   // bytes of a payload
  int digits; // of a channel's number: names of one length make frames of one length
  int linked; // subscribers are at another server than publishers
  int timed;  // payloads carry the time at which they were due
};
static inline int is_shared(const struct plan *plan) { return plan->lanes < plan->channels; }

// A payload begins with its publisher, its number in that publisher's sequence for the channel, and in
// timed runs when it was due; the rest is filler that must arrive as it was sent. Digits are the sixteen
// characters from '0' to '?', so that shifts and masks alone read and write them: there is no gap
// between '9' and the next one as in hexadecimal.
enum { PUBLISHER_AT = 0, SEQUENCE_AT = 8, DUE_AT = 16, LONGEST_HEADER = 32 };
static inline int header_size(const struct plan *plan) { return plan->timed ? LONGEST_HEADER : DUE_AT; }

static inline void put_digits(char *at, uint32_t value) {
  uint64_t v = value;
  v = (v | v << 16) & 0x0000ffff0000ffff;
  v = (v | v << 8) & 0x00ff00ff00ff00ff;
  v = (v | v << 4) & 0x0f0f0f0f0f0f0f0f;
  v = __builtin_bswap64(v | 0x3030303030303030);
  memcpy(at, &v, 8);
}

// False when the eight bytes are not digits.
static inline int get_digits(const char *at, uint32_t *value) {
  uint64_t v;
  memcpy(&v, at, 8);
  if ((v & 0xf0f0f0f0f0f0f0f0) != 0x3030303030303030) return 0;
  v = __builtin_bswap64(v) & 0x0f0f0f0f0f0f0f0f;
  v = (v | v >> 4) & 0x00ff00ff00ff00ff;
  v = (v | v >> 8) & 0x0000ffff0000ffff;
  *value = (uint32_t)(v | v >> 16);
  return 1;
}

static inline void put_filler(char *at, int size) {
  for (int i = 0; i < size; i++) at[i] = (char)('a' + i % 26);
}

// Of a channel's number in a name, in decimal.
static inline void put_channel(char *at, int digits, int channel) {
  for (int d = digits - 1; d >= 0; d--, channel /= 10) at[d] = (char)('0' + channel % 10);
}

// Anything at all when they are not digits.
static inline int get_channel(const char *at, int digits) {
  int channel = 0;
  for (int d = 0; d < digits; d++) channel = channel * 10 + (at[d] - '0');
  return channel;
}

// A frame is a constant head, a stamp of 16 digits where the protocol has one, a payload where it has one, and
// constant bytes between and behind these: every frame of one kind and channel has the same length.
struct shape {
  char head[MAX_HEAD];
  int head_size;
  int channel_at; // in the head, of the channel's digits; -1 without
  int number_at;  // of the channel's digits once more, where its subscription is called by them; -1 without
  int stamp_at;   // -1 without
  int payload_at; // -1 without
  const char *between, *tail;
  int tail_size, size;
};

static inline void finish_shape(struct shape *shape, const char *channel, const char *between, int payload,
                                const char *tail) {
  size_t length = strlen(channel);
  const char *found = length > 0 ? memmem(shape->head, (size_t)shape->head_size, channel, length) : NULL;
  shape->channel_at = found != NULL ? (int)(found - shape->head) + 2 : -1;
  shape->number_at = -1;
  shape->between = between;
  shape->stamp_at = between != NULL ? shape->head_size : -1;
  int at = shape->head_size + (between != NULL ? 16 + (int)strlen(between) : 0);
  shape->payload_at = payload > 0 ? at : -1;
  shape->tail = tail;
  shape->tail_size = (int)strlen(tail);
  shape->size = at + payload + shape->tail_size;
}

static inline int channel_name(const struct plan *plan, int channel, char *name, size_t size) {
  return snprintf(name, size, "ch%0*d", plan->digits, channel);
}

// A PUBLISH of MQTT with QoS 0, which is the same in both directions, up to its payload.
static inline int put_mqtt_head(char *at, const char *name, int payload) {
  int n = 0, length = (int)strlen(name), rest = 2 + length + payload;
  at[n++] = 0x30;
  for (; rest > 127; rest >>= 7) at[n++] = (char)((rest & 127) | 128);
  at[n++] = (char)rest;
  at[n++] = 0;
  at[n++] = (char)length;
  memcpy(at + n, name, (size_t)length);
  return n + length;
}

// What a publisher sends for a message.
static inline struct shape request_shape(const struct plan *plan) {
  struct shape shape;
  char name[16];
  int length = channel_name(plan, 0, name, sizeof name);
  char *head = shape.head;
  const char *tail = "\r\n";
  switch (plan->protocol) {
    case PUSHD:
    case PUSHD_JSON: shape.head_size = snprintf(head, MAX_HEAD, "pub %s ", name); break;
    case NATS: shape.head_size = snprintf(head, MAX_HEAD, "PUB %s %d\r\n", name, plan->size); break;
    case REDIS:
      shape.head_size = snprintf(head, MAX_HEAD, "*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%s\r\n$%d\r\n", length, name, plan->size);
      break;
    case MQTT:
      shape.head_size = put_mqtt_head(head, name, plan->size);
      tail = "";
      break;
  }
  finish_shape(&shape, name, NULL, plan->size, tail);
  return shape;
}

// What it gets for it. NATS and MQTT answer nothing: the head is empty. Redis counts the subscribers of the server
// that is asked, so none of those behind a link.
static inline struct shape reply_shape(const struct plan *plan) {
  struct shape shape = {.head_size = 0};
  int is_pushd = plan->protocol == PUSHD || plan->protocol == PUSHD_JSON;
  if (is_pushd) shape.head_size = snprintf(shape.head, MAX_HEAD, "PUBLISHED ");
  if (plan->protocol == REDIS)
    shape.head_size = snprintf(shape.head, MAX_HEAD, ":%d", plan->linked ? 0 : plan->subscribers);
  finish_shape(&shape, "", is_pushd ? "" : NULL, 0, "\r\n");
  return shape;
}

// What a subscriber gets. pushd's JSON form names the node, which has to be called `bench`.
static inline struct shape delivery_shape(const struct plan *plan, int channel) {
  struct shape shape;
  char name[16];
  int length = channel_name(plan, channel, name, sizeof name);
  char *head = shape.head;
  const char *between = NULL, *tail = "\r\n";
  switch (plan->protocol) {
    case PUSHD:
      shape.head_size = snprintf(head, MAX_HEAD, "MESSAGE %s ", name);
      between = " ";
      break;
    case PUSHD_JSON:
      shape.head_size = snprintf(head, MAX_HEAD, "EVENT {\"op\":\"msg\",\"channel\":\"%s\",\"ts\":", name);
      between = ",\"node\":\"bench\",\"msg\":\"";
      tail = "\"}\r\n";
      break;
    case NATS:
      shape.head_size = snprintf(head, MAX_HEAD, "MSG %s %s %d\r\n", name, is_shared(plan) ? name + 2 : "1", plan->size);
      break;
    case REDIS:
      shape.head_size = snprintf(head, MAX_HEAD, "*3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$%d\r\n", length, name, plan->size);
      break;
    case MQTT:
      shape.head_size = put_mqtt_head(head, name, plan->size);
      tail = "";
      break;
  }
  finish_shape(&shape, name, between, plan->size, tail);
  if (plan->protocol == NATS && is_shared(plan)) shape.number_at = shape.channel_at + plan->digits + 1;
  return shape;
}

static inline void put_frame(char *at, const struct plan *plan, const struct shape *shape) {
  memcpy(at, shape->head, (size_t)shape->head_size);
  if (shape->stamp_at >= 0) {
    memset(at + shape->stamp_at, '0', 16);
    memcpy(at + shape->stamp_at + 16, shape->between, strlen(shape->between));
  }
  if (shape->payload_at >= 0) {
    put_digits(at + shape->payload_at + PUBLISHER_AT, 0);
    put_digits(at + shape->payload_at + SEQUENCE_AT, 0);
    int header = header_size(plan);
    put_filler(at + shape->payload_at + header, plan->size - header);
  }
  memcpy(at + shape->size - shape->tail_size, shape->tail, (size_t)shape->tail_size);
}

// Serves the plan's connections on the listening socket until the first of them closes: subscribers first,
// lane by lane in turns, then publishers. Never returns.
_Noreturn void null_server(const struct plan *plan, int listener, enum fault fault, uint64_t fault_at);

#endif
