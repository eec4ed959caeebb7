/**
 * One machine on the simulated network: its Network port.
 *
 * How long anything takes, and whether it arrives, the wires decide.
 */
import { MeshError } from "../base/errors.ts";
import { asPeerId, type PeerId } from "../base/ids.ts";
import type { Network, PeerChange, Stream } from "../host/host.ts";
import { pairOf } from "./network.ts";
import type { SeededRandom } from "./random.ts";
import { createStreamPair, type Line, type StreamSide } from "./stream.ts";
import type { Machine, Timeline } from "./time.ts";
