// Load generator for requests that are answered: many connections, each with so many requests outstanding, every
// answer looked at. Prints one line of JSON. See docs/performance.md.
#define _GNU_SOURCE
#include "ask.h"
#include "processor_time.h"
#include "program.h"
#include "track.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

struct connection {
  int fd;
  uint64_t asked, answered, id; // id: of the answer before
  int64_t *asked_ns;            // of those outstanding, in turns
  char *requests;               // a window of them, of which numbers are filled in
  int request_size, sequence_at;
  char kept[MAX_REPLY]; // an unfinished answer
  size_t kept_size;
  size_t page_at; // how much of a page has come
};

static struct ask_plan plan = {.connections = 1, .window = 1, .size = 64, .page = 1000};
static struct {
  const char *host;
  int port, server_pid, null;
  double seconds, warmup, stall;
  uint64_t requests; // ask so often instead of for some time
  enum ask_fault fault;
  uint64_t fault_at;
} options = {.host = "127.0.0.1", .seconds = 1, .warmup = 0.3, .stall = 5};
static struct connection *connections;
static int epoll, finished;
static uint64_t asked, answered, errors, odd, disordered;
static struct problem problem;
static char *page; // what every page of history must be
static size_t page_size;
static struct histogram latencies;
static struct moment {
  int64_t at_ns;
  uint64_t answered;
  double own, server, machine; // seconds of processor time
} from, to;

static struct moment this_moment(void) {
  return (struct moment){now_ns(), answered, processor_seconds(0),
                         options.server_pid > 0 ? processor_seconds(options.server_pid) : 0, machine_seconds()};
}

static void send_whole(int fd, const char *bytes, size_t size) {
  // What is outstanding is little, so a socket that does not take it is broken.
  if (send(fd, bytes, size, MSG_NOSIGNAL) != (ssize_t)size) die("cannot send: %s", strerror(errno));
}

static void open_connection(struct connection *c, int index) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
  struct timeval patience = {.tv_sec = 10};
  int one = 1;
  char hello[512], got[4096];
  const char *confirmed;
  ask_handshake(&plan, index, hello, sizeof hello, &confirmed);
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (inet_pton(AF_INET, options.host, &address.sin_addr) != 1) die("'%s' is not an IPv4 address", options.host);
  if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0)
    die("cannot connect to %s:%d: %s", options.host, options.port, strerror(errno));
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  send_whole(c->fd, hello, strlen(hello));
  for (size_t size = 0; memmem(got, size, confirmed, strlen(confirmed)) == NULL;) { // NATS tells about itself first
    ssize_t n = recv(c->fd, got + size, sizeof got - size, 0);
    if (n <= 0) die("no '%.4s' from the server but '%.*s'", confirmed, (int)size, got);
    size += (size_t)n;
  }
  struct request request = make_request(&plan, index);
  c->request_size = request.size;
  c->sequence_at = request.sequence_at;
  c->requests = malloc((size_t)plan.window * (size_t)request.size);
  for (int i = 0; i < plan.window; i++)
    memcpy(c->requests + (size_t)i * (size_t)request.size, request.bytes, (size_t)request.size);
  c->asked_ns = calloc((size_t)plan.window, sizeof *c->asked_ns);
}

static int count_in_page(const char *what) {
  int count = 0;
  size_t size = strlen(what);
  for (const char *at = page; (at = memmem(at, page_size - (size_t)(at - page), what, size)) != NULL; at++) count++;
  return count;
}

// The first page is the measure of all others: it must be whole, and hold as many messages as were asked for.
static void learn_page(struct connection *c) {
  char head[32];
  int lines = 1;
  size_t room = 8 << 20;
  snprintf(head, sizeof head, "HISTORY c00000 [{");
  if (plan.question == ASK_XRANGE) {
    snprintf(head, sizeof head, "*%d\r\n", plan.page);
    lines = 1 + 8 * plan.page; // *2, its id, *2, "m" and the message, each of these three in two lines
  }
  page = malloc(room);
  send_whole(c->fd, c->requests, (size_t)c->request_size);
  while (count_in_page("\n") < lines) {
    ssize_t n = recv(c->fd, page + page_size, room - page_size, 0);
    if (n <= 0) die("no page of history but '%.*s'", page_size < 200 ? (int)page_size : 200, page);
    page_size += (size_t)n;
  }
  int messages = count_in_page(plan.question == ASK_HIS ? "\"ts\":" : "\r\n$1\r\nm\r\n");
  if (page_size < strlen(head) || memcmp(page, head, strlen(head)) != 0 || messages != plan.page)
    die("%d messages instead of %d: '%.*s'", messages, plan.page, page_size < 80 ? (int)page_size : 80, page);
}

