/**
 * rapport.ts: Rapport strategies in AssemblyScript, ABI 1 (see ../../ABI.md).
 *
 * A strategy is one entry file. It gives its manifest and a function that ranks,
 * and exports the rest from here:
 *
 *   import { Call, manifest, ranked } from "…/rapport";
 *   export { rapport_abi_1, rapport_arena, rapport_configure } from "…/rapport";
 *
 *   const described = manifest('{"abi":1,…}');
 *   export function rapport_describe(): u64 { return described; }
 *   export function rapport_rank(size: u32): u64 { return ranked(size, rank); }
 *   function rank(c: Call): void { … }
 *
 * and is built by asc with
 *
 *   --runtime stub --exportStart _initialize --use abort=…/rapport/abort
 *
 * Every call begins with the memory and the globals that the module had after it
 * was configured, so nothing need be freed: the runtime is the one that never
 * does, and what a call leaves in a variable is gone before the next.
 */

@external("rapport", "log")
declare function hostLog(level: i32, text: usize, size: i32): void;

const VERSION: u32 = 1;
const ALIGN: usize = 64;
const STATIC_MAGIC: u32 = 0x31535052;
const FRAME_MAGIC: u32 = 0x31465052;

/** Levels of the log. */
export const DEBUG: i32 = -4;
export const INFO: i32 = 0;
export const WARN: i32 = 4;
export const ERROR: i32 = 8;

/** Statuses of a call that failed. */
const BAD_STATIC: u32 = 1;
const BAD_FRAME: u32 = 2;

/**
 * Memory that a call may allocate without growing it, in pages of 64 KiB. An
 * instance that grew in a call is thrown away after it.
 */
const READY_PAGES: i32 = 16;

/** The static block, which the host writes before rapport_configure. */
@unmanaged
class Static {
  magic: u32; version: u32; headerSize: u32; size: u32;
  candidates: u32; parameters: u32; offerColumns: u32; channelColumns: u32;
  parametersAt: u32; offerAt: u32; offerPresenceAt: u32; channelAt: u32;
  channelPresenceAt: u32; stringsAt: u32; stringsSize: u32;
  frameAt: u32; frameCapacity: u32;
}

/** The call frame, which the host writes before each rapport_rank. */
@unmanaged
class Frame {
  magic: u32; version: u32; headerSize: u32; size: u32;
  candidates: u32; profile: u32; columns: u32; stringsSize: u32;
  now: i64; seed: u64;
  presenceAt: u32; cellsAt: u32; stringsAt: u32; indexAt: u32;
  columnsAt: u32; outputAt: u32; outputSize: u32;
  scoreAt: u32; reasonAt: u32; vetoAt: u32;
}

let arena: usize = 0;

/** What one call has to read, and where it writes. Valid until rank returns. */
@final
export class Call {
  private fixed: Static = changetype<Static>(0);
  private frame: Frame = changetype<Frame>(0);
  private base: usize = 0; // address of the frame

  /** How many candidates there are to rank. */
  get length(): i32 { return <i32>this.frame.candidates; }

  /** The time of the decision, in microseconds since 1970-01-01 UTC. */
  get now(): i64 { return this.frame.now; }

  /** The seed for all that is random in the decision. */
  get seed(): u64 { return this.frame.seed; }

  /** Parameter k, as declared. */
  parameter(k: i32): f64 { return load<f64>(arena + this.fixed.parametersAt + (k << 3)); }

  /** Whether the customer's profile field k is known. */
  known(k: i32): bool { return bit(this.base + this.frame.presenceAt, k); }

  /** Profile field k of type number; 0 if it is unknown. */
  number(k: i32): f64 { return load<f64>(this.profileCell(k)); }

  /** Profile field k of type flag; false if it is unknown. */
  flag(k: i32): bool { return load<u64>(this.profileCell(k)) != 0; }

  /** Profile field k of type time; 0 if it is unknown. */
  time(k: i32): i64 { return load<i64>(this.profileCell(k)); }

  /** Profile field k of type text; empty if it is unknown. Allocates. */
  text(k: i32): string { return textAt(this.profileCell(k), this.base + this.frame.stringsAt); }

  /** Which candidate of the scenario the one at position i is. */
  row(i: i32): i32 { return load<i32>(this.base + this.frame.indexAt + (i << 2)); }

  /** Declared candidate column k of the candidate at position i. */
  column(k: i32, i: i32): f64 {
    return load<f64>(this.base + this.frame.columnsAt + ((k * this.length + i) << 3));
  }

  /** Whether the offer at position i has attribute k. */
  offerHas(k: i32, i: i32): bool { return this.has(this.fixed.offerPresenceAt, k, i); }

