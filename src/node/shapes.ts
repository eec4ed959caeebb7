/**
 * Readers of JSON values with a known shape, for the control socket.
 *
 * Twenty lines do what is needed here; a schema library costs every command of the user 60 ms to
 * load. A reader copies what it knows and leaves out the rest.
 */
import { isMeshError, MeshError } from "../base/errors.ts";

/** @throws MeshError "malformed" that begins with `at`, the place in the value. */
export type Read<T> = (value: unknown, at: string) => T;

export type Shape<T> = { readonly [K in keyof T]-?: Read<T[K]> };

export function object<T extends object>(shape: Shape<T>): Read<T> {
  const names = Object.keys(shape) as (keyof T & string)[];
  return (value, at) => {
    if (!isObject(value)) throw wrong(at, "an object");
    const read: Partial<T> = {};
    for (const name of names)
      read[name] = shape[name](value[name], at === "" ? name : `${at}.${name}`);
    return read as T;
  };
}

/** Objects told apart by the text under one name. */
export function union<T extends object>(
  name: string,
  options: Readonly<Record<string, Read<T>>>,
): Read<T> {
  return (value, at) => {
    const tag = isObject(value) ? value[name] : undefined;
    const read = typeof tag === "string" && Object.hasOwn(options, tag) ? options[tag] : undefined;
    if (read === undefined) throw wrong(at === "" ? name : `${at}.${name}`, "a known name");
    return read(value, at);
  };
}

export function array<T>(item: Read<T>): Read<readonly T[]> {
  return (value, at) => {
    if (!Array.isArray(value)) throw wrong(at, "a list");
    return value.map((one: unknown, index) => item(one, `${at}.${index}`));
  };
}

export function record<T>(item: Read<T>): Read<Readonly<Record<string, T>>> {
  return (value, at) => {
    if (!isObject(value)) throw wrong(at, "an object");
    const entries = Object.entries(value).map(([name, one]) => [name, item(one, `${at}.${name}`)]);
    return Object.fromEntries(entries) as Record<string, T>;
  };
}

export function oneOf<const T extends string | boolean>(...values: readonly T[]): Read<T> {
  return (value, at) => {
    const found = values.find((one) => one === value);
    if (found === undefined) throw wrong(at, values.map((one) => JSON.stringify(one)).join(" or "));
    return found;
  };
}

export function optional<T>(read: Read<T>): Read<T | undefined> {
  return (value, at) => (value === undefined ? undefined : read(value, at));
}

export function orNull<T>(read: Read<T>): Read<T | null> {
  return (value, at) => (value === null ? null : read(value, at));
}

export function map<T, U>(read: Read<T>, change: (value: T) => U): Read<U> {
  return (value, at) => change(read(value, at));
}

export function text(maxChars: number): Read<string> {
  return (value, at) => {
    if (typeof value !== "string" || value.length > maxChars) {
      throw wrong(at, `text of at most ${maxChars} characters`);
    }
    return value;
  };
}

export function whole(min: number, max: number = Number.MAX_SAFE_INTEGER): Read<number> {
  return (value, at) => {
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < min || value > max) {
      throw wrong(at, `a whole number from ${min} to ${max}`);
    }
    return value;
  };
}

export const number: Read<number> = (value, at) => {
  if (typeof value !== "number" || !Number.isFinite(value)) throw wrong(at, "a number");
  return value;
};

export const boolean: Read<boolean> = (value, at) => {
  if (typeof value !== "boolean") throw wrong(at, "true or false");
  return value;
};

export const anything: Read<unknown> = (value) => value;

export const absolutePath: Read<string> = (value, at) => {
  if (typeof value !== "string" || value.length > 65_536 || !value.startsWith("/")) {
    throw wrong(at, "an absolute path");
  }
  return value;
};

/** @throws MeshError "malformed" that says what was read. */
export function checked<T>(read: Read<T>, value: unknown, what: string): T {
  try {
    return read(value, "");
  } catch (error) {
    if (isMeshError(error, "malformed")) throw malformed(what, error.message);
    throw error;
  }
}

export function malformed(what: string, why: string): MeshError {
  return new MeshError("malformed", `malformed ${what}: ${why}`);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function wrong(at: string, wanted: string): MeshError {
  return new MeshError("malformed", `${at === "" ? "it" : at} has to be ${wanted}`);
}
