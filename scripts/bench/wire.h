// What the generator and the null server share: the plan of a run, and the shape of each protocol's bytes.
#ifndef PUSHD_BENCH_WIRE_H
#define PUSHD_BENCH_WIRE_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { MAX_HEAD = 128, MAX_PAYLOAD = 60000, MAX_FRAME = MAX_PAYLOAD + 2 * MAX_HEAD };
enum { CHUNK = 64 * 1024, READ_SIZE = 512 * 1024 };
enum protocol { PUSHD, NATS, REDIS };
enum fault { NO_FAULT, FAULT_LOSS, FAULT_DUPLICATE, FAULT_SWAP, FAULT_CORRUPT };

struct plan {
  enum protocol protocol;
  int publishers, channels, subscribers; // subscribers of each channel
  int size;                              // bytes of a payload
  int digits;                            // of a channel's number: names of one length make frames of one length
  int linked;                            // subscribers are at another server than publishers
  int timed;                             // payloads carry the time at which they were due
};

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

// A frame is a constant head, a stamp of 16 digits where the protocol has one, a payload where it has one,
// and CR LF: every frame of one kind and channel has the same length.
struct shape {
  char head[MAX_HEAD];
  int head_size;
  int channel_at; // in the head, of the channel's digits; -1 without
  int stamp_at;   // -1 without
  int payload_at; // -1 without
  int size;
};

static inline void finish_shape(struct shape *shape, int head_size, const char *channel, int stamp, int payload) {
  shape->head_size = head_size;
  const char *found = channel[0] != 0 ? strstr(shape->head, channel) : NULL;
  shape->channel_at = found != NULL ? (int)(found - shape->head) + 2 : -1;
  shape->stamp_at = stamp ? head_size : -1;
  int at = head_size + (stamp ? 16 : 0) + (stamp && payload > 0 ? 1 : 0);
  shape->payload_at = payload > 0 ? at : -1;
  shape->size = at + payload + 2;
}

static inline void channel_name(const struct plan *plan, int channel, char *name, size_t size) {
  snprintf(name, size, "ch%0*d", plan->digits, channel);
}

// What a publisher sends for a message.
static inline struct shape request_shape(const struct plan *plan) {
  struct shape shape;
  char name[16];
  channel_name(plan, 0, name, sizeof name);
  const char *format = plan->protocol == PUSHD  ? "pub %1$s "
                       : plan->protocol == NATS ? "PUB %1$s %2$d\r\n"
                                                : "*3\r\n$7\r\nPUBLISH\r\n$%3$d\r\n%1$s\r\n$%2$d\r\n";
  int n = snprintf(shape.head, MAX_HEAD, format, name, plan->size, (int)strlen(name));
  finish_shape(&shape, n, name, 0, plan->size);
  return shape;
}

// What it gets for it. NATS answers nothing: the head is empty. Redis counts the subscribers of the server that
// is asked, so none of those behind a link.
static inline struct shape reply_shape(const struct plan *plan) {
  struct shape shape;
  int n = 0;
  if (plan->protocol == PUSHD) n = snprintf(shape.head, MAX_HEAD, "PUBLISHED ");
  else if (plan->protocol == REDIS) n = snprintf(shape.head, MAX_HEAD, ":%d", plan->linked ? 0 : plan->subscribers);
  finish_shape(&shape, n, "", plan->protocol == PUSHD, 0);
  return shape;
}

// What a subscriber gets.
static inline struct shape delivery_shape(const struct plan *plan, int channel) {
  struct shape shape;
  char name[16];
  channel_name(plan, channel, name, sizeof name);
  const char *format = plan->protocol == PUSHD  ? "MESSAGE %1$s "
                       : plan->protocol == NATS ? "MSG %1$s 1 %2$d\r\n"
                                                : "*3\r\n$7\r\nmessage\r\n$%3$d\r\n%1$s\r\n$%2$d\r\n";
  int n = snprintf(shape.head, MAX_HEAD, format, name, plan->size, (int)strlen(name));
  finish_shape(&shape, n, name, plan->protocol == PUSHD, plan->size);
  return shape;
}

static inline void put_frame(char *at, const struct plan *plan, const struct shape *shape) {
  memcpy(at, shape->head, (size_t)shape->head_size);
  if (shape->stamp_at >= 0) memset(at + shape->stamp_at, '0', 16);
  if (shape->payload_at >= 0) {
    if (shape->stamp_at >= 0) at[shape->payload_at - 1] = ' ';
    put_digits(at + shape->payload_at + PUBLISHER_AT, 0);
    put_digits(at + shape->payload_at + SEQUENCE_AT, 0);
    int header = header_size(plan);
    put_filler(at + shape->payload_at + header, plan->size - header);
  }
  memcpy(at + shape->size - 2, "\r\n", 2);
}

// The first bytes of a connection, and what shows that the server has carried them out.
// channel -1 makes a publisher.
static inline void handshake(const struct plan *plan, int channel, char *hello, char *confirmed, size_t size) {
  char name[16] = "";
  if (channel >= 0) channel_name(plan, channel, name, sizeof name);
  int length = (int)strlen(name);
  switch (plan->protocol) {
    case PUSHD:
      if (channel < 0) snprintf(hello, size, "ping\n");
      else snprintf(hello, size, "sub %s\n", name);
      if (channel < 0) snprintf(confirmed, size, "PONG\r\n");
      else snprintf(confirmed, size, "SUBSCRIBED %s\r\n", name);
      break;
    case NATS: {
      const char *connect = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";
      if (channel < 0) snprintf(hello, size, "%sPING\r\n", connect);
      else snprintf(hello, size, "%sSUB %s 1\r\nPING\r\n", connect, name);
      snprintf(confirmed, size, "PONG\r\n");
      break;
    }
    case REDIS:
      if (channel < 0) snprintf(hello, size, "PING\r\n");
      else snprintf(hello, size, "*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n%s\r\n", length, name);
      if (channel < 0) snprintf(confirmed, size, "+PONG\r\n");
      else snprintf(confirmed, size, "*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:1\r\n", length, name);
      break;
  }
}

// Serves the plan's connections on the listening socket until the first of them closes: subscribers first,
// channel by channel in turns, then publishers. Never returns.
_Noreturn void null_server(const struct plan *plan, int listener, enum fault fault, uint64_t fault_at);

#endif
