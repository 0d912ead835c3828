// The run itself: publishers and subscribers on non-blocking sockets, one thread, one epoll.
#define _GNU_SOURCE
#include "drive.h"
#include "conn.h"
#include "dial.h"
#include "frame.h"
#include "popularity.h"
#include "processor_time.h"

#include <sys/epoll.h>

struct subscriber {
  int fd, lane; // fd is -1 once the server has closed it
  struct track track;
  struct stamp *stamps; // of the message before, by channel of the lane
  char *kept;           // an unfinished frame
  size_t kept_size;
};

struct publisher {
  int fd;
  uint64_t sent;               // messages handed to the socket or waiting in the chunk
  uint64_t replied;
  char *chunk;                 // frames made beforehand, of which numbers are filled in
  size_t chunk_size, chunk_at; // what is to be sent, and how far it was
  int blocked;                 // the socket takes no more until epoll says so
  int pong_due, asked, answered;
  struct stamp stamp; // of the reply before
  char kept[MAX_HEAD];
  size_t kept_size;
};

static struct plan plan;
static struct options options;
static struct outcome *outcome;
static struct shape request, reply, *deliveries;
static struct expectation *expectations; // by channel
static struct question last; // where publishing is not answered
static int shared;           // lanes hold several channels
static struct subscriber *subscribers; // those of lane l are l, l + lanes, l + 2 * lanes, …
static struct publisher *publishers;
static int subscriber_count, epoll;
static uint64_t *published, *allowed; // by lane: so far, and up to where the window reaches
static uint32_t *sequences;           // by publisher and channel: the next
static struct popularity popularity;
static uint64_t window_messages, total_published, total_replied;
static int finished; // publishing is over
static int64_t start_ns, read_ns;
static char *buffer; // what is before the buffer is room for an unfinished frame

// ---- lanes: which channel is where

static int held_by(int lane) { return (plan.channels - lane + plan.lanes - 1) / plan.lanes; }

// Messages of one publisher to one channel are a stream; those that a subscriber gets are numbered by this.
static inline uint32_t stream_of(uint32_t publisher, int channel) {
  return shared ? publisher + (uint32_t)(channel / plan.lanes * plan.publishers) : publisher;
}

// ---- connecting

static void watch(int fd, uint32_t what, int index) {
  struct epoll_event event = {.events = what, .data.u32 = (uint32_t)index};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) die("epoll: %s", strerror(errno));
}

static void connect_all(void) {
  static struct text asked, answer;
  epoll = epoll_create1(EPOLL_CLOEXEC);
  for (int i = 0; i < subscriber_count; i++) {
    struct subscriber *s = &subscribers[i];
    s->lane = i % plan.lanes;
    s->kept = malloc((size_t)deliveries[0].size + 4096);
    size_t held = (size_t)held_by(s->lane);
    track_open(&s->track, (int)held * plan.publishers);
    s->stamps = calloc(held, sizeof *s->stamps);
    s->fd = dial(options.host, options.subscribers_port);
    for (int step = 0; greet_subscriber(&plan, s->lane, step, &asked, &answer); step++) ask(s->fd, &asked, &answer);
    set_nonblocking(s->fd);
    watch(s->fd, EPOLLIN, i);
  }
  if (plan.linked && (plan.protocol == NATS || plan.protocol == MQTT))
    await_route(&plan, options.host, options.port, options.subscribers_port, options.stall);
  greet_publisher(&plan, &asked, &answer);
  for (int i = 0; i < plan.publishers; i++) {
    struct publisher *p = &publishers[i];
    int frames = CHUNK / request.size + 1;
    p->chunk = malloc((size_t)frames * request.size);
    for (int f = 0; f < frames; f++) {
      put_frame(p->chunk + (size_t)f * request.size, &plan, &request);
      put_digits(p->chunk + (size_t)f * request.size + request.payload_at + PUBLISHER_AT, (uint32_t)i);
    }
    p->fd = dial(options.host, options.port);
    ask(p->fd, &asked, &answer);
    set_nonblocking(p->fd);
    watch(p->fd, EPOLLIN | EPOLLOUT | EPOLLET, subscriber_count + i);
  }
}