static void ask(struct connection *c, int64_t now) {
  int room = plan.window - (int)(c->asked - c->answered), n = 0;
  if (finished) return;
  for (; n < room && (options.requests == 0 || asked < options.requests); n++) {
    if (c->sequence_at >= 0)
      put_digits(c->requests + (size_t)n * (size_t)c->request_size + c->sequence_at, (uint32_t)c->asked);
    c->asked_ns[c->asked++ % (uint64_t)plan.window] = now;
    asked++;
  }
  if (n > 0) send_whole(c->fd, c->requests, (size_t)n * (size_t)c->request_size);
}

static void take_answer(struct connection *c, int64_t now) {
  if (c->answered == c->asked) {
    odd++; // nothing was asked
    return;
  }
  histogram_add(&latencies, (uint64_t)(now - c->asked_ns[c->answered++ % (uint64_t)plan.window]));
  answered++;
}

// Returns where the unfinished rest begins.
static const char *take_replies(struct connection *c, const char *at, const char *end, int64_t now) {
  while (at < end) {
    struct reply reply = read_reply(plan.question, at, end);
    if (reply.answer == ANSWER_UNFINISHED) break;
    if (reply.answer == ANSWER_PING) {
      send_whole(c->fd, "PONG\r\n", 6);
    } else if (reply.answer == ANSWER_GOOD) {
      disordered += reply.id <= c->id;
      c->id = reply.id;
      take_answer(c, now);
    } else {
      if (reply.answer == ANSWER_ERROR) errors++;
      else odd++;
      note_problem(&problem, at, (size_t)reply.size);
      finished = 1; // its figure would be worth nothing
    }
    at += reply.size;
  }
  return at;
}

static void take_page(struct connection *c, const char *at, const char *end, int64_t now) {
  while (at < end) {
    size_t rest = page_size - c->page_at, got = (size_t)(end - at) < rest ? (size_t)(end - at) : rest;
    if (memcmp(at, page + c->page_at, got) != 0) {
      if (memcmp(at, "ERROR", got < 5 ? got : 5) == 0 || at[0] == '-') errors++;
      else odd++;
      note_problem(&problem, at, got);
      finished = 1;
    }
    at += got;
    c->page_at += got;
    if (c->page_at < page_size) return;
    c->page_at = 0;
    take_answer(c, now);
  }
}

static void read_connection(struct connection *c, int64_t now) {
  static char buffer[MAX_REPLY + READ_SIZE];
  ssize_t n = recv(c->fd, buffer + MAX_REPLY, READ_SIZE, 0);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) die("the server closed a connection%s%s", problem.text[0] != 0 ? " after: " : "", problem.text);
  char *start = buffer + MAX_REPLY, *end = start + n;
  if (asks_for_page(&plan)) {
    take_page(c, start, end, now);
    return;
  }
  start -= c->kept_size;
  memcpy(start, c->kept, c->kept_size);
  const char *rest = take_replies(c, start, end, now);
  c->kept_size = (size_t)(end - rest);
  if (c->kept_size > MAX_REPLY) die("an answer that does not end: '%.80s'", rest);
  memcpy(c->kept, rest, c->kept_size);
}

// Asks and reads until everything is answered. Measured is from the end of the warm-up until asking stops.
// Returns whether it ended because no answer came any more.
static int run(void) {
  int64_t start = now_ns(), warm_ns = start + (int64_t)(options.warmup * 1e9), progress_ns = start;
  int64_t stop_ns = warm_ns + (int64_t)(options.seconds * 1e9);
  uint64_t progress = 0;
  from = this_moment();
  for (int i = 0; i < plan.connections; i++) ask(&connections[i], start);
  for (int warm = options.warmup == 0, measured = 0;;) {
    int64_t now = now_ns();
    if (!warm && now >= warm_ns) {
      warm = 1;
      memset(&latencies, 0, sizeof latencies);
      from = this_moment();
    }
    if (options.requests > 0 ? asked >= options.requests && answered == asked : now >= stop_ns) finished = 1;
    if (answered != progress) progress_ns = now;
    progress = answered;
    int stalled = now - progress_ns > (int64_t)(options.stall * 1e9);
    if (!measured && (finished || stalled)) {
      measured = 1;
      to = this_moment();
    }
    if ((finished && (answered == asked || errors + odd > 0)) || stalled) return stalled;
    struct epoll_event events[256];
    int ready = epoll_wait(epoll, events, 256, 20);
    int64_t woken_ns = now_ns();
    for (int i = 0; i < ready; i++) {
      struct connection *c = &connections[events[i].data.u32];
      read_connection(c, woken_ns);
      ask(c, woken_ns);
    }
  }
}

