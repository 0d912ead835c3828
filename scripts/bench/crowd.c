// Opens many connections as fast as a server takes them, each with one subscription that is confirmed, and holds them:
// tells how many came a second, and what each of them costs in memory. See docs/performance.md.
#define _GNU_SOURCE
#include "crowd.h"
#include "processor_time.h"
#include "program.h"
#include "track.h"

#include <fcntl.h>
#include <sys/epoll.h>

struct client {
  int fd, asked;
  int64_t since_ns;
  size_t kept_size;
  char kept[64]; // the end of what came so far
};

// Bytes: of the server's process, of the kernel's objects on the whole machine, of what waits in sockets.
struct memory {
  double process, slab, buffers;
};

static struct crowd crowd = {.plan = {.publishers = 1, .channels = 1, .subscribers = 1, .size = 64},
                             .connections = 1000, .parallel = 64};
static int port, server_pid, null_wanted;
static double rest; // seconds before memory is looked at
static struct histogram waits;
static int epoll, opened, confirmed;
static struct client *clients;

// The number behind a word in a file of /proc; 0 when it is not there.
static double number_in(const char *path, const char *word) {
  char line[256];
  double value = 0;
  FILE *file = fopen(path, "r");
  if (file == NULL) return 0;
  while (fgets(line, sizeof line, file) != NULL) {
    const char *found = strstr(line, word);
    if (found == NULL || sscanf(found + strlen(word), "%lf", &value) != 1) continue;
    break;
  }
  fclose(file);
  return value;
}

static struct memory this_memory(void) {
  char status[64];
  snprintf(status, sizeof status, "/proc/%d/status", server_pid);
  return (struct memory){.process = number_in(status, "VmRSS:") * 1024,
                         .slab = number_in("/proc/meminfo", "Slab:") * 1024,
                         .buffers = number_in("/proc/net/sockstat", " mem ") * (double)sysconf(_SC_PAGESIZE)};
}

static void sleep_for(double seconds) {
  struct timespec t = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
  while (nanosleep(&t, &t) != 0 && errno == EINTR) continue;
}

// From an address of this run's own: ports of the last run's connections are not free for a minute.
static void open_next(void) {
  struct client *client = &clients[opened];
  int one = 1;
  struct sockaddr_in from = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(0x7f010001u + ((uint32_t)getpid() & 0x7fff) * 2)};
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (client->fd < 0) die("no socket for connection %d: %s", opened, strerror(errno));
  setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
  if (bind(client->fd, (struct sockaddr *)&from, sizeof from) != 0) die("cannot bind: %s", strerror(errno));
  client->since_ns = now_ns();
  if (connect(client->fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS)
    die("cannot connect: %s", strerror(errno));
  struct epoll_event event = {.events = EPOLLOUT, .data.u32 = (uint32_t)opened};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, client->fd, &event) != 0) die("epoll: %s", strerror(errno));
  opened++;
}

static void serve(int index) {
  static struct text asked, answer;
  struct client *client = &clients[index];
  crowd_greeting(&crowd, index, &asked, &answer);
  if (!client->asked) {
    client->asked = 1;
    if (send(client->fd, asked.at, asked.size, MSG_NOSIGNAL) != (ssize_t)asked.size)
      die("connection %d was not taken: %s", index, strerror(errno));
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)index};
    epoll_ctl(epoll, EPOLL_CTL_MOD, client->fd, &event);
    return;
  }
  char got[8192];
  memcpy(got, client->kept, client->kept_size);
  ssize_t n = recv(client->fd, got + client->kept_size, sizeof got - client->kept_size, 0);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) die("connection %d was closed: %s", index, n < 0 ? strerror(errno) : "without an answer");
  size_t size = client->kept_size + (size_t)n;
  if (memmem(got, size, answer.at, answer.size) == NULL) {
    client->kept_size = size < answer.size ? size : answer.size - 1;
    memcpy(client->kept, got + size - client->kept_size, client->kept_size);
    return;
  }
  histogram_add(&waits, (uint64_t)(now_ns() - client->since_ns));
  epoll_ctl(epoll, EPOLL_CTL_DEL, client->fd, NULL);
  confirmed++;
}