// ---- publishing

// Whether the window of the lane has room: no subscriber may be more than the window behind.
static int has_room(int lane) {
  if (published[lane] < allowed[lane]) return 1;
  uint64_t slowest = published[lane];
  for (int i = lane; i < subscriber_count; i += plan.lanes)
    if (subscribers[i].fd >= 0 && subscribers[i].track.passed < slowest) slowest = subscribers[i].track.passed;
  allowed[lane] = slowest + window_messages;
  return published[lane] < allowed[lane];
}

static int64_t due_ns(uint64_t message) { return start_ns + (int64_t)((double)message / options.rate * 1e9); }

// Publishers take turns; where messages are due faster than single sends can follow, for 20 us each.
static int publisher_of(uint64_t message) {
  uint64_t turn = options.rate > 50000 ? (uint64_t)(options.rate / 50000) : 1;
  return (int)(message / turn % (uint64_t)plan.publishers);
}

static void put_message(struct publisher *p, int index, int channel, int64_t now) {
  char *frame = p->chunk + p->chunk_size;
  put_channel(frame + request.channel_at, plan.digits, channel);
  char *payload = frame + request.payload_at;
  put_digits(payload + SEQUENCE_AT, sequences[(size_t)index * plan.channels + channel]++);
  if (plan.timed) {
    // From when it was due, not from when it was sent: a server that stops us does not hide its delay.
    int64_t due = due_ns(total_published);
    put_digits(payload + DUE_AT, (uint32_t)((uint64_t)due >> 32));
    put_digits(payload + DUE_AT + 8, (uint32_t)due);
    histogram_add(&outcome->delays, now > due ? (uint64_t)(now - due) : 0);
  }
  p->chunk_size += (size_t)request.size;
  p->sent++;
  published[channel % plan.lanes]++;
  total_published++;
}

static void fill_chunk(struct publisher *p, int index, int64_t now) {
  p->chunk_size = p->chunk_at = 0;
  while (!finished && p->chunk_size < CHUNK) {
    int channel = options.zipf ? popular_channel(&popularity, p->sent, index, plan.publishers)
                               : (int)(p->sent % (uint64_t)plan.channels);
    if (!has_room(channel % plan.lanes) || (options.messages > 0 && total_published >= options.messages)) break;
    if (plan.timed && (due_ns(total_published) > now || publisher_of(total_published) != index)) break;
    put_message(p, index, channel, now);
  }
}

static void send_control(struct publisher *p, const char *bytes, int size) {
  if (conn_put(p->fd, bytes, (size_t)size) != size) die("cannot send a question of %d bytes", size);
}

static void send_chunk(struct publisher *p) {
  if (p->blocked) return;
  while (p->chunk_at < p->chunk_size) {
    ssize_t n = conn_put(p->fd, p->chunk + p->chunk_at, p->chunk_size - p->chunk_at);
    if (n < 0 && errno != EAGAIN) die("cannot publish: %s", strerror(errno));
    p->blocked = n < 0;
    if (p->blocked) return;
    p->chunk_at += (size_t)n;
  }
  if (p->pong_due) send_control(p, "PONG\r\n", 6);
  p->pong_due = 0;
}

// Every publisher sends one chunk at most. Returns whether any could send another at once.
static int publish_round(int64_t now) {
  int more = 0;
  for (int i = 0; i < plan.publishers; i++) {
    struct publisher *p = &publishers[i];
    if (p->chunk_at == p->chunk_size) fill_chunk(p, i, now);
    send_chunk(p);
    if (finished && last.ask_size > 0 && !p->asked && p->chunk_at == p->chunk_size) {
      p->asked = 1;
      send_control(p, last.ask, last.ask_size);
    }
    more |= !finished && p->chunk_size >= CHUNK && p->chunk_at == p->chunk_size;
  }
  return more;
}

// ---- receiving

static void take_corrupt(const char *at, int size) {
  outcome->corrupt++;
  note_problem(&outcome->problem, at, (size_t)size);
}