  /** Attribute k of the offer at position i, by its declared type. */
  offerNumber(k: i32, i: i32): f64 { return load<f64>(this.cell(this.fixed.offerAt, k, i)); }
  offerFlag(k: i32, i: i32): bool { return load<u64>(this.cell(this.fixed.offerAt, k, i)) != 0; }
  offerText(k: i32, i: i32): string {
    return textAt(this.cell(this.fixed.offerAt, k, i), arena + this.fixed.stringsAt);
  }

  /** Whether the channel at position i has attribute k. */
  channelHas(k: i32, i: i32): bool { return this.has(this.fixed.channelPresenceAt, k, i); }

  /** Attribute k of the channel at position i, by its declared type. */
  channelNumber(k: i32, i: i32): f64 { return load<f64>(this.cell(this.fixed.channelAt, k, i)); }
  channelFlag(k: i32, i: i32): bool { return load<u64>(this.cell(this.fixed.channelAt, k, i)) != 0; }
  channelText(k: i32, i: i32): string {
    return textAt(this.cell(this.fixed.channelAt, k, i), arena + this.fixed.stringsAt);
  }

  /** Sets the score of the candidate at position i: finite, the greatest wins. */
  score(i: i32, score: f64): void { store<f64>(this.base + this.frame.scoreAt + (i << 3), score); }

  /** Sets its reason: 0, or a declared code, of which the first is 1. */
  because(i: i32, reason: u32): void { store<u32>(this.base + this.frame.reasonAt + (i << 2), reason); }

  /** Says that it is not to be offered. It needs a score all the same. */
  veto(i: i32): void {
    const word = this.base + this.frame.vetoAt + ((i >> 6) << 3);
    store<u64>(word, load<u64>(word) | (<u64>1 << (i & 63)));
  }

  /** Makes the call that of the frame of a size, or returns a status. */
  begin(size: u32): u32 {
    this.fixed = changetype<Static>(arena);
    this.base = arena + this.fixed.frameAt;
    this.frame = changetype<Frame>(this.base);
    const f = this.frame;
    return f.magic == FRAME_MAGIC && f.version == VERSION && f.size == size ? 0 : BAD_FRAME;
  }

  private profileCell(k: i32): usize { return this.base + this.frame.cellsAt + (k << 3); }

  private cell(at: u32, k: i32, i: i32): usize {
    return arena + at + ((k * <i32>this.fixed.candidates + this.row(i)) << 3);
  }

  private has(at: u32, k: i32, i: i32): bool {
    const words = (<i32>this.fixed.candidates + 63) >> 6;
    return bit(arena + at + ((k * words) << 3), this.row(i));
  }
}

function bit(bitmap: usize, i: i32): bool {
  return ((load<u64>(bitmap + ((i >> 6) << 3)) >> (i & 63)) & 1) != 0;
}

function textAt(cell: usize, pool: usize): string {
  return String.UTF8.decodeUnsafe(pool + load<u32>(cell), load<u32>(cell, 4));
}

/** Writes a line to the server's log. */
export function log(level: i32, line: string): void {
  const b = String.UTF8.encode(line);
  hostLog(level, changetype<usize>(b), b.byteLength);
}

/** For --use abort=…/rapport/abort: says what happened, and traps. */
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  const what = message !== null ? message : "abort";
  const where = file !== null ? file : "?";
  log(ERROR, `${what} (${where}:${line}:${column})`);
  unreachable();
}

let described: ArrayBuffer = new ArrayBuffer(0);

/** Makes what rapport_describe returns of a manifest in JSON. */
export function manifest(json: string): u64 {
  described = String.UTF8.encode(json);
  return (<u64>changetype<usize>(described) << 32) | <u64>described.byteLength;
}

const call = new Call();

/** What rapport_rank returns, after rank has ranked. */
export function ranked(size: u32, rank: (c: Call) => void): u64 {
  const status = call.begin(size);
  if (status != 0) return status;
  rank(call);
  return <u64>call.length << 32;
}

export function rapport_abi_1(): void {}

export function rapport_arena(size: u32): usize {
  arena = (heap.alloc(<usize>size + ALIGN) + ALIGN - 1) & ~(ALIGN - 1);
  return arena;
}

export function rapport_configure(at: usize, size: u32): u32 {
  const s = changetype<Static>(at);
  if (at != arena || size < offsetof<Static>()) return BAD_STATIC;
  memory.grow(READY_PAGES);
  return s.magic == STATIC_MAGIC && s.version == VERSION ? 0 : BAD_STATIC;
}
