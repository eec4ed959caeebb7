/**
 * Whom to tell that there is work: no more peers than there are tasks, those first that are known
 * to idle, and nobody twice who knows already.
 */
import type { PeerId } from "../base/ids.ts";
import { platformsOf } from "./capability.ts";
import type { Link } from "./control-link.ts";
import type { Peer } from "./directory.ts";

/** A peer that was told of work and has not come is told again after this long. */
const toldAgainMs = 2500;
/** An older hint that says busy proves nothing. */
const loadFreshMs = 1000;

/**
 * In the order of `links`, which is turned so that whoever was told last comes last.
 * @param platforms of the tasks that wait: who runs none of them has no use for a hint
 */
export function chooseToHint(
  links: Iterable<Link>,
  known: (peer: PeerId) => Peer | undefined,
  nowMs: number,
  countMax: number,
  platforms?: readonly string[],
): readonly Link[] {
  if (countMax <= 0) return [];
  const untold = [...links].filter(
    (link) => !isTold(link, nowMs) && canUse(known(link.peer), platforms),
  );
  const idle = untold.filter(({ peer }) => isIdle(known(peer)));
  if (idle.length >= countMax) return idle.slice(0, countMax);
  const maybe = untold.filter(({ peer }) => wasBusy(known(peer), nowMs));
  return [...idle, ...maybe].slice(0, countMax);
}

function canUse(peer: Peer | undefined, platforms: readonly string[] | undefined): boolean {
  if (peer === undefined || platforms === undefined) return true;
  return platformsOf(peer, "foreign").some((platform) => platforms.includes(platform));
}

function isTold(link: Link, nowMs: number): boolean {
  const { load, atMs } = link.told();
  return (load?.stealable ?? 0) > 0 && nowMs - atMs < toldAgainMs;
}

function isIdle(peer: Peer | undefined): boolean {
  return peer !== undefined && peer.slots > 0 && (peer.load?.busy ?? 0) < peer.slots;
}

/** It said that it is busy, and may have changed its mind since. */
function wasBusy(peer: Peer | undefined, nowMs: number): boolean {
  if (peer === undefined || peer.slots === 0 || isIdle(peer)) return false;
  return nowMs - (peer.load?.atMs ?? 0) > loadFreshMs;
}
