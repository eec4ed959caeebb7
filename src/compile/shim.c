/*
 * mesh-shim: stands in front of a compiler and asks the mesh node whether to run it.
 *
 * Called as `mesh-shim g++ -c x.cc` (launcher) or through a symlink named like a compiler
 * (masquerade). It sends the command line over the Unix socket $MESH_SOCKET and does what the
 * node answers: run the real compiler, or print a peer's output and exit (protocols/shim.md).
 *
 * It knows nothing about command lines, files or peers. Whatever goes wrong between it and the
 * node, at any moment, it runs the real compiler as if it were not there. Single-threaded, no
 * dependencies but POSIX, made to cost less than a millisecond: a compile may take only ten.
 */
#define _GNU_SOURCE
#define _DARWIN_C_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

extern char **environ;

#define PROTOCOL_VERSION 1
#define REQUEST_MAX_BYTES (8u << 20) /* a longer request is not sent: the compiler runs here */
#define FRAME_MAX_BYTES (4u << 20)   /* a longer reply is trouble */
#define SHOWN_MAX_BYTES (16u << 20)  /* early output remembered for a later local run */
#define SILENCE_MS 5000              /* then a ping; after as much again the node counts as dead */
#define CONNECT_MAX_MS 2000
#define SLOTS_MAX 4096

enum { RUN = 0x01, WRITE = 0x02, EXIT = 0x03, STOP = 0x04, PONG = 0x05, PING = 0x10, DONE = 0x11 };
enum { FLAG_STDERR_TTY = 1, FLAG_WANTS_COLOUR = 2 };
enum { EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127 };

/* What the build has seen already on one of its streams. */
struct shown {
  char *bytes;
  size_t length, capacity;
};
/* A local run's output on its way to the build, less what the build has seen. */
struct relay {
  int from, to;
  struct shown *shown;
  size_t matched;
};
struct frame {
  unsigned char type;
  uint32_t length;
  unsigned char *bytes;
};

static char compiler[PATH_MAX]; /* what is executed */
static char **arguments;        /* argv of the compiler; [0] is `compiler` */
static int argument_count;
static struct shown shown[3]; /* by file descriptor; 0 is unused */
static int node = -1;         /* the socket */
static volatile sig_atomic_t child;

/* ---- finding the real compiler ---- */

