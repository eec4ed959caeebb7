/*
 * Runs a command and watches which files it looks at, system call by system call.
 *
 *   rust-trace log FILE -- PROGRAM ARG...      writes to FILE what it and its children looked at
 *   rust-trace keep POLICY -- PROGRAM ARG...   ends it as soon as a procedural macro may have
 *                                              looked at something that is no input
 *
 * Under a policy nothing matters until rustc opens the first library of a macro; from then on what
 * is not there has to be something that the policy knows is not there. A violation is one line on
 * stdout and exit code 125, before any metadata is complete, since macros run before that. The
 * lines of a policy are a letter, a space and a path or a name:
 *
 *   m  library of a macro            n  variable a macro may ask for
 *   d  folder all of whose plain     x  thing in such a folder of which that is not true
 *      names are inputs              a  path known not to exist
 *   o  beginning of paths that are   v  variable that is set differently all the time; with a
 *      the compiler's own output        star at its end: all that begin so
 *   p  programs may be started (by rustc: the linker), and are nobody's business
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* <sys/ptrace.h> and <linux/ptrace.h> do not go together. */
long ptrace(int request, ...);

#define MARK (-0x4d455348)
#define TOO_FAR 125
#define THREADS_MAX 4096
#define TRACE_OPTIONS                                                                     \
  (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | \
   PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL)

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "only x86-64 and AArch64"
#endif

enum kind { OPEN, LOOK, LIST, CHANGE, EXEC, NEVER };

/* Arguments by index; a negative folder means the working folder. */
static const struct call {
  long number;
  enum kind kind;
  int folder, path, flags;
} calls[] = {
#ifdef SYS_open
    {SYS_open, OPEN, -1, 0, 1},
    {SYS_creat, CHANGE, -1, 0, -1},
    {SYS_stat, LOOK, -1, 0, -1},
    {SYS_lstat, LOOK, -1, 0, -1},
    {SYS_access, LOOK, -1, 0, -1},
    {SYS_readlink, LOOK, -1, 0, -1},
    {SYS_getdents, LIST, 0, -1, -1},
    {SYS_mkdir, CHANGE, -1, 0, -1},
    {SYS_rename, CHANGE, -1, 1, -1},
    {SYS_link, CHANGE, -1, 1, -1},
    {SYS_symlink, CHANGE, -1, 1, -1},
    {SYS_unlink, CHANGE, -1, 0, -1},
    {SYS_rmdir, CHANGE, -1, 0, -1},
#endif
    {SYS_openat, OPEN, 0, 1, 2},
    {SYS_openat2, OPEN, 0, 1, -2},
    {SYS_newfstatat, LOOK, 0, 1, -1},
    {SYS_statx, LOOK, 0, 1, -1},
    {SYS_statfs, LOOK, -1, 0, -1},
    {SYS_faccessat, LOOK, 0, 1, -1},
    {SYS_faccessat2, LOOK, 0, 1, -1},
    {SYS_readlinkat, LOOK, 0, 1, -1},
    {SYS_getxattr, LOOK, -1, 0, -1},
    {SYS_lgetxattr, LOOK, -1, 0, -1},
    {SYS_chdir, LOOK, -1, 0, -1},
    {SYS_getdents64, LIST, 0, -1, -1},
    {SYS_mkdirat, CHANGE, 0, 1, -1},
    {SYS_renameat, CHANGE, 2, 3, -1},
    {SYS_renameat2, CHANGE, 2, 3, -1},
    {SYS_linkat, CHANGE, 2, 3, -1},
    {SYS_symlinkat, CHANGE, 1, 2, -1},
    {SYS_unlinkat, CHANGE, 0, 1, -1},
    {SYS_execve, EXEC, -1, 0, -1},
    {SYS_execveat, EXEC, 0, 1, -1},
    {SYS_socket, NEVER, -1, -1, -1},
    {SYS_name_to_handle_at, NEVER, -1, -1, -1},
    {SYS_open_by_handle_at, NEVER, -1, -1, -1},
    {SYS_io_uring_setup, NEVER, -1, -1, -1},
};
#define CALLS ((int)(sizeof calls / sizeof calls[0]))