static void take_due(const char *at, int size) {
  uint32_t high, low;
  if (!get_digits(at, &high) || !get_digits(at + 8, &low)) {
    take_corrupt(at, size);
    return;
  }
  int64_t latency = read_ns - (int64_t)((uint64_t)high << 32 | low);
  histogram_add(&outcome->latencies, latency > 0 ? (uint64_t)latency : 0);
}

static void take_unexpected(struct subscriber *s, int channel, const char *at, uint32_t publisher, uint32_t sequence) {
  // What was never sent can stand in no sequence.
  if (publisher >= (uint32_t)plan.publishers || sequence >= sequences[(size_t)publisher * plan.channels + channel])
    take_corrupt(at, deliveries[channel].size);
  else track_unexpected(&s->track, &outcome->tally, stream_of(publisher, channel), sequence);
}

// Returns how many messages were the next ones: all, as a rule.
static inline unsigned take_message(struct subscriber *s, int channel, const char *at, const struct shape *shape) {
  const char *payload = at + shape->payload_at;
  uint32_t publisher, sequence;
  if (!get_digits(payload + PUBLISHER_AT, &publisher) || !get_digits(payload + SEQUENCE_AT, &sequence)) {
    take_corrupt(at, shape->size);
    return 0;
  }
  struct stamp *stamp = shared ? &s->stamps[channel / plan.lanes] : s->stamps;
  if (shape->stamp_at >= 0) outcome->stamps_back += !is_later(at + shape->stamp_at, stamp);
  if (plan.timed) take_due(payload + DUE_AT, LONGEST_HEADER - DUE_AT);
  if (publisher < (uint32_t)plan.publishers && track_expected(&s->track, stream_of(publisher, channel), sequence))
    return 1;
  take_unexpected(s, channel, at, publisher, sequence);
  return 0;
}

// What is no frame: a line, or with MQTT a packet of two bytes. Returns what follows it, or `at` when it is not
// whole yet.
static const char *take_line(const char *at, const char *end, int fd, struct publisher *p) {
  size_t size = (size_t)(end - at);
  if (p != NULL && last.ask_size > 0 && memcmp(at, last.answer, size < (size_t)last.answer_size ? size : (size_t)last.answer_size) == 0) {
    if (size < (size_t)last.answer_size) return at;
    p->answered = 1;
    return at + last.answer_size;
  }
  if (plan.protocol != MQTT) {
    const char *line_end = memchr(at, '\n', size);
    if (line_end == NULL && size < MAX_HEAD - 1) return at;
    if (line_end != NULL) size = (size_t)(line_end + 1 - at);
  }
  if (plan.protocol == NATS && size == 6 && memcmp(at, "PING\r\n", 6) == 0) {
    if (p != NULL) p->pong_due = 1; // not in the middle of a message
    else if (conn_put(fd, "PONG\r\n", 6) != 6) die("cannot send PONG");
  } else {
    int is_error = (size >= 5 && memcmp(at, "ERROR", 5) == 0) || at[0] == '-';
    if (is_error) outcome->errors++;
    else outcome->corrupt++;
    note_problem(&outcome->problem, at, size);
  }
  return at + size;
}

// Which channel's frame stands here, or -1: none of this lane. There must be enough bytes for one.
static inline int channel_at(const struct subscriber *s, const char *at) {
  if (!shared) return s->lane;
  int channel = get_channel(at + deliveries[0].channel_at, plan.digits);
  return channel >= 0 && channel < plan.channels && channel % plan.lanes == s->lane ? channel : -1;
}

// Returns where the unfinished rest begins.
static const char *take_deliveries(struct subscriber *s, const char *at, const char *end) {
  const int size = deliveries[0].size;
  for (;;) {
    unsigned in_order = 0;
    for (; end - at >= size; at += size) {
      int channel = channel_at(s, at);
      if (channel < 0) break;
      const struct shape *shape = &deliveries[channel];
      if (__builtin_expect(is_as_expected(at, &expectations[channel], size), 1))
        in_order += take_message(s, channel, at, shape);
      else if (is_frame(at, shape)) take_corrupt(at, size);
      else break;
    }
    s->track.passed += in_order;
    outcome->tally.delivered += in_order;
    if (at == end || may_be_frame(at, (size_t)(end - at), &deliveries[s->lane])) return at;
    const char *next = take_line(at, end, s->fd, NULL);
    if (next == at) return at;
    at = next;
  }
}