static int same_file(const struct stat *a, const struct stat *b) {
  return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static const char *base_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

/*
 * The first executable `name` in PATH that is neither this file nor in a folder of shims. The
 * marker file matters when two builds of the shim are in PATH: each would find the other, forever.
 */
static int search_path(const char *name, const struct stat *self, char *found) {
  const char *at = getenv("PATH");
  int denied = 0;
  if (!at) at = "/bin:/usr/bin";
  for (;;) {
    size_t length = strcspn(at, ":");
    struct stat st;
    char marker[PATH_MAX];
    int n = length ? snprintf(found, PATH_MAX, "%.*s/%s", (int)length, at, name)
                   : snprintf(found, PATH_MAX, "./%s", name);
    if (n > 0 && n < PATH_MAX && stat(found, &st) == 0 && S_ISREG(st.st_mode)) {
      int m = length ? snprintf(marker, PATH_MAX, "%.*s/.mesh-shim", (int)length, at)
                     : snprintf(marker, PATH_MAX, ".mesh-shim");
      int ours = (self && same_file(&st, self)) ||
                 (m > 0 && m < PATH_MAX && access(marker, F_OK) == 0);
      if (!ours && access(found, X_OK) == 0) return 0;
      if (!ours) denied = 1;
    }
    if (!at[length]) break;
    at += length + 1;
  }
  errno = denied ? EACCES : ENOENT;
  return -1;
}

static void fail(const char *name, int error) {
  fprintf(stderr, "mesh-shim: %s: %s\n", name,
          error == ENOENT ? "command not found" : strerror(error));
  _exit(error == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE);
}

static void find_compiler(int argc, char **argv) {
  struct stat self_stat, st;
  const struct stat *self = &self_stat;
  char found[PATH_MAX];
  const char *name = argv[0];
  if (strcmp(base_name(argv[0]), "mesh-shim") == 0) {
    if (argc < 2) {
      fputs("usage: mesh-shim COMPILER ARGUMENTS...\n", stderr);
      _exit(2);
    }
    if (argc == 2 && strcmp(argv[1], "--mesh-shim-version") == 0) {
      printf("mesh-shim %d\n", PROTOCOL_VERSION);
      exit(0);
    }
    arguments = argv + 1;
    argument_count = argc - 1;
    name = argv[1];
  } else {
    arguments = argv;
    argument_count = argc;
  }
  if (stat("/proc/self/exe", &self_stat) != 0) {
    int known = strchr(argv[0], '/') ? stat(argv[0], &self_stat) == 0
                                     : search_path(argv[0], NULL, found) == 0 &&
                                           stat(found, &self_stat) == 0;
    if (!known) self = NULL;
  }
  /* A name with a slash is taken as it is, unless it is this program under a compiler's name. */
  if (arguments == argv || !strchr(name, '/') ||
      (self && stat(name, &st) == 0 && same_file(&st, self))) {
    name = base_name(name);
    if (search_path(name, self, compiler) != 0) fail(name, errno);
  } else if (strlen(name) < sizeof compiler) {
    strcpy(compiler, name);
  } else {
    fail(name, ENAMETOOLONG);
  }
  arguments[0] = compiler;
}

static void exec_compiler(char **argv) {
  execv(compiler, argv);
  if (errno == ENOEXEC) { /* a script without #!, as shells and execvp run it */
    char **script = malloc(((size_t)argument_count + 3) * sizeof *script);
    int n = 0;
    if (script) {
      script[0] = "/bin/sh";
      for (n = 0; argv[n] && n <= argument_count; n++) script[n + 1] = argv[n];
      script[n + 1] = NULL;
      execv("/bin/sh", script);
    }
    errno = ENOEXEC;
  }
  fail(compiler, errno);
}

/* ---- small things ---- */

static void put_u32(unsigned char *to, uint32_t value) {
  to[0] = (unsigned char)value;
  to[1] = (unsigned char)(value >> 8);
  to[2] = (unsigned char)(value >> 16);
  to[3] = (unsigned char)(value >> 24);
}

static uint32_t get_u32(const unsigned char *from) {
  return from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

static long now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (long)(t.tv_sec * 1000 + t.tv_nsec / 1000000);
}

static void pause_ms(long ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&t, NULL);
}

/* Prints. A reader that is gone kills this program with SIGPIPE, as it would kill the compiler. */
static void print(int fd, const void *bytes, size_t length) {
  const char *at = bytes;
  while (length > 0) {
    ssize_t n = write(fd, at, length);
    if (n >= 0) {
      at += n;
      length -= (size_t)n;
    } else if (errno == EAGAIN) { /* somebody made the build's terminal non-blocking */
      struct pollfd p = {fd, POLLOUT, 0};
      poll(&p, 1, -1);
    } else if (errno != EINTR) {
      return; /* closed: compilers do not mind either */
    }
  }
}

static void remember(int fd, const void *bytes, size_t length) {
  struct shown *s = &shown[fd];
  if (s->length + length > SHOWN_MAX_BYTES) return; /* worst case: printed twice, never lost */
  if (s->length + length > s->capacity) {
    size_t capacity = (s->length + length) * 2;
    char *bigger = realloc(s->bytes, capacity);
    if (!bigger) return;
    s->bytes = bigger;
    s->capacity = capacity;
  }
  memcpy(s->bytes + s->length, bytes, length);
  s->length += length;
}

/* ---- talking to the node ---- */

static void hang_up(void) {
  if (node >= 0) close(node);
  node = -1;
}