static void open_all(void) {
  while (confirmed < crowd.connections) {
    while (opened < crowd.connections && opened - confirmed < crowd.parallel) open_next();
    struct epoll_event events[256];
    int ready = epoll_wait(epoll, events, 256, 10000);
    if (ready == 0) die("%d connections of %d, and no answer any more", confirmed, crowd.connections);
    for (int i = 0; i < ready; i++) serve((int)events[i].data.u32);
  }
}

// Those that the server has closed meanwhile. Lines that came are no fault: NATS asks whether we live.
static int count_cut(void) {
  int cut = 0;
  char got[8192];
  for (int i = 0; i < crowd.connections; i++) {
    ssize_t n = recv(clients[i].fd, got, sizeof got, 0);
    cut += n == 0 || (n < 0 && errno != EAGAIN);
  }
  return cut;
}

static pid_t start_null_server(void) {
  int listener;
  pid_t child = fork_null_server(&listener, &port);
  if (child == 0) crowd_null(&crowd, listener);
  return child;
}

static void parse(char **argument) {
  static const char *const protocols[] = {"pushd", "pushd-json", "nats", "redis", "mqtt", NULL};
  for (; *argument != NULL; argument++) {
    const char *name = *argument, *value = argument[1];
    if (strcmp(name, "--null") == 0) {
      null_wanted = 1;
      continue;
    }
    if (strcmp(name, "--protocol") == 0) crowd.plan.protocol = (enum protocol)one_of(name, value, protocols);
    else if (strcmp(name, "--port") == 0) port = (int)number(name, value, 1, 65535);
    else if (strcmp(name, "--server-pid") == 0) server_pid = (int)number(name, value, 1, 4194304);
    else if (strcmp(name, "--connections") == 0) crowd.connections = (int)number(name, value, 1, 1000000);
    else if (strcmp(name, "--channels") == 0) crowd.plan.channels = (int)number(name, value, 1, 1000000);
    else if (strcmp(name, "--parallel") == 0) crowd.parallel = (int)number(name, value, 1, 10000);
    else if (strcmp(name, "--rest") == 0) rest = number(name, value, 0, 3600);
    else die("unknown option '%s'", name);
    argument++;
  }
  if (!null_wanted && port == 0) die("--port or --null is needed");
}

int main(int argc, char **argv) {
  (void)argc;
  parse(argv + 1);
  crowd.plan.lanes = crowd.plan.channels;
  crowd.plan.digits = snprintf(NULL, 0, "%d", crowd.plan.channels - 1);
  raise_files();
  pid_t child = null_wanted ? start_null_server() : 0;
  if (child > 0) server_pid = child;
  clients = calloc((size_t)crowd.connections, sizeof *clients);
  epoll = epoll_create1(EPOLL_CLOEXEC);
  if (rest > 0) sleep_for(rest);
  struct memory before = this_memory();
  double own = processor_seconds(0), server = processor_seconds(server_pid), machine = machine_seconds();
  int64_t start_ns = now_ns();
  open_all();
  double seconds = (double)(now_ns() - start_ns) / 1e9;
  own = processor_seconds(0) - own;
  server = processor_seconds(server_pid) - server;
  double other = machine_seconds() - machine - own - server;
  if (rest > 0) sleep_for(rest);
  struct memory after = this_memory();
  int cut = count_cut();
  double each = 1.0 / crowd.connections;
  printf("{\"connections\":%d,\"seconds\":%.3f,\"per_s\":%.0f", crowd.connections, seconds, crowd.connections / seconds);
  printf(",\"generator_cpu\":%.3f,\"server_cpu\":%.3f,\"other_cpu\":%.3f,\"cut\":%d", own / seconds, server / seconds,
         other > 0 ? other / seconds : 0, cut);
  print_percentiles("wait_us", &waits);
  printf(",\"process_bytes\":%.0f,\"slab_bytes\":%.0f,\"buffer_bytes\":%.0f}\n", (after.process - before.process) * each,
         (after.slab - before.slab) * each, (after.buffers - before.buffers) * each);
  if (child > 0) end_null_server(child);
  return cut > 0;
}
