/**
 * rapport.ts: Rapport strategies in AssemblyScript, ABI 1. README.md, in the folder
 * above, says how a strategy is written and built; example/spenders.ts is one.
 *
 * A strategy is one entry file. It declares what it reads and gives, each once, by
 * calls at top level, gives a function that ranks, and exports what the server calls:
 *
 *   import { Decision, name, number, offerNumber, propensity, rank } from "…/rapport";
 *   export { rapport_abi_1, rapport_arena, rapport_configure, rapport_describe, rapport_rank } from "…/rapport";
 *
 *   name("spenders", "1.0.0", "Dear offers to those who spend.");
 *   const arpu = number("value.arpu");
 *   const price = offerNumber("price");
 *   const chance = propensity();
 *
 *   rank((d: Decision): void => {
 *     const spend = arpu.or(d, 0);
 *     for (let i = 0; i < d.length; i++) {
 *       d.score(i, chance.of(d, i) * Math.min(price.or(d, i, 0), spend));
 *     }
 *   });
 *
 * Every call begins with the memory and the globals that the module had after it
 * was configured, so nothing need be freed: the runtime is the one that never
 * does, and what a call leaves in a variable is gone before the next.
 */

@external("rapport", "log")
declare function hostLog(level: i32, text: usize, size: i32): void;

@external("wasi_snapshot_preview1", "fd_write")
declare function hostWrite(descriptor: i32, pieces: usize, count: i32, written: usize): i32;

const VERSION: u32 = 1;
const ALIGN: usize = 64;
const STATIC_MAGIC: u32 = 0x31535052;
const FRAME_MAGIC: u32 = 0x31465052;
const SEPARATOR: u8 = 0x3b; // between the elements of a set

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

/** The static block, which the host writes before rapport_configure: see ABI.md. */
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
  scoreAt: u32; reasonAt: u32; vetoAt: u32; chanceAt: u32;
}

let arena: usize = 0; // and the static block at its beginning
let frameAt: usize = 0;

// ---- what a strategy declares ------------------------------------------------

/** A list of the manifest: what is in it, and its JSON. */
@final
class List {
  keys: string[] = [];
  kinds: string[] = [];
  items: string[] = [];

  /** Adds an item, unless it is there, and returns its place. */
  add(what: string, key: string, kind: string, item: string): i32 {
    for (let i = 0; i < this.keys.length; i++) {
      if (this.keys[i] != key) continue;
      if (this.kinds[i] != kind) mistakes.push(`${what} ${key} is declared as ${this.kinds[i]} and as ${kind}`);
      return i;
    }
    this.keys.push(key);
    this.kinds.push(kind);
    this.items.push(item);
    return this.keys.length - 1;
  }

  input(what: string, key: string, kind: string): i32 {
    return this.add(what, key, kind, `{"name":${quote(key)},"type":"${kind}"}`);
  }

  get length(): u32 { return this.keys.length; }
}

const mistakes: string[] = [];
const profile = new List();
const offer = new List();
const channel = new List();
const candidate = new List();
const parameters = new List();
const reasons = new List();
let named: string = "";
let probability: bool = false;
let fuel: string = "";
let ranker: ((d: Decision) => void) | null = null;

function quote(text: string): string {
  let s = '"';
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c < 32) s += "\\u00" + (c < 16 ? "0" : "") + c.toString(16);
    else if (c == 0x22 || c == 0x5c) s += "\\" + text.charAt(i);
    else s += text.charAt(i);
  }
  return s + '"';
}

/** Names the strategy and its version, and says for people what it does. */
export function name(name: string, version: string, description: string): void {
  if (named != "") mistakes.push("name is called twice");
  named = `"abi":1,"name":${quote(name)},"version":${quote(version)},"description":${quote(description)}`;
}

/**
 * Sets the function that ranks. It is called once for each decision and scores every
 * candidate.
 */
export function rank(f: (d: Decision) => void): void {
  if (ranker !== null) mistakes.push("rank is called twice");
  ranker = f;
}

/** Declares that the strategy says with which probability it chose: see Decision.chance. */
export function saysChances(): void { probability = true; }

/**
 * Says how much fuel, about a unit an instruction, is enough: base for a call, and
 * perCandidate for each candidate. Without it the server's limit is all there is.
 */
