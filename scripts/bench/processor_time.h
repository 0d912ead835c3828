// How much processor time a process, or the whole machine, has used.
#ifndef PUSHD_BENCH_PROCESSOR_TIME_H
#define PUSHD_BENCH_PROCESSOR_TIME_H

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

// Seconds of processor time that this process (0) or another has used.
static inline double processor_seconds(int pid) {
  if (pid == 0) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
  }
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE *file = fopen(path, "r");
  if (file == NULL) return 0;
  size_t size = fread(text, 1, sizeof text - 1, file);
  fclose(file);
  text[size] = 0;
  unsigned long user = 0, system = 0;
  const char *after_name = strrchr(text, ')'); // a name may hold spaces
  if (after_name == NULL) return 0;
  sscanf(after_name + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
  return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}


// Of all processors together, what a hypervisor took away from them included.
static inline double machine_seconds(void) {
  FILE *file = fopen("/proc/stat", "r");
  unsigned long user = 0, nice = 0, system = 0, irq = 0, softirq = 0, steal = 0;
  if (file == NULL) return 0;
  if (fscanf(file, "cpu %lu %lu %lu %*u %*u %lu %lu %lu", &user, &nice, &system, &irq, &softirq, &steal) != 6) user = 0;
  fclose(file);
  return (double)(user + nice + system + irq + softirq + steal) / (double)sysconf(_SC_CLK_TCK);
}

#endif
