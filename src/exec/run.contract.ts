/** What every tier with walls promises about how a command ends, and what it leaves. */
import { expect, test } from "vitest";
import { type GetWorld, inputsOf, processesWith, type Scripted } from "./sandbox-world.contract.ts";

export function endingContract(
  world: GetWorld,
  scripted: Scripted,
  roomsLeft: () => readonly string[],
): void {
  test("a command that takes too long ends with all its descendants", async () => {
    const script = "setsid sleep 86399.25 & setsid sh -c 'sleep 86399.25 & wait' & sleep 86399.25";
    await expect(world().run(scripted(script, { timeoutMs: 700 }))).rejects.toMatchObject({
      code: "deadline",
    });
    expect(processesWith("86399.25")).toEqual([]);
  });

  test("what a command leaves running ends when it does", async () => {
    const { exitCode } = await world().run(scripted("setsid sleep 86399.75 & exit 4"));
    expect(exitCode).toBe(4);
    await expect.poll(() => processesWith("86399.75")).toEqual([]);
  });

  test("an abort ends the command and rejects with its reason, and nothing stays", async () => {
    const controller = new AbortController();
    const reason = new Error("enough");
    const spec = scripted(`echo '{"artifact":"/mesh-work/o"}' >&2; setsid sleep 86399.5`, {
      outputPaths: ["/mesh-work/o"],
    });
    const onProgress = (): void => controller.abort(reason);
    await expect(world().run(spec, { signal: controller.signal, onProgress })).rejects.toBe(reason);
    await expect.poll(() => processesWith("86399.5")).toEqual([]);
    await expect.poll(roomsLeft).toEqual([]);
  });

  test("a room goes away, however deep or locked the folders that a command made", async () => {
    const script = `cd out; mkdir locked; touch locked/f; chmod 0 locked
      i=0; while [ $i -lt 60 ]; do n=${"d".repeat(200)}; mkdir $n && cd -P $n || exit 9; i=$((i+1)); done`;
    const ran = await world().run(scripted(script, { outputPaths: ["/mesh-work/out/o"] }));
    expect(ran.exitCode).toBe(0);
    await expect.poll(roomsLeft, { timeout: 10_000 }).toEqual([]);
  });
}

export function resultContract(world: GetWorld, scripted: Scripted): void {
  test.each([
    ["exit 0", 0],
    ["exit 3", 3],
    ["exit 127", 127],
    ["kill -9 $$", 137],
  ])("`%s` gives exit code %i", async (script, exitCode) => {
    expect((await world().run(scripted(script))).exitCode).toBe(exitCode);
  });

  test("a command that cannot be executed is the node's failure, not an exit code", async () => {
    await expect(world().run(scripted("", { argv: ["/bin/none"] }))).rejects.toMatchObject({
      code: "io",
      message: expect.stringMatching(/none/),
    });
    // The program is there, the interpreter that its libraries need is not.
    const [cat] = (await inputsOf(world().store, ["/usr/bin/cat"])).slice(-1);
    const lonely = { ...scripted("", { argv: ["/usr/bin/cat"] }), inputs: cat ? [cat] : [] };
    await expect(world().run(lonely)).rejects.toMatchObject({ code: "io" });
  });

  test("outputs come in the action's order, with their mode, and missing ones are left out", async () => {
    const outputPaths = ["/mesh-work/b", "/mesh-work/none", "/mesh-work/a"];
    const ran = await world().run(
      scripted("echo a > a; echo b > b; chmod 755 b; echo said; echo warned >&2", { outputPaths }),
    );
    expect(ran.outputs.map(({ path, executable }) => [path, executable])).toEqual([
      ["/mesh-work/b", true],
      ["/mesh-work/a", false],
    ]);
    expect([ran.out, ran.err]).toEqual(["said\n", "warned\n"]);
  });

  test.each([
    ["a symlink", "ln -s /etc/passwd o"],
    ["a folder", "mkdir o"],
    ["a pipe", "mkfifo o"],
  ])("an output that is %s is refused", async (_, script) => {
    await expect(
      world().run(scripted(script, { outputPaths: ["/mesh-work/o"] })),
    ).rejects.toMatchObject({ code: "refused" });
  });

  test("an announced output arrives while the command runs, with the text up to there", async () => {
    const script = `echo 'warning: x' >&2; echo rmeta > o.rmeta
      echo '{"artifact":"o.rmeta","emit":"metadata"}' >&2; echo after >&2
      while [ ! -e /proc/self/gone ]; do read line || break; done; sleep 0.2; echo late > o.rlib`;
    const early: { text: string; bytes: string }[] = [];
    const reads: Promise<void>[] = [];
    const ran = await world().run(
      scripted(script, { outputPaths: ["/mesh-work/o.rmeta", "/mesh-work/o.rlib"] }),
      {
        onProgress: ({ stderr, outputs }) => {
          const [output] = outputs;
          const text = new TextDecoder().decode(stderr);
          if (output !== undefined)
            reads.push(
              world()
                .read(output.digest)
                .then((bytes) => void early.push({ text, bytes })),
            );
        },
      },
    );
    await Promise.all(reads);
    const text = 'warning: x\n{"artifact":"o.rmeta","emit":"metadata"}\n';
    expect(early).toEqual([{ text, bytes: "rmeta\n" }]);
    expect(ran.err).toBe(`${text}after\n`);
    expect(ran.outputs).toHaveLength(2);
  });

  test("an output that changes after it was announced spoils the run", async () => {
    const script = `echo 1 > o; echo '{"artifact":"/mesh-work/o"}' >&2; sleep 0.3; echo 22 > o`;
    await expect(
      world().run(scripted(script, { outputPaths: ["/mesh-work/o"] })),
    ).rejects.toMatchObject({ code: "refused" });
  });

  test("an announced symlink to a file of this machine is not read", async () => {
    const script = `ln -s /etc/passwd o; echo '{"artifact":"/mesh-work/o"}' >&2; sleep 0.2`;
    const progress: unknown[] = [];
    await expect(
      world().run(scripted(script, { outputPaths: ["/mesh-work/o"] }), {
        onProgress: (got) => void progress.push(got),
      }),
    ).rejects.toMatchObject({ code: "refused" });
    expect(progress).toEqual([]);
  });
}
