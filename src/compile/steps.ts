/**
 * Takes each step of a command that is made of several through its own course, as if it were a
 * command by itself whose output nobody sees yet.
 */
import type { ActionSpec, EncodedAction } from "../action/action.ts";
import { concatBytes } from "../base/bytes.ts";
import type { Clock } from "../host/host.ts";
import type { Course, CourseEnd, CourseOptions, RunInPlace, Work } from "./course.ts";
import { createDelivery, type DeliveryDeps } from "./delivery.ts";
import type { NvccStep, RunStep, StepEnd } from "./nvcc-run.ts";
import { whyNotPlaceable } from "./place.ts";

export interface StepsDeps extends DeliveryDeps {
  readonly course: Course;
  readonly clock: Clock;
  readonly encodeAction: (spec: ActionSpec) => EncodedAction;
}

/** What all steps of one command have in common. */
export interface StepsOf {
  readonly build: string;
  readonly cwd: string;
  readonly umask: number;
  readonly options: CourseOptions;
  readonly arrivedWallMs: number;
  /** Asked anew for each step: a slot may have come free meanwhile. */
  readonly whyHere: () => string | undefined;
  readonly onEnd: (end: CourseEnd) => void;
}

export function createStepRunner(deps: StepsDeps, of: StepsOf): RunStep {
  return async (step, signal) => {
    const { plan, whole } = step;
    const said = { exitCode: 0, stdout: noBytes, stderr: noBytes };
    const link = createEar(said);
    const { spec } = plan.at === "anywhere" ? plan : { spec: undefined };
    const trouble = spec && whyNotPlaceable(deps.disk, spec.outputPaths);
    const work: Work = {
      ...{ build: of.build, cwd: of.cwd, arrivedWallMs: of.arrivedWallMs },
      // Its parts are compared; the whole may differ in what nobody can predict.
      options: whole ? { ...of.options, compare: false } : of.options,
      ...{ planMs: 0, whole, whyHere: of.whyHere(), release() {} },
      plan:
        plan.at === "here" || trouble !== undefined
          ? {
              at: "here",
              kind: plan.kind,
              label: plan.label,
              reason: reasonOf(step) ?? trouble ?? "",
            }
          : { ...plan, action: deps.encodeAction(plan.spec) },
      delivery:
        plan.at === "anywhere" && trouble === undefined
          ? createDelivery(deps, plan, of.umask, link, signal)
          : undefined,
      runHere: async (_, __, during) => runOf(await step.runHere(during), said),
    };
    const end = await deps.course.run(work, signal);
    // The parts of a whole are counted by themselves.
    if (!whole || end.source !== "here") of.onEnd(end);
    return said;
  };
}

const noBytes = new Uint8Array(0);

function reasonOf({ plan }: NvccStep): string | undefined {
  return plan.at === "here" ? plan.reason : undefined;
}

interface Said {
  exitCode: number;
  stdout: Uint8Array;
  stderr: Uint8Array;
}

function runOf({ exitCode, stdout, stderr }: StepEnd, said: Said): RunInPlace {
  Object.assign(said, { exitCode, stdout, stderr });
  return { exitCode, output: { stdout, stderr } };
}

/** Takes in what a delivery says to a shim. */
function createEar(said: Said): Parameters<typeof createDelivery>[3] {
  return {
    write(fd, bytes) {
      const stream = fd === 1 ? "stdout" : "stderr";
      said[stream] = concatBytes([said[stream], bytes]);
    },
    async exit(code, stdout, stderr) {
      said.exitCode = code;
      said.stdout = concatBytes([said.stdout, stdout]);
      said.stderr = concatBytes([said.stderr, stderr]);
    },
  };
}
