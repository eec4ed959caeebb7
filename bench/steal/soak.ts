/**
 * Whether nodes hold on to anything: very many tasks that do nothing, through one owner in this
 * process and two thieves in theirs, and after every tenth of them what each process holds.
 *
 * Memory is read after forced collections. The first tenth warms up; the last must hold no more
 * than the second. Every second wave of tasks is stolen as a whole.
 */
import { createWorld, type LiveNode } from "../../chaos-tests/live/nodes.ts";
import type { OpenNode } from "../../src/node/open.ts";
import { atMost, type Bench, type BenchOptions, type Check, type Result, rowOf } from "../bench.ts";
import { createBareNoOps } from "../micro/wasm-tasks.ts";
import { holdSlot, inviteOf, openOwner, peersKnown } from "../owner.ts";
import { type Holdings, holdingsOf, ownHoldings, reporting } from "./memory.ts";

const thieves = 2;
/** A run of the benchmark is so many tasks. */
const tasksPerRun = 10_000;
const runsDefault = 10;
const tenths = 10;
const waveTasks = 1000;
/**
 * They come again and again, so that what a node remembers of results and lengths is full early: it
 * may hold 65,536 results, which are no leak but would look like one.
 */
const actions = 5000;
const growthMaxPercent = 5;
const MB = 1e6;

export const soak: Bench = {
  name: "soak",
  about: `memory and open files over ${tasksPerRun * runsDefault} tasks (--runs N: N × ${tasksPerRun})`,
  async run(options) {
    const world = await createWorld();
    let node: OpenNode | undefined;
    try {
      node = await openOwner(world, "owner", 1, options.signal);
      const held: Watched[] = [{ name: "owner", look: ownHoldings }];
      for (let at = 1; at <= thieves; at += 1) {
        const lives: number[] = [];
        const thief: LiveNode = await world.start({
          invite: inviteOf(node),
          slots: 1,
          env: reporting,
          onEvent: ({ event, liveBytes }) => {
            if (event === "memory") lives.push(Number(liveBytes));
          },
        });
        held.push({ name: `thief ${at}`, look: () => holdingsOf(thief, lives) });
      }
      await peersKnown(node, thieves);
      return await measure(node, held, options);
    } finally {
      await node?.stop();
      await world.close();
    }
  },
};

interface Watched {
  readonly name: string;
  look(): Promise<Holdings>;
}

async function measure(
  node: OpenNode,
  watched: readonly Watched[],
  { runs = runsDefault, say, signal }: BenchOptions,
): Promise<Result> {
  const make = await createBareNoOps(node);
  const total = runs * tasksPerRun;
  const looks = watched.map((): Holdings[] => []);
  const rates: number[] = [];
  let made = 0;
  let stolen = 0;
  for (let tenth = 1; tenth <= tenths; tenth += 1) {
    const from = made;
    const startMs = performance.now();
    for (let wave = 0; made < (total * tenth) / tenths; wave += 1) {
      signal.throwIfAborted();
      const free = wave % 2 === 1 ? await holdSlot(node) : () => {};
      const tasks = Array.from({ length: waveTasks }, () => ({
        ...make(++made % actions),
        fresh: true,
      }));
      const outcomes = await Promise.all(tasks.map((task) => node.owner.submit(task, signal)));
      stolen += outcomes.filter(({ source }) => source === "there").length;
      free();
    }
    rates.push(((made - from) / (performance.now() - startMs)) * 1000);
    for (const [at, { look }] of watched.entries()) looks[at]?.push(await look());
    const now = looks.map((seen) => shortly(seen.at(-1)));
    say(`${made} tasks, ${Math.round(rates.at(-1) ?? 0)}/s: ${now.join(", ")}`);
  }
  const rows = watched.flatMap(({ name }, at) => {
    const seen = looks[at] ?? [];
    return [
      rowOf(
        `${name}: memory`,
        "MB",
        seen.map(({ rssBytes }) => rssBytes / MB),
      ),
      rowOf(
        `${name}: live objects and buffers`,
        "MB",
        seen.map(({ liveBytes }) => liveBytes / MB),
      ),
      rowOf(
        `${name}: open files`,
        "",
        seen.map(({ files }) => files),
      ),
    ];
  });
  return {
    rows: [rowOf("tasks", "per s", rates), ...rows],
    checks: watched.flatMap(({ name }, at) => growthOf(name, looks[at] ?? [])),
    notes: [
      `${made} tasks, ${stolen} of them stolen; each row has one value after every tenth`,
      "growth is from the second tenth to the last",
    ],
  };
}

function growthOf(name: string, looks: readonly Holdings[]): readonly Check[] {
  const [second, last] = [looks[1], looks.at(-1)];
  if (second === undefined || last === undefined) throw new Error("too few looks");
  const growth = (from: number, to: number) => (to / from - 1) * 100;
  const rss = growth(second.rssBytes, last.rssBytes);
  const live = growth(second.liveBytes, last.liveBytes);
  const files = growth(second.files, last.files);
  return [
    atMost(`${name}: growth of its memory`, rss, growthMaxPercent, "%"),
    atMost(`${name}: growth of what is live`, live, growthMaxPercent, "%"),
    atMost(`${name}: growth of its open files`, files, growthMaxPercent, "%"),
  ];
}

function shortly(holdings: Holdings | undefined): string {
  if (holdings === undefined) return "";
  const { rssBytes, liveBytes, files } = holdings;
  return `${Math.round(rssBytes / MB)} MB (live ${(liveBytes / MB).toFixed(1)}), ${files} files`;
}