struct thread {
  pid_t id;
  /* Of another process than the command's own. */
  int other;
  int started;
  const struct call *during;
  char path[PATH_MAX];
};

static struct thread *threads[THREADS_MAX];
static pid_t command;
static int armed;
static FILE *log_file;

struct lines {
  char **text;
  int count;
};
static struct lines policy[128];

static void fail(const char *what) {
  dprintf(2, "rust-trace: %s: %s\n", what, strerror(errno));
  if (command > 0) kill(command, SIGKILL);
  _exit(TOO_FAR);
}

static void violated(const char *kind, const char *name) {
  kill(command, SIGKILL);
  dprintf(1, "rust-trace: %s %s\n", kind, name);
  _exit(TOO_FAR);
}

static void *room(size_t bytes) {
  void *made = calloc(1, bytes);
  if (made == 0) fail("memory");
  return made;
}

/* ---- paths ---- */

static int is_below(const char *path, const char *folder) {
  size_t length = strlen(folder);
  if (length == 1) return path[0] == '/';
  return strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}

/*
 * Follows the symlinks of the part that exists. False when the rest climbs up again: then only the
 * kernel knows where it leads.
 */
static int canonical(const char *path, char *into) {
  char head[PATH_MAX];
  size_t length = strlen(path);
  if (length >= sizeof head) return 0;
  memcpy(head, path, length + 1);
  for (;;) {
    if (realpath(length == 0 ? "/" : head, into) != 0) break;
    while (length > 0 && head[length - 1] != '/') length--;
    while (length > 0 && head[length - 1] == '/') length--;
    head[length] = 0;
  }
  const char *rest = path + length;
  while (*rest == '/') rest++;
  if (*rest == 0) return 1;
  size_t at = strlen(into);
  if (at == 1) at = 0;
  while (*rest != 0) {
    size_t part = strcspn(rest, "/");
    if (part == 2 && rest[0] == '.' && rest[1] == '.') return 0;
    if (!(part == 1 && rest[0] == '.')) {
      if (at + part + 2 > PATH_MAX) return 0;
      into[at++] = '/';
      memcpy(into + at, rest, part);
      at += part;
    }
    rest += part;
    while (*rest == '/') rest++;
  }
  into[at] = 0;
  return 1;
}

static void add_line(char letter, const char *value) {
  struct lines *lines = &policy[(int)letter];
  char *copy = strdup(value);
  lines->text = realloc(lines->text, (size_t)(lines->count + 1) * sizeof(char *));
  if (lines->text == 0 || copy == 0) fail("memory");
  lines->text[lines->count++] = copy;
}

static void read_policy(char *text) {
  for (char *line = strtok(text, "\n"); line != 0; line = strtok(0, "\n")) {
    char whole[PATH_MAX];
    if (line[0] & 0x80) continue;
    const char *value = strlen(line) > 2 ? line + 2 : "";
    int followed = strchr("dxao", line[0]) != 0 && canonical(value, whole);
    /* Outputs are named both ways. */
    if (!followed || line[0] == 'o') add_line(line[0], value);
    if (followed) add_line(line[0], whole);
  }
}

static int has(char letter, const char *text) {
  const struct lines *lines = &policy[(int)letter];
  for (int i = 0; i < lines->count; i++)
    if (strcmp(lines->text[i], text) == 0) return 1;
  return 0;
}