static int connect_node(const char *path) {
  struct sockaddr_un address;
  long give_up_ms = 0;
  int fd;
  if (strlen(path) >= sizeof address.sun_path) return -1;
  memset(&address, 0, sizeof address);
  address.sun_family = AF_UNIX;
  strcpy(address.sun_path, path);
  fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0) return -1;
  /* Never 0, 1 or 2, even where the build closed them: the compiler must not write to the node. */
  node = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  close(fd);
  if (node < 0) return -1;
  fcntl(node, F_SETFL, fcntl(node, F_GETFL) | O_NONBLOCK);
  while (connect(node, (struct sockaddr *)&address, sizeof address) != 0) {
    /* EAGAIN: the queue of the listening socket is full. A stopped node would fill it for good. */
    if (errno != EAGAIN && errno != EINTR) return -1;
    if (give_up_ms == 0) give_up_ms = now_ms() + CONNECT_MAX_MS;
    if (now_ms() > give_up_ms) return -1;
    pause_ms(5);
  }
  return 0;
}

static int send_all(const void *bytes, size_t length) {
  const char *at = bytes;
  while (length > 0) {
    ssize_t n = send(node, at, length, MSG_NOSIGNAL);
    if (n > 0) {
      at += n;
      length -= (size_t)n;
    } else if (n < 0 && errno == EAGAIN) {
      struct pollfd p = {node, POLLOUT, 0};
      if (poll(&p, 1, 2 * SILENCE_MS) == 0) return -1;
    } else if (errno != EINTR) {
      return -1;
    }
  }
  return 0;
}

static int send_frame(unsigned char type, const unsigned char *bytes, uint32_t length) {
  unsigned char frame[5 + 16];
  frame[0] = type;
  put_u32(frame + 1, length);
  if (length > 0) memcpy(frame + 5, bytes, length);
  return send_all(frame, 5 + length);
}

/* Waits for `length` bytes. A node that is silent is asked whether it lives, then given up. */
static int receive(void *to, size_t length) {
  char *at = to;
  int asked = 0;
  while (length > 0) {
    ssize_t n = recv(node, at, length, 0);
    if (n > 0) {
      at += n;
      length -= (size_t)n;
      asked = 0;
    } else if (n == 0) {
      return -1;
    } else if (errno == EAGAIN) {
      struct pollfd p = {node, POLLIN, 0};
      if (poll(&p, 1, SILENCE_MS) == 0 && (asked++ || send_frame(PING, NULL, 0) != 0)) return -1;
    } else if (errno != EINTR) {
      return -1;
    }
  }
  return 0;
}

static int receive_frame(struct frame *frame) {
  unsigned char header[5];
  if (receive(header, sizeof header) != 0) return -1;
  frame->type = header[0];
  frame->length = get_u32(header + 1);
  if (frame->length > FRAME_MAX_BYTES) return -1;
  frame->bytes = malloc(frame->length + 1u);
  if (!frame->bytes) return -1;
  return receive(frame->bytes, frame->length);
}

static unsigned char *put_string(unsigned char *to, const char *text, size_t length) {
  put_u32(to, (uint32_t)length);
  memcpy(to + 4, text, length);
  return to + 4 + length;
}

/* One message: see protocols/shim.md for its shape. */
static int send_request(void) {
  static char cwd[PATH_MAX], absolute[2 * PATH_MAX];
  const char *build = getenv("MESH_BUILD"), *colour = getenv("MESH_COLOR");
  size_t total = 32;
  unsigned char *bytes, *at;
  uint32_t env_count = 0, flags = 0;
  mode_t mask = umask(0);
  int i, result;
  umask(mask);
  if (!build) build = "";
  if (!getcwd(cwd, sizeof cwd)) return -1; /* deleted, or too deep: let the compiler complain */
  if (compiler[0] == '/')
    strcpy(absolute, compiler);
  else
    snprintf(absolute, sizeof absolute, "%s/%s", cwd, compiler);
  if (isatty(2)) flags |= FLAG_STDERR_TTY;
  if (colour && strcmp(colour, "1") == 0) flags |= FLAG_WANTS_COLOUR;
  total += 12 + strlen(build) + strlen(cwd) + strlen(absolute);
  for (i = 1; i < argument_count; i++) total += 4 + strlen(arguments[i]);
  for (; environ[env_count]; env_count++) total += 4 + strlen(environ[env_count]);
  if (total > REQUEST_MAX_BYTES || !(bytes = malloc(total))) return -1;
  memcpy(bytes, "MESH", 4);
  put_u32(bytes + 4, PROTOCOL_VERSION);
  put_u32(bytes + 8, (uint32_t)total - 12);
  put_u32(bytes + 12, (uint32_t)getpid());
  put_u32(bytes + 16, (uint32_t)mask);
  put_u32(bytes + 20, flags);
  put_u32(bytes + 24, (uint32_t)argument_count - 1);
  put_u32(bytes + 28, env_count);
  at = put_string(bytes + 32, build, strlen(build));
  at = put_string(at, cwd, strlen(cwd));
  at = put_string(at, absolute, strlen(absolute));
  for (i = 1; i < argument_count; i++) at = put_string(at, arguments[i], strlen(arguments[i]));
  for (i = 0; environ[i]; i++) at = put_string(at, environ[i], strlen(environ[i]));
  result = send_all(bytes, total);
  free(bytes);
  return result;
}

