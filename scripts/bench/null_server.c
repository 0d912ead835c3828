// The cheapest server that satisfies the generator: it knows the plan, so it parses nothing but copies each
// payload's header into a frame made beforehand. How fast the generator is against it is the generator's ceiling.
#define _GNU_SOURCE
#include "wire.h"

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
  uint64_t taken; // messages so far
  char *kept;     // an unfinished frame
  int kept_size;
};

static const struct plan *plan;
static int *subscribers; // those of channel c are c, c + channels, c + 2 * channels, …
static struct batch *batches, replies;
static uint32_t stamps;
static enum fault fault;
static uint64_t fault_at, seen_on_first; // messages of channel 0 so far
static char held[LONGEST_HEADER];

// Blocking is safe: the generator always reads.
static void send_all(int fd, const char *bytes, size_t size) {
  while (size > 0) {
    ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
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

static void flush_channel(int channel) {
  struct batch *batch = &batches[channel];
  if (batch->count == 0) return;
  size_t size = (size_t)batch->count * batch->shape.size;
  for (int i = 0; i < plan->subscribers; i++) send_all(subscribers[channel + i * plan->channels], batch->frames, size);
  batch->count = 0;
}

static char *next_frame(struct batch *batch) {
  char *frame = batch->frames + (size_t)batch->count++ * batch->shape.size;
  if (batch->shape.stamp_at >= 0) put_digits(frame + batch->shape.stamp_at + 8, ++stamps);
  return frame;
}

static void deliver(int channel, const char *header) {
  struct batch *batch = &batches[channel];
  if (batch->count == batch->room) flush_channel(channel);
  memcpy(next_frame(batch) + batch->shape.payload_at, header, (size_t)header_size(plan));
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
      batches[0].frames[(size_t)batches[0].count * batches[0].shape.size - 3] ^= 1;
  }
}

static void take(struct feed *feed, const struct shape *request, const char *bytes, size_t size) {
  size_t done = 0;
  for (; size - done >= (size_t)request->size; done += (size_t)request->size) {
    const char *header = bytes + done + request->payload_at;
    int channel = (int)(feed->taken++ % (uint64_t)plan->channels);
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
  for (int c = 0; c < plan->channels; c++) flush_channel(c);
  if (replies.count > 0) send_all(feed->fd, replies.frames, (size_t)replies.count * replies.shape.size);
  replies.count = 0;
  if (feed->kept_size == 6 && memcmp(feed->kept, "PING\r\n", 6) == 0) {
    feed->kept_size = 0;
    send_all(feed->fd, "PONG\r\n", 6);
  }
}

static int welcome(int listener, int channel) {
  char hello[512], confirmed[512], got[512];
  handshake(plan, channel, hello, confirmed, sizeof hello);
  int fd = accept(listener, NULL, NULL), one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (fd < 0 || recv(fd, got, strlen(hello), MSG_WAITALL) != (ssize_t)strlen(hello)) _exit(1);
  send_all(fd, confirmed, strlen(confirmed));
  return fd;
}

_Noreturn void null_server(const struct plan *for_plan, int listener, enum fault with, uint64_t at) {
  plan = for_plan;
  fault = with;
  fault_at = at;
  int total = plan->channels * plan->subscribers;
  subscribers = calloc((size_t)total, sizeof *subscribers);
  batches = calloc((size_t)plan->channels, sizeof *batches);
  for (int c = 0; c < plan->channels; c++) {
    batches[c].shape = delivery_shape(plan, c);
    make_batch(&batches[c], READ_SIZE);
  }
  replies.shape = reply_shape(plan);
  if (replies.shape.head_size > 0) make_batch(&replies, READ_SIZE);
  struct shape request = request_shape(plan);

  for (int i = 0; i < total; i++) subscribers[i] = welcome(listener, i % plan->channels);
  struct feed *feeds = calloc((size_t)plan->publishers, sizeof *feeds);
  int epoll = epoll_create1(0);
  for (int i = 0; i < plan->publishers; i++) {
    feeds[i].fd = welcome(listener, -1);
    feeds[i].kept = malloc(MAX_FRAME);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &feeds[i]};
    epoll_ctl(epoll, EPOLL_CTL_ADD, feeds[i].fd, &event);
  }
  char *buffer = malloc(MAX_FRAME + READ_SIZE);
  for (;;) {
    struct epoll_event events[64];
    int ready = epoll_wait(epoll, events, 64, -1);
    for (int i = 0; i < ready; i++) {
      struct feed *feed = events[i].data.ptr;
      ssize_t got = recv(feed->fd, buffer + MAX_FRAME, READ_SIZE, 0);
      if (got <= 0) _exit(0);
      char *start = buffer + MAX_FRAME - feed->kept_size;
      memcpy(start, feed->kept, (size_t)feed->kept_size);
      take(feed, &request, start, (size_t)(feed->kept_size + got));
    }
  }
}