/* Names that are left out of the inputs although their folder is listed, or a superset of them. */
static int is_private(const char *name, size_t length) {
  static const char *const endings[] = {".pem", ".key", ".p12", ".pfx", ".jks", ".keystore"};
  char lower[NAME_MAX + 1];
  if (length == 0 || length > NAME_MAX || name[0] == '.') return 1;
  for (size_t i = 0; i < length; i++)
    lower[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 32 : name[i]);
  lower[length] = 0;
  if (strncmp(lower, "id_", 3) == 0 || strstr(lower, "credentials") != 0) return 1;
  if (strcmp(lower, "node_modules") == 0) return 1;
  for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
    size_t ending = strlen(endings[i]);
    if (length >= ending && strcmp(lower + length - ending, endings[i]) == 0) return 1;
  }
  return 0;
}

static int is_own(const char *path) {
  const struct lines *own = &policy['o'];
  for (int i = 0; i < own->count; i++)
    if (strncmp(path, own->text[i], strlen(own->text[i])) == 0) return 1;
  return 0;
}

/* Whether a folder is on the way to the outputs: rustc makes sure that it is there. */
static int is_above_own(const char *path) {
  const struct lines *own = &policy['o'];
  for (int i = 0; i < own->count; i++)
    if (is_below(own->text[i], path)) return 1;
  return 0;
}

/* Whether the inputs say of themselves that nothing is at this canonical path. */
static int known_absent(const char *path) {
  const struct lines *absent = &policy['a'];
  for (int i = 0; i < absent->count; i++)
    if (is_below(path, absent->text[i])) return 1;
  const struct lines *folders = &policy['d'];
  const char *best = 0;
  for (int i = 0; i < folders->count; i++) {
    const char *folder = folders->text[i];
    if (is_below(path, folder) && (best == 0 || strlen(folder) > strlen(best))) best = folder;
  }
  if (best == 0 || strlen(best) == strlen(path)) return 0;
  const char *name = path + strlen(best) + (strlen(best) == 1 ? 0 : 1);
  size_t length = strcspn(name, "/");
  if (is_private(name, length)) return 0;
  char child[PATH_MAX];
  snprintf(child, sizeof child, "%.*s", (int)(name - path + (ptrdiff_t)length), path);
  return !has('x', child);
}

/* ---- environment variables ---- */

/* Whether a library could name a variable by itself: its constants hold the name. */
static int mentions(const char *library, const char *name) {
  int found = 0, file = open(library, O_RDONLY | O_CLOEXEC);
  struct stat stat;
  if (file < 0 || fstat(file, &stat) != 0 || stat.st_size < (off_t)sizeof(Elf64_Ehdr)) {
    if (file >= 0) close(file);
    return 0;
  }
  size_t size = (size_t)stat.st_size;
  unsigned char *bytes = mmap(0, size, PROT_READ, MAP_PRIVATE, file, 0);
  close(file);
  if (bytes == MAP_FAILED) return 0;
  const Elf64_Ehdr *header = (const void *)bytes;
  size_t table = header->e_shoff, count = header->e_shnum;
  if (memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 &&
      header->e_shentsize == sizeof(Elf64_Shdr) && table < size &&
      count <= (size - table) / sizeof(Elf64_Shdr)) {
    for (size_t i = 0; i < count && !found; i++) {
      Elf64_Shdr section;
      memcpy(&section, bytes + table + i * sizeof section, sizeof section);
      if (section.sh_type != SHT_PROGBITS || !(section.sh_flags & SHF_ALLOC) ||
          (section.sh_flags & (SHF_WRITE | SHF_EXECINSTR)))
        continue;
      if (section.sh_offset > size || section.sh_size > size - section.sh_offset) continue;
      found = memmem(bytes + section.sh_offset, section.sh_size, name, strlen(name)) != 0;
    }
  }
  munmap(bytes, size);
  return found;
}

static const char *base_of(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash == 0 ? path : slash + 1;
}

static int is_macro(const char *path) {
  const struct lines *macros = &policy['m'];
  for (int i = 0; i < macros->count; i++)
    if (strcmp(base_of(path), base_of(macros->text[i])) == 0) return 1;
  return 0;
}