export function budget(base: i64, perCandidate: i64): void {
  if (fuel != "") mistakes.push("budget is called twice");
  fuel = `,"fuel":{"base":${base.toString()},"per_candidate":${perCandidate.toString()}}`;
}

/** A profile field of type number or counter, or a number of the request's context. */
export function number(name: string): NumberField { return new NumberField(profile.input("profile field", name, "number")); }
/** A profile field of type flag. */
export function flag(name: string): FlagField { return new FlagField(profile.input("profile field", name, "flag")); }
/** A profile field of type text. */
export function text(name: string): TextField { return new TextField(profile.input("profile field", name, "text")); }
/** A profile field of type time. */
export function time(name: string): TimeField { return new TimeField(profile.input("profile field", name, "time")); }
/** A profile field of type set. */
export function set(name: string): SetField { return new SetField(profile.input("profile field", name, "set")); }

/** A number that offers have, such as price; value is always there. */
export function offerNumber(name: string): NumberAttribute { return new NumberAttribute(true, offer.input("offer attribute", name, "number")); }
/** A flag that offers have. */
export function offerFlag(name: string): FlagAttribute { return new FlagAttribute(true, offer.input("offer attribute", name, "flag")); }
/** A text that offers have. */
export function offerText(name: string): TextAttribute { return new TextAttribute(true, offer.input("offer attribute", name, "text")); }
/** A number that channels have; cost is always there. */
export function channelNumber(name: string): NumberAttribute { return new NumberAttribute(false, channel.input("channel attribute", name, "number")); }
/** A flag that channels have. */
export function channelFlag(name: string): FlagAttribute { return new FlagAttribute(false, channel.input("channel attribute", name, "flag")); }
/** A text that channels have. */
export function channelText(name: string): TextAttribute { return new TextAttribute(false, channel.input("channel attribute", name, "text")); }

function column(name: string): Column { return new Column(candidate.add("candidate column", name, "", quote(name))); }

/** The probability that the customer accepts. */
export function propensity(): Column { return column("propensity"); }
/** What an acceptance is worth. */
export function value(): Column { return column("value"); }
/** The context weight of the offer's group in the scenario. */
export function weight(): Column { return column("weight"); }
/** The lift by the business, 1 for none. */
export function lever(): Column { return column("lever"); }

/**
 * How often something came of the candidate's offer before, in whatever channel: an
 * outcome such as rejected, or contact for each time that it was shown. It looks back so
 * many days, at most 400; 0: as far as the server remembers.
 */
export function times(outcome: string, days: i32 = 0): Column {
  if (days < 0 || days > 400) mistakes.push(`times of ${outcome}: at most 400 days are remembered`);
  return column(days > 0 ? `times.${outcome}.${days}d` : `times.${outcome}`);
}

/**
 * How many days ago something last came of the candidate's offer, with fractions; −1 if
 * it never did.
 */
export function daysSince(outcome: string): Column { return column(`days_since.${outcome}`); }

/**
 * A number that a scenario may set: the value that it has where the scenario sets none,
 * and the least and greatest that it may have.
 */
export function parameter(name: string, standard: f64, least: f64, greatest: f64): Parameter {
  if (!(least <= standard && standard <= greatest) || !isFinite(least) || !isFinite(greatest)) {
    mistakes.push(`the default of parameter ${name} is not within its bounds`);
  }
  const before = parameters.length;
  const place = parameters.add("parameter", name, "",
    `{"name":${quote(name)},"default":${standard.toString()},"min":${least.toString()},"max":${greatest.toString()}}`);
  if (<u32>place < before) mistakes.push(`parameter ${name} is declared twice`);
  return new Parameter(place);
}

/** A reason, such as HIGH_ARPU: capital letters, digits and _. */
export function reason(name: string): u32 { return reasons.add("reason", name, "", quote(name)) + 1; }

// ---- what is read --------------------------------------------------------------

function bit(bitmap: usize, i: i32): bool {
  return ((load<u64>(bitmap + ((i >> 6) << 3)) >> (i & 63)) & 1) != 0;
}

/** Where a text is. */
function textAt(cell: usize, pool: usize): usize { return pool + load<u32>(cell); }
function sizeAt(cell: usize): usize { return load<u32>(cell, 4); }

/** A field of the customer's profile, or of the request's context. */
class Field {
  constructor(protected place: i32) {}