/* ---- running the compiler as a child ---- */

/*
 * A signal that a process sent to this one alone is meant for the compiler. One from the terminal
 * (si_code SI_KERNEL) has reached it already: it is in the same process group.
 */
static void on_signal(int number, siginfo_t *from, void *context) {
  int sent = from->si_code == SI_USER || from->si_code == SI_QUEUE || from->si_code < 0;
  (void)context;
  if (number != SIGCHLD && sent && child > 0) kill((pid_t)child, number);
}

static void watch_signals(sigset_t *before) {
  static const int numbers[] = {SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
  struct sigaction action, old;
  sigset_t blocked;
  size_t i;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&blocked);
  for (i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    sigaction(numbers[i], NULL, &old);
    /* What the build ignores (nohup, a shell's background job) stays ignored, SIGCHLD excepted. */
    if (numbers[i] != SIGCHLD && old.sa_handler == SIG_IGN) continue;
    sigaddset(&blocked, numbers[i]);
    sigaction(numbers[i], &action, NULL);
  }
  sigprocmask(SIG_BLOCK, &blocked, before);
}

/* Passes on what is there to read. Returns 0 at the end of the stream. */
static int relay_some(struct relay *r) {
  static char buffer[1 << 16];
  ssize_t n = read(r->from, buffer, sizeof buffer);
  size_t left, same;
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  if (n == 0) return 0;
  left = r->shown->length - r->matched;
  same = (size_t)n < left ? (size_t)n : left;
  if (memcmp(buffer, r->shown->bytes + r->matched, same) == 0) {
    r->matched += same;
    print(r->to, buffer + same, (size_t)n - same);
  } else { /* not what the build has seen: then all of it, rather than half */
    print(r->to, r->shown->bytes, r->matched);
    print(r->to, buffer, (size_t)n);
    r->matched = r->shown->length = 0;
  }
  return 1;
}

/* What the node says while the compiler runs. Anything unclear ends the talk, not the compiler. */
static void obey_while_running(void) {
  struct frame frame;
  if (receive_frame(&frame) != 0) {
    hang_up();
  } else if (frame.type == STOP && frame.length == 1) {
    kill((pid_t)child, frame.bytes[0]);
  } else if (frame.type != PONG) {
    hang_up();
  }
}