static const char *take_replies(struct publisher *p, const char *at, const char *end) {
  for (;;) {
    uint64_t before = p->replied;
    while (reply.head_size > 0 && end - at >= reply.size && is_frame(at, &reply)) {
      if (reply.stamp_at >= 0) outcome->stamps_back += !is_later(at + reply.stamp_at, &p->stamp);
      p->replied++;
      at += reply.size;
    }
    total_replied += p->replied - before;
    if (at == end || may_be_frame(at, (size_t)(end - at), &reply)) return at;
    const char *next = take_line(at, end, p->fd, p);
    if (next == at) return at;
    at = next;
  }
}

static void read_publisher(struct publisher *p) {
  for (ssize_t n = READ_SIZE; n == READ_SIZE || conn_is_secure();) { // epoll tells once, so until there is no more
    n = conn_get(p->fd, buffer, READ_SIZE);
    if (n < 0 && errno == EAGAIN) return;
    const char *problem = outcome->problem.text;
    if (n <= 0) die("the server closed a publisher's connection%s%s", problem[0] != 0 ? " after: " : "", problem);
    memcpy(buffer - p->kept_size, p->kept, p->kept_size);
    const char *rest = take_replies(p, buffer - p->kept_size, buffer + n);
    p->kept_size = (size_t)(buffer + n - rest);
    memcpy(p->kept, rest, p->kept_size);
  }
}

static void read_subscriber(struct subscriber *s) {
  ssize_t n = conn_get(s->fd, buffer, READ_SIZE);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) {
    outcome->cut++;
    finished = 1;
    close(s->fd);
    s->fd = -1;
    return;
  }
  memcpy(buffer - s->kept_size, s->kept, s->kept_size);
  const char *rest = take_deliveries(s, buffer - s->kept_size, buffer + n);
  s->kept_size = (size_t)(buffer + n - rest);
  memcpy(s->kept, rest, s->kept_size);
}

static int is_drained(void) {
  for (int i = 0; i < plan.publishers; i++) {
    struct publisher *p = &publishers[i];
    if (p->chunk_at < p->chunk_size || (reply.head_size > 0 && p->replied < p->sent)) return 0;
    if (last.ask_size > 0 && !p->answered) return 0;
  }
  for (int i = 0; i < subscriber_count; i++) {
    struct subscriber *s = &subscribers[i];
    if (s->fd >= 0 && s->track.passed < published[s->lane]) return 0;
  }
  return 1;
}

// ---- the run

static struct moment this_moment(void) {
  return (struct moment){.at_ns = now_ns(),
                         .delivered = outcome->tally.delivered,
                         .published = total_published,
                         .own_cpu = processor_seconds(0),
                         .server_cpu = options.server_pid > 0 ? processor_seconds(options.server_pid) : 0,
                         .subscribers_cpu =
                             options.subscribers_pid > 0 ? processor_seconds(options.subscribers_pid) : 0,
                         .machine_cpu = machine_seconds()};
}

// How long to sleep for events. Timed runs spin through the last few microseconds, as a sleep ends late, and no
// longer: at 20,000 messages a second that would be all of the time, and the server would have one processor less.
static int64_t sleep_ns(int64_t now) {
  if (finished || !plan.timed) return 20000000;
  int64_t left = due_ns(total_published) - now - 5000;
  return left < 0 ? 0 : left < 20000000 ? left : 20000000;
}

