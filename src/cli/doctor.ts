/** `mesh doctor`: looks at this machine and the node, and says what to do about each problem. */

import { isMeshError, messageOf } from "../base/errors.ts";
import type { Check } from "../node/control-api.ts";
import { parseDoctorReply } from "../node/control-replies.ts";
import { ask } from "./client.ts";
import { machineChecks } from "./doctor-checks.ts";
import { oneLine } from "./exit.ts";
import { answerMaxMs } from "./status.ts";
import { countOf } from "./summary.ts";
import { type Paint, painter, type Terminal } from "./terminal.ts";

/** Exit code 1 when something fails; a warning costs speed or comfort only. */
export async function doctorCommand(
  dataDir: string,
  json: boolean,
  terminal: Terminal,
  env: NodeJS.ProcessEnv,
): Promise<number> {
  const fromNode = await nodeChecks(dataDir);
  const known = new Set(fromNode.map(({ name }) => name));
  const own = await machineChecks(dataDir, env, known);
  const checks = [...own, ...fromNode];
  const text = json
    ? `${JSON.stringify({ checks })}\n`
    : doctorText(checks, painter(terminal.outColor));
  terminal.out(text);
  return checks.some(({ level }) => level === "fail") ? 1 : 0;
}

/** What the node says of itself; that none runs is no fault. */
async function nodeChecks(dataDir: string): Promise<readonly Check[]> {
  try {
    return parseDoctorReply(await ask(dataDir, { call: "doctor" }, { silenceMs: answerMaxMs }));
  } catch (error) {
    if (!isMeshError(error)) throw error;
    if (error.code === "no-mesh") {
      return [{ name: "node", ok: true, level: "ok", message: `none is running for ${dataDir}` }];
    }
    const message = oneLine(messageOf(error));
    return [{ name: "node", ok: false, level: "fail", message, fix: "restart the node" }];
  }
}

export function doctorText(checks: readonly Check[], paint: Paint): string {
  const width = Math.max(...checks.map(({ name }) => name.length));
  const words = {
    ok: paint("green", "ok  "),
    warn: paint("yellow", "warn"),
    fail: paint("red", "FAIL"),
  };
  const lines = checks.flatMap(({ name, level, message, fix }) => {
    const line = `${words[level]}  ${name.padEnd(width)}  ${message}`;
    return fix === undefined || level === "ok"
      ? [line]
      : [line, `${" ".repeat(width + 8)}→ ${fix}`];
  });
  const failing = checks.filter(({ level }) => level === "fail").length;
  const warning = checks.filter(({ level }) => level === "warn").length;
  const verdict =
    failing + warning === 0
      ? "all is well"
      : `${countOf(failing, "problem")}, ${countOf(warning, "warning")}`;
  return `${lines.join("\n")}\n\n${verdict}\n`;
}
