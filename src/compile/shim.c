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

#define PROTOCOL_VERSION 2
#define REQUEST_MAX_BYTES (8u << 20) /* a longer request is not sent: the compiler runs here */
#define FRAME_MAX_BYTES (4u << 20)   /* a longer reply is trouble */
#define SHOWN_MAX_BYTES (16u << 20)  /* early output remembered for a later local run */
#define CAPTURE_MAX_BYTES (1u << 20) /* a longer output is shown, but not told to the node */
#define FREE_MAX_MS 10000            /* then the build goes on, whatever the node is doing */
#define INTERRUPTED_MS 1000          /* how long a full stream is waited for after a signal */
#define SILENCE_MS 5000              /* then a ping; after as much again the node counts as dead */
#define CONNECT_MAX_MS 2000
#define SLOTS_MAX 4096
#define PIPE_MAX_READS 32 /* of 64 KiB: twice what a pipe can hold */

enum { RUN = 0x01, WRITE = 0x02, EXIT = 0x03, STOP = 0x04, PONG = 0x05, FREE = 0x06 };
enum { PING = 0x10, DONE = 0x11 };
enum { FLAG_STDERR_TTY = 1, FLAG_WANTS_COLOUR = 2 };
enum { RUN_CAPTURE = 1 };
enum { DONE_CAPTURED = 1, DONE_WAITS = 2 };
enum { EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127 };