// Publishes and reads until everything has come. The figures are those from the end of the warm-up until
// publishing stops: as much is on its way then as was at the beginning, so that neither end needs a correction.
// A given number of messages is timed from the first byte to the last.
// Returns whether it ended because nothing came any more.
static int run(struct moment *from, struct moment *to) {
  start_ns = now_ns();
  int64_t warm_ns = start_ns + (int64_t)(options.warmup * 1e9), stop_ns = warm_ns + (int64_t)(options.seconds * 1e9);
  int64_t progress_ns = start_ns;
  uint64_t progress = 0;
  *from = this_moment();
  for (int warm = options.warmup == 0, measured = 0;;) {
    int64_t now = now_ns();
    if (!warm && now >= warm_ns) {
      warm = 1;
      memset(&outcome->latencies, 0, sizeof outcome->latencies);
      memset(&outcome->delays, 0, sizeof outcome->delays);
      *from = this_moment();
    }
    if (options.messages > 0 ? total_published >= options.messages : now >= stop_ns) finished = 1;
    if (finished && !measured && options.messages == 0) {
      measured = 1;
      *to = this_moment();
    }
    int more = publish_round(now);
    if (finished && is_drained()) {
      if (!measured) *to = this_moment();
      return 0;
    }
    uint64_t seen = outcome->tally.delivered + outcome->tally.duplicated + total_replied;
    if (seen != progress) progress_ns = now;
    progress = seen;
    if (now - progress_ns > (int64_t)(options.stall * 1e9) && (finished || !plan.timed)) {
      if (!measured) *to = this_moment();
      return 1;
    }
    struct epoll_event events[256];
    struct timespec patience = {.tv_nsec = more ? 0 : sleep_ns(now)};
    int ready = epoll_pwait2(epoll, events, 256, &patience, NULL);
    if (ready > 0 && plan.timed) read_ns = now_ns();
    for (int i = 0; i < ready; i++) {
      int index = (int)events[i].data.u32;
      if (index < subscriber_count) {
        read_subscriber(&subscribers[index]);
        continue;
      }
      struct publisher *p = &publishers[index - subscriber_count];
      if (events[i].events & EPOLLOUT) p->blocked = 0;
      read_publisher(p);
    }
  }
}

static void prepare(void) {
  subscriber_count = plan.lanes * plan.subscribers;
  shared = is_shared(&plan);
  request = request_shape(&plan);
  reply = reply_shape(&plan);
  last = last_question(&plan);
  if (options.zipf) make_popularity(&popularity, plan.channels);
  deliveries = calloc((size_t)plan.channels, sizeof *deliveries);
  expectations = calloc((size_t)plan.channels, sizeof *expectations);
  for (int c = 0; c < plan.channels; c++) {
    deliveries[c] = delivery_shape(&plan, c);
    expectations[c] = expect(&plan, &deliveries[c]);
  }
  uint64_t share = options.in_flight / (uint64_t)subscriber_count;
  window_messages = (share < options.window ? share : options.window) / (uint64_t)deliveries[0].size + 1;
  subscribers = calloc((size_t)subscriber_count, sizeof *subscribers);
  publishers = calloc((size_t)plan.publishers, sizeof *publishers);
  published = calloc((size_t)plan.lanes, sizeof *published);
  allowed = calloc((size_t)plan.lanes, sizeof *allowed);
  sequences = calloc((size_t)plan.publishers * (size_t)plan.channels, sizeof *sequences);
  buffer = (char *)malloc(MAX_FRAME + READ_SIZE + 8) + MAX_FRAME; // a look at a word may go past the end
}

void drive(const struct plan *for_plan, const struct options *with, struct outcome *found) {
  plan = *for_plan;
  options = *with;
  outcome = found;
  prctl(PR_SET_TIMERSLACK, 1UL); // sleeps may else end 50 us late
  prepare();
  connect_all();
  found->stalled = run(&found->from, &found->to);
  found->published = total_published;
  found->unanswered = reply.head_size > 0 ? total_published - total_replied : 0;
  for (int i = 0; i < subscriber_count; i++) {
    const struct subscriber *s = &subscribers[i];
    found->expected += published[s->lane];
    found->passed += s->track.passed;
    // The next one came, but had not been sent: too rare to look for at every message.
    for (int channel = s->lane; channel < plan.channels; channel += plan.lanes)
      for (int p = 0; p < plan.publishers; p++) {
        uint32_t sent = sequences[(size_t)p * plan.channels + channel];
        uint32_t next = s->track.next[stream_of((uint32_t)p, channel)];
        if (next > sent) found->corrupt += next - sent;
      }
  }
}