static void asks_for(const char *library, const char *name) {
  if (!is_macro(library) || has('n', name)) return;
  const struct lines *unsteady = &policy['v'];
  for (int i = 0; i < unsteady->count; i++) {
    size_t length = strlen(unsteady->text[i]);
    int all = length > 0 && unsteady->text[i][length - 1] == '*';
    if (all ? strncmp(name, unsteady->text[i], length - 1) == 0
            : strcmp(name, unsteady->text[i]) == 0)
      violated("variable", name);
  }
  if (!mentions(library, name)) violated("variable", name);
}

/* ---- the traced ---- */

static struct thread *thread_of(pid_t id) {
  unsigned at = (unsigned)id % THREADS_MAX;
  for (int tries = 0; tries < THREADS_MAX; tries++, at = (at + 1) % THREADS_MAX) {
    if (threads[at] == 0) {
      char name[64], line[128];
      struct thread *made = room(sizeof *made);
      int group = 0;
      snprintf(name, sizeof name, "/proc/%d/status", (int)id);
      FILE *status = fopen(name, "re");
      while (status != 0 && fgets(line, sizeof line, status) != 0)
        if (sscanf(line, "Tgid: %d", &group) == 1) break;
      if (status != 0) fclose(status);
      made->id = id;
      made->other = group != command;
      return threads[at] = made;
    }
    /* An id can come again: `forget` leaves the place, for those behind it. */
    if (threads[at]->id == id) return threads[at];
  }
  errno = EAGAIN;
  fail("threads");
  return 0;
}

static void forget(pid_t id) {
  for (unsigned at = (unsigned)id % THREADS_MAX, tries = 0; tries < THREADS_MAX && threads[at] != 0;
       tries++, at = (at + 1) % THREADS_MAX)
    if (threads[at]->id == id) threads[at]->id = -1;
}

static int read_text(pid_t id, uint64_t from, char *into, size_t max) {
  size_t length = 0;
  while (length < max) {
    /* Not across pages: the next one may not be there. */
    size_t piece = 4096 - (size_t)((from + length) & 4095);
    if (piece > max - length) piece = max - length;
    struct iovec here = {into + length, piece}, there = {(void *)(uintptr_t)(from + length), piece};
    ssize_t got = process_vm_readv(id, &here, 1, &there, 1, 0);
    if (got <= 0) return 0;
    if (memchr(into + length, 0, (size_t)got) != 0) return 1;
    length += (size_t)got;
  }
  return 0;
}

/* An absolute path for what a call names; false when it names nothing but an open file. */
static int path_of(pid_t id, int folder, const char *name, char *into) {
  char link[64];
  if (name[0] == '/') {
    snprintf(into, PATH_MAX, "%s", name);
    return 1;
  }
  if (folder == AT_FDCWD) snprintf(link, sizeof link, "/proc/%d/cwd", (int)id);
  else snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)id, folder);
  ssize_t length = readlink(link, into, PATH_MAX - 1);
  if (length <= 0) return 0;
  into[length] = 0;
  if (name[0] == 0) return 1;
  if ((size_t)length + strlen(name) + 2 > PATH_MAX) fail("path");
  if (length > 1) into[length++] = '/';
  strcpy(into + length, name);
  return 1;
}

/* Without contents of their own. */
static int is_device(const char *path) {
  static const char *const fine[] = {"/dev/null", "/dev/urandom", "/dev/random", "/dev/tty"};
  for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++)
    if (strcmp(path, fine[i]) == 0) return 1;
  return 0;
}

static int is_special(const char *path) {
  return is_below(path, "/proc") || is_below(path, "/sys") || is_below(path, "/dev");
}

static void log_line(char letter, const char *path) {
  fprintf(log_file, "%c%s%c", letter, path, 0);
}

