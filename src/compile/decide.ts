/**
 * What becomes of one invocation before anybody runs it: an action with its identity, or the
 * reason why there is none. Reasons come in the order of what they cost to find.
 *
 * A plan is used again for as long as everything it was made from holds, which is one look at each
 * input instead of finding them all anew.
 */
import type { ActionSpec, EncodedAction } from "../action/action.ts";
import { createRecentMap } from "../base/bounded.ts";
import { utf8 } from "../base/bytes.ts";
import { type Digest, digestOf } from "../base/digest.ts";
import { isMeshError, messageOf } from "../base/errors.ts";
import type { Emit } from "../base/events.ts";
import { factsHold } from "../exec/facts.ts";
import type { FileView, Look } from "../exec/file-view.ts";
import type { Disk } from "../host/host.ts";
import {
  type CompilerFamily,
  colourArgs,
  compilerFamilyOf,
  glance,
  isCompilerWrapper,
} from "./compilers.ts";
import type { Planned } from "./course.ts";
import { whyNotPlaceable } from "./place.ts";
import type { ActionPlan, Planner } from "./plan.ts";
import type { ShimInvocation } from "./shim-server.ts";

export interface DecideDeps {
  readonly disk: Disk;
  readonly view: FileView;
  readonly emit: Emit;
  /** Undefined: invocations of this family are not planned here. */
  readonly plannerFor: (family: CompilerFamily, args: readonly string[]) => Planner | undefined;
  readonly encodeAction: (spec: ActionSpec) => EncodedAction;
}

export type Decide = (
  invocation: ShimInvocation,
  /** Set when a plan would be of no use: nothing is remembered, and nobody could take the task. */
  pointless: string | undefined,
  signal: AbortSignal,
) => Promise<Planned>;

/** Invocations whose plans are remembered; each weighs about 100 KiB. */
const plansMax = 1000;

export function createDecide(deps: DecideDeps): Decide {
  const { disk, view, encodeAction } = deps;
  // Real paths of compilers: one entry per name in the PATH, so a few.
  const realPaths = createRecentMap<string, string>(64);
  // A disk that fails does so for every file, and the user's terminal is no place to count them.
  const warned = createRecentMap<string, true>(256);
  const known = createRecentMap<Digest, Planned & { readonly at: "anywhere" }>(plansMax);
  const lookTogether = createSharedLook(view);

  function warnOnce({ build, compiler, args }: ShimInvocation, reason: string, why: unknown): void {
    const key = `${build}\0${reason}`;
    if (warned.get(key)) return;
    warned.set(key, true);
    const message = `${compiler} ${glance(compiler, args).label}: not planned: ${messageOf(why)}`;
    deps.emit({ event: "log", level: "warn", message });
  }

  async function isWrapper(compiler: string): Promise<boolean> {
    const real = realPaths.get(compiler) ?? (await disk.realPath(compiler)) ?? compiler;
    realPaths.set(compiler, real);
    return isCompilerWrapper(real);
  }

  function identify(plan: ActionPlan, colours: readonly string[]): Planned {
    const spec = coloured(plan.spec, colours);
    const { portable } = plan;
    return {
      ...{ ...plan, spec, action: encodeAction(spec) },
      ...(portable && { portableAction: encodeAction(coloured(portable.spec, colours)) }),
    };
  }

  async function plan(
    invocation: ShimInvocation,
    family: CompilerFamily,
    planner: Planner,
    signal: AbortSignal,
  ): Promise<Planned> {
    const { args } = invocation;
    // Rust plans learn from each other; a response file is part of the command line.
    const isRepeatable = family === "gcc" && !args.some((arg) => arg.startsWith("@"));
    const key = isRepeatable ? keyOf(invocation) : undefined;
    const before = key && known.get(key);
    // With nothing to wait for in between: this look is also that of others.
    if (before && factsHold(before.facts, await lookTogether())) return before;
    const made = await planner(invocation, signal);
    if (made.at === "here") return made;
    const planned = identify(made, coloursThere(invocation));
    if (key !== undefined && planned.at === "anywhere") known.set(key, planned);
    return planned;
  }

  return async (invocation, pointless, signal) => {
    const { compiler, args } = invocation;
    const here = (reason: string): Planned => ({ at: "here", reason, ...glance(compiler, args) });
    const family = compilerFamilyOf(compiler);
    // Rust units are read all the same, because later ones depend on what they were given.
    if (pointless !== undefined && (family !== "rustc" || pointless !== "slot-free"))
      return here(pointless);
    if (invocation.inexact) return here("not-utf8");
    if (family === undefined) return here("unknown-compiler");
    if (await isWrapper(compiler)) return here("compiler-wrapper");
    const planner = deps.plannerFor(family, args);
    if (planner === undefined) return here("unknown-compiler");
    try {
      const found = await plan(invocation, family, planner, signal);
      if (found.at === "here") return found;
      const trouble = whyNotPlaceable(disk, found.spec.outputPaths);
      if (trouble !== undefined) {
        return { at: "here", reason: trouble, kind: found.kind, label: found.label };
      }
      return found;
    } catch (error) {
      signal.throwIfAborted();
      const reason = isMeshError(error) ? error.code : "planner-failed";
      warnOnce(invocation, reason, error);
      return here(reason);
    }
  };
}

/**
 * One look for all who ask until every request that lies in the sockets now has been read. It begins
 * after the last of them came, so each sees what was there when it was called, or later; and a
 * header that many of them include is looked at once.
 */
function createSharedLook(view: FileView): () => Promise<Look> {
  let coming: Promise<Look> | undefined;
  return () => {
    coming ??= new Promise((resolve) => {
      setImmediate(() => {
        coming = undefined;
        resolve(view.look());
      });
    });
    return coming;
  };
}

/** Everything that a plan can depend on, apart from files. */
function keyOf(invocation: ShimInvocation): Digest {
  const { compiler, args, cwd, env } = invocation;
  const colours = coloursThere(invocation);
  const parts = [compiler, cwd, `${args.length}`, ...args, ...colours];
  for (const name of Object.keys(env).sort()) parts.push(`${name}=${env[name]}`);
  return digestOf(utf8(parts.join("\0")));
}

/** A compiler that writes to the terminal itself knows about colours. */
export function coloursHere(invocation: ShimInvocation, captured: boolean): readonly string[] {
  if (captured) return coloursThere(invocation);
  const { compiler, args, wantsColour, stderrIsTty } = invocation;
  return wantsColour && !stderrIsTty && compilerFamilyOf(compiler) === "gcc"
    ? colourArgs(args)
    : [];
}

/** A compiler whose output is captured never sees the terminal. */
function coloursThere(invocation: ShimInvocation): readonly string[] {
  const { compiler, args, env, wantsColour, stderrIsTty } = invocation;
  const onScreen = stderrIsTty && env.TERM !== undefined && env.TERM !== "dumb";
  return (wantsColour || onScreen) && compilerFamilyOf(compiler) === "gcc" ? colourArgs(args) : [];
}

function coloured(spec: ActionSpec, colours: readonly string[]): ActionSpec {
  const [compiler, ...args] = spec.argv;
  if (colours.length === 0 || compiler === undefined) return spec;
  return { ...spec, argv: [compiler, ...colours, ...args] };
}
