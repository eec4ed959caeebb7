/**
 * An assembler that sleeps and then is the real one, so that compiles of the real compiler hold
 * their slot without needing CPU.
 *
 * A compiler that were a script, or a program that starts the real one by its path, would be seen
 * through: it is no compiler, or what it starts is not among the inputs of a sandbox. So this one
 * carries the real assembler's bytes in itself and runs them from memory, and names the same shared
 * libraries, which makes them inputs.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { timed } from "../command.ts";

const source = `
#define _GNU_SOURCE
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
extern char begin[], end[];
__asm__(".section .rodata\\n.global begin\\nbegin: .incbin REAL\\n.global end\\nend: .byte 0\\n.text\\n");
int main(int argc, char **argv, char **env) {
  struct timespec pause = { SLEEP_MS / 1000, SLEEP_MS % 1000 * 1000000L };
  int fd = memfd_create("as", 0);
  (void)argc;
  nanosleep(&pause, 0);
  for (char *at = begin; at < end;) {
    long written = write(fd, at, end - at);
    if (written <= 0) return 1;
    at += written;
  }
  fexecve(fd, argv, env);
  return 1;
}
`;

/** Makes FOLDER/as. Gives back why that is not possible. */
export async function buildSlowAssembler(
  folder: string,
  sleepMs: number,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    const real = await timed(["gcc", "-print-prog-name=as"], { cwd: folder }, signal);
    const named = real.stdout.trim();
    if (named.includes("/"))
      return `gcc does not look for its assembler in PATH, but takes ${named}`;
    const path = (
      await timed(["sh", "-c", `command -v ${named}`], { cwd: folder }, signal)
    ).stdout.trim();
    const loaded = await timed(["ldd", path], { cwd: folder }, signal);
    const libraries = [...loaded.stdout.matchAll(/=> (\/\S+)/g)].map(([, library = ""]) => library);
    const text = source.replace("REAL", `\\"${path}\\"`).replaceAll("SLEEP_MS", String(sleepMs));
    writeFileSync(join(folder, "as.c"), text);
    const command = [
      "gcc",
      "-O1",
      "-o",
      join(folder, "as"),
      "as.c",
      "-Wl,--no-as-needed",
      ...libraries,
    ];
    await timed(command, { cwd: folder }, signal);
    return undefined;
  } catch (error) {
    signal.throwIfAborted();
    return error instanceof Error ? error.message : String(error);
  }
}
