// Load generator for pub/sub servers over TCP: publishes through a bounded window, checks that every subscriber gets
// every message once, unchanged and in order, and prints one line of JSON. See docs/performance.md.
#define _GNU_SOURCE
#include "conn.h"
#include "drive.h"
#include "program.h"

static struct plan plan = {.protocol = PUSHD, .publishers = 1, .channels = 1, .subscribers = 1, .size = 64};
static struct options options = {
    .host = "127.0.0.1", .seconds = 1, .warmup = 0.3, .stall = 5, .window = 1 << 20, .in_flight = 64 << 20};
static struct {
  int wanted;
  enum fault fault;
  uint64_t fault_at; // the how manieth message of the first channel
} null;
static const char *tls_cert, *tls_key; // connections are over TLS; the null server shows these

static void start_tls(int serves) {
#ifdef WITH_TLS
  if (tls_cert != NULL && serves) tls_server(tls_cert, tls_key);
  else if (tls_cert != NULL) tls_client();
#else
  (void)serves;
#endif
}

static pid_t start_null_server(void) {
  int listener;
  pid_t child = fork_null_server(&listener, &options.port);
  if (child > 0) return child;
  start_tls(1);
  null_server(&plan, listener, null.fault, null.fault_at);
}

// Prints the line; returns whether anything was wrong.
static int report(const struct outcome *o) {
  const struct moment *from = &o->from, *to = &o->to;
  double seconds = (double)(to->at_ns - from->at_ns) / 1e9;
  uint64_t lost = o->expected - o->passed + o->tally.missing, disordered = o->tally.late + o->stamps_back;
  printf("{\"published\":%lu,\"deliveries\":%lu,\"seconds\":%.3f", o->published, o->tally.delivered, seconds);
  printf(",\"publishes_per_s\":%.0f,\"deliveries_per_s\":%.0f", (double)(to->published - from->published) / seconds,
         (double)(to->delivered - from->delivered) / seconds);
  double own = to->own_cpu - from->own_cpu, subscribers = to->subscribers_cpu - from->subscribers_cpu;
  double server = to->server_cpu - from->server_cpu + subscribers;
  double other = to->machine_cpu - from->machine_cpu - own - server;
  printf(",\"generator_cpu\":%.3f,\"server_cpu\":%.3f,\"other_cpu\":%.3f", own / seconds, server / seconds,
         other > 0 ? other / seconds : 0);
  if (plan.linked) printf(",\"subscribers_cpu\":%.3f", subscribers / seconds);
  printf(",\"lost\":%lu,\"duplicated\":%lu,\"disordered\":%lu,\"corrupt\":%lu", lost, o->tally.duplicated,
         disordered, o->corrupt);
  printf(",\"cut\":%lu,\"errors\":%lu,\"unanswered\":%lu,\"stalled\":%s", o->cut, o->errors, o->unanswered,
         o->stalled ? "true" : "false");
  if (o->problem.text[0] != 0) printf(",\"problem\":\"%s\"", o->problem.text);
  if (plan.timed) print_percentiles("latency_us", &o->latencies);
  if (plan.timed) print_percentiles("send_delay_us", &o->delays);
  printf("}\n");
  return o->stalled || lost + o->tally.duplicated + disordered + o->corrupt + o->cut + o->errors + o->unanswered > 0;
}

static void parse(char **argument) {
  static const char *const protocols[] = {"pushd", "pushd-json", "nats", "redis", "mqtt", NULL};
  static const char *const faults[] = {"none", "loss", "duplicate", "swap", "corrupt", NULL};
  for (; *argument != NULL; argument++) {
    const char *name = *argument, *value = argument[1];
#define IS(option) (strcmp(name, option) == 0)
    if (IS("--null") || IS("--zipf")) {
      *(IS("--null") ? &null.wanted : &options.zipf) = 1;
      continue;
    }
    if (IS("--protocol")) plan.protocol = (enum protocol)one_of(name, value, protocols);
    else if (IS("--fault")) null.fault = (enum fault)one_of(name, value, faults);
    else if (IS("--host")) options.host = value != NULL ? value : "";
    else if (IS("--tls-cert")) tls_cert = value;
    else if (IS("--tls-key")) tls_key = value;
    else if (IS("--port")) options.port = (int)number(name, value, 1, 65535);
    else if (IS("--subscribers-port")) options.subscribers_port = (int)number(name, value, 1, 65535);
    else if (IS("--publishers")) plan.publishers = (int)number(name, value, 1, 10000);
    else if (IS("--channels")) plan.channels = (int)number(name, value, 1, 100000);
    else if (IS("--subscribers")) plan.subscribers = (int)number(name, value, 1, 100000);
    else if (IS("--lanes")) plan.lanes = (int)number(name, value, 1, 10000);
    else if (IS("--size")) plan.size = (int)number(name, value, DUE_AT, MAX_PAYLOAD);
    else if (IS("--seconds")) options.seconds = number(name, value, 0.01, 86400);
    else if (IS("--warmup")) options.warmup = number(name, value, 0, 3600);
    else if (IS("--messages")) options.messages = (uint64_t)number(name, value, 0, 4e9);
    else if (IS("--rate")) options.rate = number(name, value, 0, 1e9);
    else if (IS("--window")) options.window = (uint64_t)number(name, value, 1, 1e9);
    else if (IS("--in-flight")) options.in_flight = (uint64_t)number(name, value, 1, 1e11);
    else if (IS("--stall")) options.stall = number(name, value, 0.1, 3600);
    else if (IS("--server-pid")) options.server_pid = (int)number(name, value, 1, 4194304);
    else if (IS("--subscribers-pid")) options.subscribers_pid = (int)number(name, value, 1, 4194304);
    else if (IS("--fault-at")) null.fault_at = (uint64_t)number(name, value, 0, 4e9);
    else die("unknown option '%s'", name);
    argument++;
  }
  if (!null.wanted && options.port == 0) die("--port or --null is needed");
  if (null.wanted && options.subscribers_port != 0) die("--subscribers-port needs two servers, so not --null");
  if ((tls_cert == NULL) != (tls_key == NULL)) die("--tls-cert and --tls-key go together");
#ifndef WITH_TLS
  if (tls_cert != NULL) die("this generator was compiled without TLS");
#endif
  if (null.fault != NO_FAULT && !null.wanted) die("--fault is the null server's: it needs --null");
}

int main(int argc, char **argv) {
  static struct outcome outcome;
  (void)argc;
  parse(argv + 1);
  plan.timed = options.rate > 0;
  plan.linked = options.subscribers_port != 0;
  if (plan.timed && plan.size < LONGEST_HEADER) die("--rate needs a --size from %d on", LONGEST_HEADER);
  if (plan.lanes == 0) plan.lanes = plan.channels;
  if (plan.lanes > plan.channels) die("--lanes cannot be more than --channels");
  // Numbers of channels begin with 0; a link is awaited on one channel more.
  plan.digits = snprintf(NULL, 0, "%d", plan.linked ? plan.channels : plan.channels - 1);

  raise_files();
  prctl(PR_SET_TIMERSLACK, 1); // sleeps end within microseconds
  pid_t child = null.wanted ? start_null_server() : 0;
  if (child > 0) options.server_pid = child;
  start_tls(0);
  if (!plan.linked) options.subscribers_port = options.port;
  drive(&plan, &options, &outcome);
  int wrong = report(&outcome);
  if (child > 0) end_null_server(child);
  return wrong;
}