  /** Whether its value is known. */
  known(d: Decision): bool { return bit(frameAt + d.frame.presenceAt, this.place); }

  protected cell(d: Decision): usize { return frameAt + d.frame.cellsAt + (this.place << 3); }
}

@final
export class NumberField extends Field {
  /** The value, or the given one if it is unknown. */
  or(d: Decision, unknown: f64): f64 { return this.known(d) ? load<f64>(this.cell(d)) : unknown; }
}

@final
export class FlagField extends Field {
  /** The value, or the given one if it is unknown. */
  or(d: Decision, unknown: bool): bool { return this.known(d) ? load<u64>(this.cell(d)) != 0 : unknown; }
}

@final
export class TextField extends Field {
  /** The value, or the given one if it is unknown. Allocates. */
  or(d: Decision, unknown: string): string {
    if (!this.known(d)) return unknown;
    const cell = this.cell(d);
    return String.UTF8.decodeUnsafe(textAt(cell, frameAt + d.frame.stringsAt), sizeAt(cell));
  }
}

@final
export class TimeField extends Field {
  /** The value, in microseconds since 1970-01-01 UTC, or the given one if it is unknown. */
  or(d: Decision, unknown: i64): i64 { return this.known(d) ? load<i64>(this.cell(d)) : unknown; }
}

@final
export class SetField extends Field {
  /** Whether an element is in the set; it is not in one that is unknown. Allocates. */
  has(d: Decision, element: string): bool {
    const wanted = String.UTF8.encode(element);
    return find(this.begin(d), this.size(d), changetype<usize>(wanted), wanted.byteLength);
  }

  /** How many elements the set has, 0 if it is unknown. */
  len(d: Decision): i32 {
    let n = 0;
    for (let at = this.begin(d), end = at + this.size(d); at < end; n++) at = elementEnd(at, end) + 1;
    return n;
  }

  /** The elements, in ascending order of their bytes; none if it is unknown. Allocates. */
  all(d: Decision): string[] {
    const list: string[] = [];
    for (let at = this.begin(d), end = at + this.size(d); at < end;) {
      const stop = elementEnd(at, end);
      list.push(String.UTF8.decodeUnsafe(at, stop - at));
      at = stop + 1;
    }
    return list;
  }

  private begin(d: Decision): usize { return textAt(this.cell(d), frameAt + d.frame.stringsAt); }
  private size(d: Decision): usize { return sizeAt(this.cell(d)); }
}

/**
 * Whether an element is among those of a set, which are in ascending order: looks in the
 * middle until little is left, and then through that.
 */
function find(all: usize, size: usize, element: usize, length: usize): bool {
  const end = all + size;
  let low = all, high = end;
  while (low + 64 < high) {
    let at = low + ((high - low) >> 1);
    while (at > low && load<u8>(at - 1) != SEPARATOR) at--;
    let i: usize = 0;
    while (i < length && at + i < end && load<u8>(at + i) != SEPARATOR && load<u8>(at + i) == load<u8>(element + i)) i++;
    const over = at + i == end || load<u8>(at + i) == SEPARATOR;
    if (i == length && over) return true;
    if (i == length || (!over && load<u8>(at + i) > load<u8>(element + i))) high = at;
    else low = elementEnd(at + i, end) + 1;
  }
  while (low < high) {
    const stop = elementEnd(low, end);
    if (stop - low == length && memory.compare(low, element, length) == 0) return true;
    low = stop + 1;
  }
  return false;
}

function elementEnd(at: usize, end: usize): usize {
  while (at < end && load<u8>(at) != SEPARATOR) at++;
  return at;
}

/** An attribute of offers or of channels. */
class Attribute {
  constructor(protected offers: bool, protected place: i32) {}

  /** Whether the offer or channel of the candidate at position i has it. */
  known(d: Decision, i: i32): bool {
    const words = (<i32>d.fixed.candidates + 63) >> 6;
    const at = this.offers ? d.fixed.offerPresenceAt : d.fixed.channelPresenceAt;
    return bit(arena + at + ((this.place * words) << 3), d.row(i));
  }

  protected cell(d: Decision, i: i32): usize {
    const at = this.offers ? d.fixed.offerAt : d.fixed.channelAt;
    return arena + at + ((this.place * <i32>d.fixed.candidates + d.row(i)) << 3);
  }
}

