/*
 * Loaded into rustc in front of libc: tells the tracer (rust-trace.c) who asks for which
 * environment variable, since reading one is no system call. The value is the same as ever.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As a folder's descriptor it means nothing to the kernel, and much to the tracer. */
#define MARK (-0x4d455348)

extern char **environ;

static char *look_up(const char *name, void *caller) {
  Dl_info who;
  int before = errno;
  size_t length = strlen(name);
  if (dladdr(caller, &who) == 0 || who.dli_fname == 0) who.dli_fname = "";
  syscall(SYS_readlinkat, MARK, who.dli_fname, name, 0L);
  errno = before;
  if (environ == 0 || length == 0) return 0;
  for (char **pair = environ; *pair != 0; pair++)
    if (strncmp(*pair, name, length) == 0 && (*pair)[length] == '=') return *pair + length + 1;
  return 0;
}

char *getenv(const char *name) { return look_up(name, __builtin_return_address(0)); }

char *secure_getenv(const char *name) { return look_up(name, __builtin_return_address(0)); }
