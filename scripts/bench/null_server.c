// The cheapest server that satisfies the generator: it knows the plan, so it parses nothing but the channel's number
// and copies each payload's header into a frame made beforehand. How fast the generator is against it is the generator's ceiling.
#define _GNU_SOURCE
#include "conn.h"
#include "greet.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct batch {
  struct shape shape;
  char *frames;
  int count, room;
};

struct feed {
  int fd;
  char *kept;     // an unfinished frame
  int kept_size;
};

static const struct plan *plan;
static int *subscribers; // those of lane l are l, l + lanes, l + 2 * lanes, …
static struct batch *batches, replies; // batches by lane
static struct question last;
static uint32_t stamps;
static enum fault fault;
static uint64_t fault_at, seen_on_first; // messages of channel 0 so far
static char held[LONGEST_HEADER];

// Blocking is safe: the generator always reads.
static void send_all(int fd, const char *bytes, size_t size) {
  while (size > 0) {
    ssize_t sent = conn_put(fd, bytes, size);
    if (sent <= 0) _exit(0);
    bytes += sent;
    size -= (size_t)sent;
  }
}

static void make_batch(struct batch *batch, int bytes) {
  batch->room = bytes / batch->shape.size + 1;
  batch->frames = malloc((size_t)batch->room * batch->shape.size);
  for (int i = 0; i < batch->room; i++)
    put_frame(batch->frames + (size_t)i * batch->shape.size, plan, &batch->shape);
}

static void flush_lane(int lane) {
  struct batch *batch = &batches[lane];
  if (batch->count == 0) return;
  size_t size = (size_t)batch->count * batch->shape.size;
  for (int i = 0; i < plan->subscribers; i++) send_all(subscribers[lane + i * plan->lanes], batch->frames, size);
  batch->count = 0;
}

static char *next_frame(struct batch *batch) {
  char *frame = batch->frames + (size_t)batch->count++ * batch->shape.size;
  if (batch->shape.stamp_at >= 0) put_digits(frame + batch->shape.stamp_at + 8, ++stamps);
  return frame;
}

static void deliver(int channel, const char *header) {
  int lane = channel % plan->lanes;
  struct batch *batch = &batches[lane];
  if (batch->count == batch->room) flush_lane(lane);
  char *frame = next_frame(batch);
  memcpy(frame + batch->shape.payload_at, header, (size_t)header_size(plan));
  if (!is_shared(plan)) return;
  put_channel(frame + batch->shape.channel_at, plan->digits, channel);
  if (batch->shape.number_at >= 0) put_channel(frame + batch->shape.number_at, plan->digits, channel);
}

static void deliver_with_fault(const char *header) {
  uint64_t at = seen_on_first++;
  if (fault == FAULT_SWAP && at == fault_at + 1) {
    deliver(0, header);
    deliver(0, held);
    return;
  }
  if (at != fault_at) {
    deliver(0, header);
    return;
  }
  switch (fault) {
    case FAULT_LOSS:
      break;
    case FAULT_SWAP:
      memcpy(held, header, (size_t)header_size(plan));
      break;
    case FAULT_DUPLICATE:
      deliver(0, header);
      deliver(0, header);
      break;
    default:
      deliver(0, header);
      // In the filler, which is never written again: it shows for as long as this frame is used.
      batches[0].frames[(size_t)batches[0].count * batches[0].shape.size - batches[0].shape.tail_size - 1] ^= 1;
  }
}

static void take(struct feed *feed, const struct shape *request, const char *bytes, size_t size) {
  size_t done = 0;
  for (; size - done >= (size_t)request->size; done += (size_t)request->size) {
    const char *header = bytes + done + request->payload_at;
    int channel = get_channel(bytes + done + request->channel_at, plan->digits);
    if (fault != NO_FAULT && channel == 0) deliver_with_fault(header);
    else deliver(channel, header);
    if (replies.room > 0) {
      if (replies.count == replies.room) {
        send_all(feed->fd, replies.frames, (size_t)replies.count * replies.shape.size);
        replies.count = 0;
      }
      next_frame(&replies);
    }
  }
  feed->kept_size = (int)(size - done);
  memcpy(feed->kept, bytes + done, (size_t)feed->kept_size);
  if (replies.count > 0) send_all(feed->fd, replies.frames, (size_t)replies.count * replies.shape.size);
  replies.count = 0;
  if (last.ask_size > 0 && feed->kept_size == last.ask_size && memcmp(feed->kept, last.ask, (size_t)last.ask_size) == 0) {
    feed->kept_size = 0;
    send_all(feed->fd, last.answer, (size_t)last.answer_size);
  }
}

static int take_client(int listener) {
  int fd = accept(listener, NULL, NULL), one = 1;
  if (fd < 0) _exit(1);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  conn_open(fd);
  return fd;
}

static void answer(int fd, const struct text *asked, const struct text *answer) {
  static char got[MAX_TEXT + CONN_RECORD];
  for (size_t size = 0; size < asked->size;) {
    ssize_t n = conn_get(fd, got + size, sizeof got - size);
    if (n <= 0) _exit(1);
    size += (size_t)n;
  }
  send_all(fd, answer->at, answer->size);
}

_Noreturn void null_server(const struct plan *for_plan, int listener, enum fault with, uint64_t at) {
  plan = for_plan;
  fault = with;
  fault_at = at;
  int total = plan->lanes * plan->subscribers;
  last = last_question(plan);
  subscribers = calloc((size_t)total, sizeof *subscribers);
  batches = calloc((size_t)plan->lanes, sizeof *batches);
  for (int lane = 0; lane < plan->lanes; lane++) {
    batches[lane].shape = delivery_shape(plan, lane);
    // All that comes at a time from everybody, but not half a megabyte for each of a thousand.
    make_batch(&batches[lane], plan->lanes > 64 ? READ_SIZE / 16 : READ_SIZE);
  }
  replies.shape = reply_shape(plan);
  if (replies.shape.head_size > 0) make_batch(&replies, READ_SIZE);
  struct shape request = request_shape(plan);

  static struct text asked, answered;
  for (int i = 0; i < total; i++) {
    subscribers[i] = take_client(listener);
    for (int step = 0; greet_subscriber(plan, i % plan->lanes, step, &asked, &answered); step++)
      answer(subscribers[i], &asked, &answered);
  }
  greet_publisher(plan, &asked, &answered);
  struct feed *feeds = calloc((size_t)plan->publishers, sizeof *feeds);
  int epoll = epoll_create1(0);
  for (int i = 0; i < plan->publishers; i++) {
    feeds[i].fd = take_client(listener);
    answer(feeds[i].fd, &asked, &answered);
    feeds[i].kept = malloc(MAX_FRAME);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &feeds[i]};
    epoll_ctl(epoll, EPOLL_CTL_ADD, feeds[i].fd, &event);
  }
  char *buffer = malloc(MAX_FRAME + READ_SIZE);
  for (;;) {
    struct epoll_event events[256];
    int ready = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < ready; i++) {
      struct feed *feed = events[i].data.ptr;
      ssize_t got = conn_get(feed->fd, buffer + MAX_FRAME, READ_SIZE);
      if (got <= 0) _exit(0);
      char *start = buffer + MAX_FRAME - feed->kept_size;
      memcpy(start, feed->kept, (size_t)feed->kept_size);
      take(feed, &request, start, (size_t)(feed->kept_size + got));
    }
    for (int lane = 0; lane < plan->lanes; lane++) flush_lane(lane);
  }
}