@final
export class NumberAttribute extends Attribute {
  /** The number of the candidate at position i, or the given one if there is none. */
  or(d: Decision, i: i32, unknown: f64): f64 { return this.known(d, i) ? load<f64>(this.cell(d, i)) : unknown; }
}

@final
export class FlagAttribute extends Attribute {
  /** The flag of the candidate at position i, or the given one if there is none. */
  or(d: Decision, i: i32, unknown: bool): bool { return this.known(d, i) ? load<u64>(this.cell(d, i)) != 0 : unknown; }
}

@final
export class TextAttribute extends Attribute {
  /** The text of the candidate at position i, or the given one if there is none. Allocates. */
  or(d: Decision, i: i32, unknown: string): string {
    if (!this.known(d, i)) return unknown;
    const cell = this.cell(d, i);
    return String.UTF8.decodeUnsafe(textAt(cell, arena + d.fixed.stringsAt), sizeAt(cell));
  }
}

/** A number that every candidate has in this decision. */
@final
export class Column {
  constructor(private place: i32) {}

  /** The number of the candidate at position i. */
  of(d: Decision, i: i32): f64 {
    return load<f64>(frameAt + d.frame.columnsAt + ((this.place * d.length + i) << 3));
  }
}

@final
export class Parameter {
  constructor(private place: i32) {}

  /** The parameter's value. */
  of(d: Decision): f64 { return load<f64>(arena + d.fixed.parametersAt + (this.place << 3)); }
}

/**
 * One decision: a customer, a moment, and the candidates to rank. A candidate is an offer
 * in a channel, and goes by its position, from 0 to below length. Valid until the ranking
 * function returns.
 */
@final
export class Decision {
  /** The blocks of ABI.md. */
  fixed: Static = changetype<Static>(0);
  frame: Frame = changetype<Frame>(0);

  /** The decision's random numbers: the same when it is replayed. */
  rand: Rand = new Rand();

  /** How many candidates there are. */
  get length(): i32 { return <i32>this.frame.candidates; }

  /** The time of the decision, in microseconds since 1970-01-01 UTC. */
  get now(): i64 { return this.frame.now; }

  /** Which candidate of the scenario the one at position i is. */
  row(i: i32): i32 { return load<i32>(frameAt + this.frame.indexAt + (i << 2)); }

  /** Sets the score of the candidate at position i: finite; the greatest wins. */
  score(i: i32, score: f64): void { store<f64>(frameAt + this.frame.scoreAt + (i << 3), score); }

  /** Sets the reason for it; the last one set counts. */
  because(i: i32, reason: u32): void { store<u32>(frameAt + this.frame.reasonAt + (i << 2), reason); }

  /**
   * Says with which probability, above 0 and at most 1, the strategy's own draws put the
   * candidate where it is. Declare it with saysChances.
   */
  chance(i: i32, p: f64): void {
    if (this.frame.chanceAt == 0) throw new Error("declare chances with saysChances");
    store<f64>(frameAt + this.frame.chanceAt + (i << 3), p);
  }

  /** Says that it is not to be offered. It needs no score. */
  veto(i: i32): void {
    const word = frameAt + this.frame.vetoAt + ((i >> 6) << 3);
    store<u64>(word, load<u64>(word) | (<u64>1 << (i & 63)));
    const score = load<f64>(frameAt + this.frame.scoreAt + (i << 3));
    if (score != score) this.score(i, 0);
  }

  /** Begins the call of a frame, or returns a status. */
  begin(size: u32): u32 {
    this.fixed = changetype<Static>(arena);
    frameAt = arena + this.fixed.frameAt;
    this.frame = changetype<Frame>(frameAt);
    const f = this.frame;
    this.rand.seed(f.seed);
    return f.magic == FRAME_MAGIC && f.version == VERSION && f.size == size && f.profile == profile.length &&
      f.columns == candidate.length && (f.chanceAt != 0) == probability ? 0 : BAD_FRAME;
  }
}

// ---- the same in all languages ---------------------------------------------------

/** Random numbers of one decision: SplitMix64, as ABI.md says. */
@final
export class Rand {
  private state: u64 = 0;

  seed(seed: u64): void {
    this.state = seed;
    this.state = this.uint64();
  }