/* What was written to one stream. */
struct output {
  char *bytes;
  size_t length, capacity;
};
/* A local run's output on its way to the build, less what the build has seen. */
struct relay {
  int from, to;
  struct output *shown;
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
/* By file descriptor; 0 is unused. What the build has seen, and what the compiler has written. */
static struct output shown[3], captured[3];
static int capturing;  /* the node wants to know the compiler's output, and all of it is there */
static int write_error; /* why stdout did not take what a captured compiler wrote to it */
static int node = -1;  /* the socket */
static volatile sig_atomic_t child;
static volatile sig_atomic_t interrupted; /* a signal has come that may have ended the compiler */
static sigset_t outside; /* the signal mask that the build gave us */

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

/*
 * Prints. A reader that is gone kills this program with SIGPIPE, as it would kill the compiler.
 * Returns -1 when something could not be printed.
 */
static int print(int fd, const void *bytes, size_t length) {
  const char *at = bytes;
  while (length > 0) {
    struct pollfd p = {fd, POLLOUT, 0};
    size_t piece = length;
    ssize_t n;
    if (interrupted) { /* it would have ended the compiler in this write, had that made it itself */
      if (poll(&p, 1, INTERRUPTED_MS) <= 0) return -1;
      if (piece > PIPE_BUF) piece = PIPE_BUF;
    }
    n = write(fd, at, piece);
    if (n >= 0) {
      at += n;
      length -= (size_t)n;
    } else if (errno == EAGAIN) { /* somebody made the build's terminal non-blocking */
      poll(&p, 1, -1);
    } else if (errno != EINTR) {
      return -1; /* closed: compilers do not mind either */
    }
  }
  return 0;
}

static int append(struct output *to, const void *bytes, size_t length) {
  if (length == 0) return 0; /* there may be no memory yet, and memcpy wants some even then */
  if (to->length + length > to->capacity) {
    size_t capacity = (to->length + length) * 2;
    char *bigger = realloc(to->bytes, capacity);
    if (!bigger) return -1;
    to->bytes = bigger;
    to->capacity = capacity;
  }
  memcpy(to->bytes + to->length, bytes, length);
  to->length += length;
  return 0;
}

static void remember(int fd, const void *bytes, size_t length) {
  /* Beyond the bound it may be printed twice, but never lost. */
  if (shown[fd].length + length <= SHOWN_MAX_BYTES) append(&shown[fd], bytes, length);
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

static int send_ping(void) {
  static const unsigned char frame[5] = {PING};
  return send_all(frame, sizeof frame);
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
      if (poll(&p, 1, SILENCE_MS) == 0 && (asked++ || send_ping() != 0)) return -1;
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
  if (number == SIGCHLD) return;
  interrupted = 1;
  if (sent && child > 0) kill((pid_t)child, number);
}

static void watch_signals(void) {
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
  sigprocmask(SIG_BLOCK, &blocked, &outside);
}

/* Only here a signal may interrupt, since a stream that nobody reads may take forever. */
static void pass_on(const struct relay *r, const char *bytes, size_t length) {
  sigset_t blocked;
  if (length == 0) return;
  sigprocmask(SIG_SETMASK, &outside, &blocked);
  if (print(r->to, bytes, length) != 0 && capturing) {
    capturing = 0; /* what the build has not seen shall not be repeated to others */
    if (r->to == 1 && !interrupted) write_error = errno;
  }
  sigprocmask(SIG_SETMASK, &blocked, NULL);
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
  if (same == 0 || memcmp(buffer, r->shown->bytes + r->matched, same) == 0) {
    r->matched += same;
    pass_on(r, buffer + same, (size_t)n - same);
  } else { /* not what the build has seen: then all of it, rather than half */
    pass_on(r, r->shown->bytes, r->matched);
    pass_on(r, buffer, (size_t)n);
    r->matched = r->shown->length = 0;
  }
  if (capturing && (captured[1].length + captured[2].length + (size_t)n > CAPTURE_MAX_BYTES ||
                    append(&captured[r->to], buffer, (size_t)n) != 0))
    capturing = 0;
  return 1;
}

/* What the node says while the compiler runs. Anything unclear ends the talk, not the compiler. */
static void obey_while_running(void) {
  struct frame frame = {0, 0, NULL};
  if (receive_frame(&frame) != 0) {
    hang_up();
  } else if (frame.type == STOP && frame.length == 1) {
    kill((pid_t)child, frame.bytes[0]);
  } else if (frame.type != PONG) {
    hang_up();
  }
  free(frame.bytes);
}

static int wait_child(struct relay relays[2]) {
  sigset_t unblocked = outside;
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
  child = 0; /* its number may soon be another process's */
  /* What is in the pipes now is the compiler's; a background process it left is not waited for. */
  for (i = 0; i < 2; i++) {
    int rounds = PIPE_MAX_READS; /* such a process may write faster than this one reads */
    while (relays[i].from >= 0 && rounds-- > 0) {
      struct pollfd p = {relays[i].from, POLLIN, 0};
      if (poll(&p, 1, 0) <= 0) break;
      if (!relay_some(&relays[i])) relays[i].from = -1;
    }
    if (relays[i].from >= 0) capturing = 0; /* there may be more to come */
  }
  return status;
}

/* A pipe for one of the compiler's streams, and one that select can watch. */
static int make_pipe(int ends[2]) {
#ifdef __linux__
  if (pipe2(ends, O_CLOEXEC) != 0) return -1;
#else
  if (pipe(ends) != 0) return -1;
  fcntl(ends[0], F_SETFD, FD_CLOEXEC);
  fcntl(ends[1], F_SETFD, FD_CLOEXEC);
#endif
  if (ends[0] < FD_SETSIZE) return 0;
  close(ends[0]);
  close(ends[1]);
  return -1;
}

static int run_compiler(char **argv) {
  struct relay relays[2];
  int pipes[2][2], i;
  pid_t parent = getpid(), pid;
  setenv("MESH_INSIDE", "1", 1);
  /* Streams that are closed stay closed for the compiler; and waiting for FREE needs select. */
  if (fcntl(1, F_GETFD) < 0 || fcntl(2, F_GETFD) < 0 || node >= FD_SETSIZE) capturing = 0;
  for (i = 0; i < 2; i++) {
    relays[i] = (struct relay){-1, i + 1, &shown[i + 1], 0};
    if (!capturing && shown[i + 1].length == 0) continue;
    /* Without a pipe nothing is captured, and what was shown is printed twice. */
    if (make_pipe(pipes[i]) == 0)
      relays[i].from = pipes[i][0];
    else
      capturing = 0;
  }
  watch_signals();
  /* Cheaper than fork by 0.1 ms: no page is copied. The child changes no memory that matters. */
  pid = vfork();
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
    sigprocmask(SIG_SETMASK, &outside, NULL);
    exec_compiler(argv);
  }
  if (pid < 0) { /* out of processes: give this one to the compiler */
    hang_up();
    sigprocmask(SIG_SETMASK, &outside, NULL);
    exec_compiler(argv);
  }
  child = pid;
  for (i = 0; i < 2; i++)
    if (relays[i].from >= 0) close(pipes[i][1]);
  return wait_child(relays);
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

/* DONE, with what the compiler wrote if the node wants to know. Returns whether FREE is due. */
static int send_done(int status, long wall_ms) {
  struct rusage used;
  int signalled = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  int whole = capturing && !signalled; /* one that was killed had more to say */
  int waits = whole && !interrupted && WEXITSTATUS(status) == 0;
  uint32_t out = whole ? (uint32_t)captured[1].length : 0;
  uint32_t err = whole ? (uint32_t)captured[2].length : 0;
  unsigned char *frame = malloc(5 + 24 + (size_t)out + err);
  if (!frame) return 0;
  memset(&used, 0, sizeof used);
  getrusage(RUSAGE_CHILDREN, &used);
  frame[0] = DONE;
  put_u32(frame + 1, 24 + out + err);
  put_u32(frame + 5, signalled ? 128u + (uint32_t)signalled : WEXITSTATUS(status));
  put_u32(frame + 9, (uint32_t)signalled);
  put_u32(frame + 13, (uint32_t)wall_ms);
  put_u32(frame + 17, (uint32_t)((used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000 +
                                 (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000));
  put_u32(frame + 21, (whole ? DONE_CAPTURED : 0) | (waits ? DONE_WAITS : 0));
  put_u32(frame + 25, out);
  if (out > 0) memcpy(frame + 29, captured[1].bytes, out);
  if (err > 0) memcpy(frame + 29 + out, captured[2].bytes, err);
  return send_all(frame, 29 + (size_t)out + err) == 0 && waits;
}

/*
 * The node takes a copy of what the compiler wrote. Until it has one, the build must not go on and
 * change it; but no trouble of the node's is worth holding up a build for long.
 */
static void await_free(void) {
  long end_ms = now_ms() + FREE_MAX_MS, left_ms;
  while (!interrupted && (left_ms = end_ms - now_ms()) > 0) {
    struct timespec left = {left_ms / 1000, left_ms % 1000 * 1000000};
    struct frame frame;
    fd_set readable;
    FD_ZERO(&readable);
    FD_SET(node, &readable);
    if (pselect(node + 1, &readable, NULL, NULL, &left, &outside) <= 0) continue;
    if (receive_frame(&frame) != 0) return;
    free(frame.bytes);
    if (frame.type != STOP && frame.type != PONG) return; /* FREE, or something unclear */
  }
}

/* RUN: extra arguments come first, so that what the user said wins. */
static int run_for_node(const struct frame *frame) {
  const unsigned char *at = frame->bytes, *end = at + frame->length;
  char **argv;
  uint32_t count, i;
  long start_ms;
  int status;
  if (frame->length < 8 || get_u32(at) > RUN_CAPTURE || (count = get_u32(at + 4)) > 64) return -1;
  argv = malloc(((size_t)argument_count + count + 1) * sizeof *argv);
  if (!argv) return -1;
  at += 8;
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
  capturing = get_u32(frame->bytes) == RUN_CAPTURE;
  start_ms = now_ms();
  status = run_compiler(argv);
  if (write_error != 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
    /* The compiler wrote to a pipe that took everything: its success is not one. */
    fprintf(stderr, "mesh-shim: %s: standard output: %s\n", compiler, strerror(write_error));
    status = 1 << 8; /* as wait() tells an exit code of 1 */
  }
  if (node >= 0 && send_done(status, now_ms() - start_ms)) await_free();
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