static int report(int stalled) {
  double seconds = (double)(to.at_ns - from.at_ns) / 1e9, own = to.own - from.own, server = to.server - from.server;
  double other = to.machine - from.machine - own - server;
  if (!(seconds > 0)) seconds = 1e-9; // it failed in the warm-up
  printf("{\"asked\":%lu,\"answered\":%lu,\"seconds\":%.3f", asked, answered, seconds);
  printf(",\"answers_per_s\":%.0f", (double)(to.answered - from.answered) / seconds);
  printf(",\"generator_cpu\":%.3f,\"server_cpu\":%.3f,\"other_cpu\":%.3f", own / seconds, server / seconds,
         other > 0 ? other / seconds : 0);
  printf(",\"errors\":%lu,\"odd\":%lu,\"disordered\":%lu,\"unanswered\":%lu,\"stalled\":%s", errors, odd, disordered,
         asked - answered, stalled ? "true" : "false");
  if (problem.text[0] != 0) printf(",\"problem\":\"%s\"", problem.text);
  print_percentiles("latency_us", &latencies);
  printf("}\n");
  return stalled || errors + odd + disordered > 0 || answered != asked;
}

static void parse(char **argument) {
  static const char *const questions[] = {"pub", "xadd", "xadd-publish", "jetstream", "his", "xrange", NULL};
  static const char *const faults[] = {"none", "silence", "failure", "repeat", NULL};
  for (; *argument != NULL; argument++) {
    const char *name = *argument, *value = argument[1];
#define IS(option) (strcmp(name, option) == 0)
    if (IS("--null")) {
      options.null = 1;
      continue;
    }
    if (IS("--ask")) plan.question = (enum question)one_of(name, value, questions);
    else if (IS("--fault")) options.fault = (enum ask_fault)one_of(name, value, faults);
    else if (IS("--fault-at")) options.fault_at = (uint64_t)number(name, value, 0, 4e9);
    else if (IS("--port")) options.port = (int)number(name, value, 1, 65535);
    else if (IS("--connections")) plan.connections = (int)number(name, value, 1, 20000);
    else if (IS("--window")) plan.window = (int)number(name, value, 1, MAX_WINDOW);
    else if (IS("--size")) plan.size = (int)number(name, value, DUE_AT, 1024);
    else if (IS("--page")) plan.page = (int)number(name, value, 1, 10000);
    else if (IS("--since")) plan.since = (uint64_t)number(name, value, 0, 1e18);
    else if (IS("--seconds")) options.seconds = number(name, value, 0.01, 86400);
    else if (IS("--warmup")) options.warmup = number(name, value, 0, 3600);
    else if (IS("--requests")) options.requests = (uint64_t)number(name, value, 0, 4e9);
    else if (IS("--stall")) options.stall = number(name, value, 0.1, 3600);
    else if (IS("--server-pid")) options.server_pid = (int)number(name, value, 1, 4194304);
    else die("unknown option '%s'", name);
    argument++;
  }
  if (!options.null && options.port == 0) die("--port or --null is needed");
}

static pid_t start_null_server(void) {
  int listener;
  pid_t child = fork_null_server(&listener, &options.port);
  if (child == 0) ask_null_server(&plan, listener, options.fault, options.fault_at);
  return child;
}

int main(int argc, char **argv) {
  (void)argc;
  parse(argv + 1);
  raise_files();
  pid_t child = options.null ? start_null_server() : 0;
  if (child > 0) options.server_pid = child;
  epoll = epoll_create1(EPOLL_CLOEXEC);
  connections = calloc((size_t)plan.connections, sizeof *connections);
  for (int i = 0; i < plan.connections; i++) open_connection(&connections[i], i);
  if (asks_for_page(&plan)) learn_page(&connections[0]);
  for (int i = 0; i < plan.connections; i++) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
    fcntl(connections[i].fd, F_SETFL, O_NONBLOCK);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, connections[i].fd, &event) != 0) die("epoll: %s", strerror(errno));
  }
  int wrong = report(run());
  if (child > 0) end_null_server(child);
  return wrong;
}