/* Before a call; whether its end matters too. */
static int enters(struct thread *thread, const struct call *call, const __u64 *args) {
  char name[PATH_MAX];
  if (log_file == 0 && thread->other) return 0;
  if (call->kind == NEVER) {
    if (armed) violated("call", call->number == SYS_socket ? "socket" : "unusual");
    return 0;
  }
  int folder = call->folder < 0 ? AT_FDCWD : (int)args[call->folder];
  if (call->number == SYS_readlinkat && folder == MARK) {
    char library[PATH_MAX];
    if (armed && read_text(thread->id, args[1], library, sizeof library) &&
        read_text(thread->id, args[2], name, sizeof name))
      asks_for(library, name);
    return 0;
  }
  if (call->kind == LIST) {
    if (log_file != 0 || !armed) return 0;
    if (!path_of(thread->id, folder, "", thread->path)) return 0;
    if (!is_own(thread->path)) violated("folder", thread->path);
    return 0;
  }
  /* Programs ask so whether a call exists at all. */
  if (args[call->path] == 0) return 0;
  if (!read_text(thread->id, args[call->path], name, sizeof name)) {
    if (armed) violated("call", "with a path that cannot be read");
    return 0;
  }
  if (log_file == 0 && !armed) {
    if (call->kind == OPEN && is_macro(name)) armed = 1;
    return 0;
  }
  if (name[0] == 0 || !path_of(thread->id, folder, name, thread->path)) return 0;
  if (log_file != 0) return 1;
  if (call->kind == EXEC && policy['p'].count == 0) violated("program", thread->path);
  if (is_device(thread->path)) return 0;
  if (is_special(thread->path)) violated("file", thread->path);
  uint64_t flags = 0;
  if (call->flags >= 0) flags = args[call->flags];
  if (call->flags == -2) {
    struct iovec here = {&flags, sizeof flags}, there = {(void *)(uintptr_t)args[2], sizeof flags};
    if (process_vm_readv(thread->id, &here, 1, &there, 1, 0) != sizeof flags) flags = O_RDWR;
  }
  int writes = call->kind == CHANGE || (flags & (O_ACCMODE | O_CREAT)) != 0;
  if (writes) {
    char whole[PATH_MAX];
    if (is_own(thread->path)) return 0;
    if (call->kind == CHANGE && is_above_own(thread->path)) return 0;
    if (!canonical(thread->path, whole) || !is_own(whole))
      violated("write", thread->path);
    return 0;
  }
  return 1;
}

static void leaves(struct thread *thread, const struct call *call, int64_t result) {
  static const int missing[] = {ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, EACCES, EPERM};
  int absent = 0;
  for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++)
    if (result == -missing[i]) absent = 1;
  if (log_file != 0) {
    if (absent) log_line('a', thread->path);
    else if (call->kind == EXEC) log_line('e', thread->path);
    else if ((call->kind == OPEN || call->kind == LOOK) && result >= 0)
      log_line('f', thread->path);
    return;
  }
  if (!absent) return;
  char whole[PATH_MAX];
  if (!canonical(thread->path, whole)) violated("file", thread->path);
  if (!is_own(whole) && !is_own(thread->path) && !known_absent(whole)) violated("file", whole);
}

static void resume(pid_t id, int how, int signal) {
  if (ptrace(how, id, 0, signal) < 0 && errno != ESRCH) fail("resume");
}