  /** A number of 64 random bits. */
  uint64(): u64 {
    this.state += 0x9e3779b97f4a7c15;
    let z = this.state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

  /** A number from 0 to below 1. */
  float64(): f64 { return <f64>(this.uint64() >> 11) * (1.0 / 9007199254740992.0); }

  /** A number from 0 to n−1, each as likely; n is 1 to 2³¹−1. */
  intN(n: i32): i32 {
    if (n <= 0) return 0;
    const least: u32 = (0 - <u32>n) % <u32>n;
    while (true) {
      const product = (this.uint64() >> 32) * <u64>n;
      if (<u32>product >= least) return <i32>(product >> 32);
    }
  }
}

function power2(k: i32): f64 { return reinterpret<f64>(<u64>(k + 1023) << 52); }

/** e to the power of x, with the bits that ABI.md says; those of Math.exp differ. */
export function exp(x: f64): f64 {
  if (x != x) return reinterpret<f64>(0x7ff8000000000000);
  if (x > 709.782712893384) return Infinity;
  if (x < -745.1332191019411) return 0;
  const k = <i32>(x * 1.4426950408889634 + (x < 0 ? -0.5 : 0.5));
  const high = x - <f64>k * 0.6931471803691238;
  const low = <f64>k * 1.9082149292705877e-10;
  const r = high - low;
  const t = r * r;
  const p = 0.16666666666666602 + t * (-0.0027777777777015593 + t * (6.613756321437934e-05 +
    t * (-1.6533902205465252e-06 + t * 4.1381367970572385e-08)));
  const c = r - t * p;
  const y = 1 - ((low - (r * c) / (2 - c)) - high);
  const a = k >> 1;
  return y * power2(a) * power2(k - a);
}

/** Writes a line to the server's log, which keeps the first few lines of a call. */
export function log(level: i32, line: string): void {
  const b = String.UTF8.encode(line);
  hostLog(level, changetype<usize>(b), b.byteLength);
}

/** For --use abort=…/rapport/abort: says what happened, and traps. */
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  const what = message !== null ? message : "abort";
  const where = file !== null ? file : "?";
  panic(`${what} (${where}:${line}:${column})`);
}

/** The fault that comes of it has the text as its message. */
function panic(text: string): void {
  const b = String.UTF8.encode("panic: " + text + "\n");
  const piece = new StaticArray<usize>(3);
  piece[0] = changetype<usize>(b);
  piece[1] = b.byteLength;
  hostWrite(2, changetype<usize>(piece), 1, changetype<usize>(piece) + 2 * sizeof<usize>());
  unreachable();
}

// ---- what the module exports -------------------------------------------------------

let described: ArrayBuffer = new ArrayBuffer(0);
const decision = new Decision();

export function rapport_abi_1(): void {}

export function rapport_describe(): u64 {
  if (named == "") mistakes.push("name is not called");
  if (ranker === null) mistakes.push("rank is not called");
  if (mistakes.length > 0) panic("rapport: " + mistakes.join("; "));
  described = String.UTF8.encode("{" + named + ',"profile":[' + profile.items.join(",") + '],"offer":[' + offer.items.join(",") +
    '],"channel":[' + channel.items.join(",") + '],"candidate":[' + candidate.items.join(",") +
    '],"parameters":[' + parameters.items.join(",") + '],"reasons":[' + reasons.items.join(",") + "]" +
    (probability ? ',"probability":true' : "") + fuel + "}");
  return (<u64>changetype<usize>(described) << 32) | <u64>described.byteLength;
}

export function rapport_arena(size: u32): usize {
  arena = (heap.alloc(<usize>size + ALIGN) + ALIGN - 1) & ~(ALIGN - 1);
  return arena;
}

export function rapport_configure(at: usize, size: u32): u32 {
  const s = changetype<Static>(at);
  if (at != arena || size < offsetof<Static>()) return BAD_STATIC;
  memory.grow(READY_PAGES);
  return s.magic == STATIC_MAGIC && s.version == VERSION && s.parameters == parameters.length &&
    s.offerColumns == offer.length && s.channelColumns == channel.length ? 0 : BAD_STATIC;
}

export function rapport_rank(size: u32): u64 {
  const status = decision.begin(size);
  if (status != 0) return status;
  ranker!(decision);
  return <u64>decision.length << 32;
}
