// What every generator is as a program: how it ends, what it takes from the command line, and its null server.
#ifndef PUSHD_BENCH_PROGRAM_H
#define PUSHD_BENCH_PROGRAM_H

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

_Noreturn static inline __attribute__((format(printf, 1, 2))) void die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "%s: ", program_invocation_short_name);
  vfprintf(stderr, format, arguments);
  fprintf(stderr, "\n");
  exit(2);
}

static inline int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

// Of an option, or dies.
static inline double number(const char *name, const char *text, double least, double most) {
  char *end = NULL;
  double value = text != NULL ? strtod(text, &end) : 0;
  if (text == NULL || end == text || *end != 0 || !(value >= least && value <= most))
    die("%s wants a number from %.0f to %.0f, not '%s'", name, least, most, text != NULL ? text : "");
  return value;
}

// Which of the words, behind which there is a NULL, an option has, or dies.
static inline int one_of(const char *name, const char *text, const char *const *words) {
  for (int i = 0; words[i] != NULL; i++)
    if (text != NULL && strcmp(text, words[i]) == 0) return i;
  die("%s does not know '%s'", name, text != NULL ? text : "");
}

static inline void raise_files(void) {
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
}

// The first bytes that were not as they should be, fit for JSON.
struct problem {
  char text[160];
};

static inline void note_problem(struct problem *problem, const char *bytes, size_t size) {
  char *text = problem->text;
  if (text[0] != 0) return;
  if (size > sizeof problem->text - 1) size = sizeof problem->text - 1;
  for (size_t i = 0; i < size; i++)
    text[i] = bytes[i] >= ' ' && bytes[i] < 127 && bytes[i] != '"' && bytes[i] != '\\' ? bytes[i] : '?';
}

// Starts a child that ends with us, with a listener at a free port. Returns 0 in the child, which is to serve there.
static inline pid_t fork_null_server(int *listener, int *port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  *listener = socket(AF_INET, SOCK_STREAM, 0);
  if (*listener < 0 || bind(*listener, (struct sockaddr *)&address, size) != 0 || listen(*listener, 4096) != 0 ||
      getsockname(*listener, (struct sockaddr *)&address, &size) != 0)
    die("cannot listen: %s", strerror(errno));
  *port = ntohs(address.sin_port);
  pid_t parent = getpid(), child = fork();
  if (child < 0) die("cannot fork: %s", strerror(errno));
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
  } else {
    close(*listener);
  }
  return child;
}

static inline void end_null_server(pid_t child) {
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
}

#endif