static int wait_child(struct relay relays[2], const sigset_t *before) {
  sigset_t unblocked = *before;
  int status, i;
  sigdelset(&unblocked, SIGCHLD);
  for (;;) {
    fd_set readable;
    int top = -1;
    if (waitpid((pid_t)child, &status, WNOHANG) == child) break;
    FD_ZERO(&readable);
    for (i = -1; i < 2; i++) {
      int fd = i < 0 ? node : relays[i].from;
      if (fd < 0 || fd >= FD_SETSIZE) continue;
      FD_SET(fd, &readable);
      if (fd > top) top = fd;
    }
    if (pselect(top + 1, &readable, NULL, NULL, NULL, &unblocked) < 0) continue;
    for (i = 0; i < 2; i++) {
      int fd = relays[i].from;
      if (fd < 0 || !FD_ISSET(fd, &readable) || relay_some(&relays[i])) continue;
      close(fd);
      relays[i].from = -1;
    }
    if (node >= 0 && node < FD_SETSIZE && FD_ISSET(node, &readable)) obey_while_running();
  }
  /* What is in the pipes now is the compiler's; a background process it left is not waited for. */
  for (i = 0; i < 2; i++) {
    while (relays[i].from >= 0) {
      struct pollfd p = {relays[i].from, POLLIN, 0};
      if (poll(&p, 1, 0) <= 0 || !relay_some(&relays[i])) break;
    }
  }
  return status;
}

static int run_compiler(char **argv) {
  struct relay relays[2];
  sigset_t before;
  int pipes[2][2], i;
  pid_t parent = getpid(), pid;
  setenv("MESH_INSIDE", "1", 1);
  for (i = 0; i < 2; i++) {
    relays[i] = (struct relay){-1, i + 1, &shown[i + 1], 0};
    /* Without a pipe, or with one that select cannot watch, it prints twice. */
    if (shown[i + 1].length == 0 || pipe(pipes[i]) != 0) continue;
    fcntl(pipes[i][0], F_SETFD, FD_CLOEXEC);
    fcntl(pipes[i][1], F_SETFD, FD_CLOEXEC);
    if (pipes[i][0] < FD_SETSIZE) relays[i].from = pipes[i][0];
  }
  watch_signals(&before);
  pid = fork();
  if (pid == 0) {
    for (i = 0; i < 2; i++)
      if (relays[i].from >= 0) dup2(pipes[i][1], i + 1);
#ifdef __linux__
    /* A shim that is killed outright must not leave a compiler running that nobody counts. */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(128 + SIGTERM);
#else
    (void)parent;
#endif
    /* exec resets the handlers; the mask it keeps. */
    sigprocmask(SIG_SETMASK, &before, NULL);
    exec_compiler(argv);
  }
  if (pid < 0) { /* out of processes: give this one to the compiler */
    hang_up();
    sigprocmask(SIG_SETMASK, &before, NULL);
    exec_compiler(argv);
  }
  child = pid;
  for (i = 0; i < 2; i++)
    if (relays[i].from >= 0) close(pipes[i][1]);
  return wait_child(relays, &before);
}

/* Ends as the compiler ended, so that the build sees the same. */
static void end_like(int status) {
  if (WIFSIGNALED(status)) {
    int number = WTERMSIG(status);
    struct rlimit no_core = {0, 0};
    sigset_t only;
    setrlimit(RLIMIT_CORE, &no_core); /* the core dump is the compiler's */
    signal(number, SIG_DFL);
    sigemptyset(&only);
    sigaddset(&only, number);
    sigprocmask(SIG_UNBLOCK, &only, NULL);
    raise(number);
    _exit(128 + number);
  }
  _exit(WEXITSTATUS(status));
}

/* ---- without the node ---- */

static int try_lock(int fd, int command, off_t byte) {
  struct flock lock;
  memset(&lock, 0, sizeof lock);
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return fcntl(fd, command, &lock);
}

/*
 * A build that counted on a whole mesh may have started hundreds of compiles; when the node dies
 * they must not all run here at once. So the shims share $MESH_SLOTS locks among themselves: byte
 * 0 of a file is held by the one that looks for a free slot, the others are the slots. Such a lock
 * outlives exec and dies with the compiler. Where the file cannot be made there is no limit.
 */