static void stopped(pid_t id, int status) {
  struct thread *thread = thread_of(id);
  int signal = WSTOPSIG(status), event = status >> 16;
  struct ptrace_syscall_info what;
  if (signal == SIGTRAP && event == PTRACE_EVENT_SECCOMP) {
    if (ptrace(PTRACE_GET_SYSCALL_INFO, id, sizeof what, &what) < 0) {
      if (errno == ESRCH) return;
      fail("what is called");
    }
    const struct call *call = 0;
    for (int i = 0; i < CALLS && call == 0; i++)
      if (calls[i].number == (long)what.seccomp.nr) call = &calls[i];
    if (call != 0 && enters(thread, call, what.seccomp.args)) {
      thread->during = call;
      return resume(id, PTRACE_SYSCALL, 0);
    }
    return resume(id, PTRACE_CONT, 0);
  }
  if (signal == (SIGTRAP | 0x80)) {
    if (thread->during == 0) return resume(id, PTRACE_CONT, 0);
    if (ptrace(PTRACE_GET_SYSCALL_INFO, id, sizeof what, &what) < 0) {
      if (errno == ESRCH) return;
      fail("what a call gave");
    }
    if (what.op != PTRACE_SYSCALL_INFO_EXIT) return resume(id, PTRACE_SYSCALL, 0);
    leaves(thread, thread->during, what.exit.rval);
    thread->during = 0;
    return resume(id, PTRACE_CONT, 0);
  }
  if (event == PTRACE_EVENT_EXEC && thread->during != 0) return resume(id, PTRACE_SYSCALL, 0);
  if (signal == SIGTRAP && event != 0) return resume(id, PTRACE_CONT, 0);
  if (signal == SIGSTOP && !thread->started) {
    thread->started = 1;
    if (log_file == 0 && thread->other && armed && policy['p'].count == 0)
      violated("program", "");
    return resume(id, PTRACE_CONT, 0);
  }
  resume(id, PTRACE_CONT, signal);
}

static void watch(int *code) {
  int status, main_status = 0;
  for (;;) {
    pid_t id = waitpid(-1, &status, __WALL);
    if (id < 0) {
      if (errno == EINTR) continue;
      break;
    }
    if (WIFSTOPPED(status)) {
      stopped(id, status);
      continue;
    }
    forget(id);
    if (id == command) main_status = status;
  }
  *code = WIFSIGNALED(main_status) ? 128 + WTERMSIG(main_status) : WEXITSTATUS(main_status);
}

/* ---- start ---- */

static void filter(void) {
  struct sock_filter code[CALLS + 6];
  int at = 0;
  code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
  code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
  code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
  code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (int i = 0; i < CALLS; i++)
    code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i].number,
                                              (unsigned char)(CALLS - i), 0);
  code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
  struct sock_fprog program = {(unsigned short)at, code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail("no new privileges");
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0) fail("filter");
}

static void preload(const char *self) {
  char library[PATH_MAX];
  ssize_t length = (ssize_t)strlen(self);
  while (length > 0 && self[length - 1] != '/') length--;
  snprintf(library, sizeof library, "%.*sgetenv.so", (int)length, self);
  setenv("LD_PRELOAD", library, 1);
}

int main(int count, char **words) {
  if (count < 5 || strcmp(words[3], "--") != 0) {
    dprintf(2, "usage: rust-trace log FILE|keep POLICY -- PROGRAM ARG...\n");
    return TOO_FAR;
  }
  int logs = strcmp(words[1], "log") == 0;
  if (logs) log_file = fopen(words[2], "we");
  else read_policy(words[2]);
  if (logs && log_file == 0) fail(words[2]);
  command = fork();
  if (command < 0) fail("fork");
  if (command == 0) {
    if (!logs) preload(words[0]);
    if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0) fail("tracing is not possible here");
    raise(SIGSTOP);
    filter();
    execvp(words[4], words + 4);
    fail(words[4]);
  }
  int status, code = TOO_FAR;
  if (waitpid(command, &status, __WALL) != command || !WIFSTOPPED(status)) fail("start");
  if (ptrace(PTRACE_SETOPTIONS, command, 0, TRACE_OPTIONS) < 0) fail("options");
  thread_of(command)->started = 1;
  resume(command, PTRACE_CONT, 0);
  watch(&code);
  if (log_file != 0 && fclose(log_file) != 0) fail("log");
  return code;
}