static void take_slot(const char *socket_path) {
  const char *text = getenv("MESH_SLOTS");
  long slots = text ? strtol(text, NULL, 10) : 0;
  char path[PATH_MAX];
  int fd, high, i;
  if (slots < 1 || slots > SLOTS_MAX) return;
  if (snprintf(path, sizeof path, "%s.slots", socket_path) >= (int)sizeof path) return;
  fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return;
  high = fcntl(fd, F_DUPFD, 3); /* kept open across exec */
  close(fd);                    /* before any lock: closing drops the locks of a process */
  if (high < 0) return;
  while (try_lock(high, F_SETLKW, 0) != 0)
    if (errno != EINTR) return;
  for (;;) {
    for (i = 1; i <= slots; i++) {
      if (try_lock(high, F_SETLK, i) != 0) continue;
      struct flock gate = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
      fcntl(high, F_SETLK, &gate);
      return;
    }
    pause_ms(10);
  }
}

static void run_alone(const char *socket_path) {
  hang_up();
  take_slot(socket_path);
  if (shown[1].length > 0 || shown[2].length > 0) end_like(run_compiler(arguments));
  setenv("MESH_INSIDE", "1", 1);
  exec_compiler(arguments);
}

/* ---- obeying the node ---- */

/* RUN: extra arguments come first, so that what the user said wins. */
static int run_for_node(const struct frame *frame) {
  const unsigned char *at = frame->bytes, *end = at + frame->length;
  char **argv;
  unsigned char done[16];
  struct rusage used;
  uint32_t count, i;
  long start_ms;
  int status;
  if (frame->length < 4 || (count = get_u32(at)) > 64) return -1;
  argv = malloc(((size_t)argument_count + count + 1) * sizeof *argv);
  if (!argv) return -1;
  at += 4;
  argv[0] = arguments[0];
  for (i = 0; i < count; i++) {
    uint32_t length;
    if (end - at < 4 || (length = get_u32(at)) > (size_t)(end - at - 4)) return -1;
    argv[1 + i] = strndup((const char *)at + 4, length);
    if (!argv[1 + i]) return -1;
    at += 4 + length;
  }
  memcpy(argv + 1 + count, arguments + 1, (size_t)argument_count * sizeof *argv);
  argument_count += (int)count;
  start_ms = now_ms();
  status = run_compiler(argv);
  memset(&used, 0, sizeof used);
  getrusage(RUSAGE_CHILDREN, &used);
  put_u32(done, WIFSIGNALED(status) ? 128u + (uint32_t)WTERMSIG(status) : WEXITSTATUS(status));
  put_u32(done + 4, WIFSIGNALED(status) ? (uint32_t)WTERMSIG(status) : 0);
  put_u32(done + 8, (uint32_t)(now_ms() - start_ms));
  put_u32(done + 12, (uint32_t)((used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000 +
                                (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000));
  if (node >= 0) send_frame(DONE, done, sizeof done);
  end_like(status);
  return 0;
}

/* Returns when the node is of no more use. */
static void obey(void) {
  struct frame frame;
  while (receive_frame(&frame) == 0) {
    if (frame.type == RUN) {
      if (run_for_node(&frame) != 0) return;
    } else if (frame.type == WRITE && frame.length >= 1 &&
               (frame.bytes[0] == 1 || frame.bytes[0] == 2)) {
      print(frame.bytes[0], frame.bytes + 1, frame.length - 1);
      remember(frame.bytes[0], frame.bytes + 1, frame.length - 1);
    } else if (frame.type == EXIT && frame.length >= 5 &&
               get_u32(frame.bytes + 1) <= frame.length - 5) {
      uint32_t out = get_u32(frame.bytes + 1);
      print(1, frame.bytes + 5, out);
      print(2, frame.bytes + 5 + out, frame.length - 5 - out);
      _exit(frame.bytes[0]);
    } else if (frame.type != PONG) {
      return;
    }
    free(frame.bytes);
  }
}

int main(int argc, char **argv) {
  const char *socket_path = getenv("MESH_SOCKET"), *inside = getenv("MESH_INSIDE");
  if (argc < 1) return EXIT_NOT_FOUND;
  find_compiler(argc, argv);
  if (!socket_path || !*socket_path || (inside && strcmp(inside, "1") == 0))
    exec_compiler(arguments);
  if (connect_node(socket_path) == 0 && send_request() == 0) obey();
  run_alone(socket_path);
  return EXIT_NOT_EXECUTABLE; /* not reached */
}
