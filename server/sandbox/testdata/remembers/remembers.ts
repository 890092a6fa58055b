/**
 * remembers: a strategy that reads one of everything, allocates, and tries to
 * carry something from call to call: in objects, in static memory, in what it
 * has freed, and, if the parameter says so, in globals of WebAssembly. Its
 * scores depend on all of it. The tests of server/sandbox say what must come of
 * that; remembers.c is the same in C.
 */
import { Call, WARN, log, manifest, ranked } from "../../../../sdk/assemblyscript/assembly/rapport";
export { rapport_abi_1, rapport_arena, rapport_configure } from "../../../../sdk/assemblyscript/assembly/rapport";

// Places in the manifest.
const ARPU = 0, HEAVY = 1, SEGMENT = 2, JOINED = 3;
const PRICE = 0, DATA = 1, KIND = 2;
const COST = 0;
const PROPENSITY = 0, VALUE = 1, WEIGHT = 2, LEVER = 3;
const GLOBALS = 0;
const STEP = 1, FAN = 2, DEAR = 3;

const described = manifest(
  '{"abi":1,"name":"remembers","version":"1","description":"",' +
  '"profile":[{"name":"value.arpu","type":"number"},{"name":"tag.high_traffic","type":"flag"},' +
  '{"name":"general.customer_type","type":"text"},{"name":"general.customer_since","type":"time"}],' +
  '"offer":[{"name":"price","type":"number"},{"name":"data","type":"flag"},{"name":"kind","type":"text"}],' +
  '"channel":[{"name":"cost","type":"number"}],' +
  '"candidate":["propensity","value","weight","lever"],' +
  '"parameters":[{"name":"globals","default":0,"min":0,"max":1}],' +
  '"reasons":["STEP_UP","DATA_FAN","TOO_DEAR"]}',
);

export function rapport_describe(): u64 { return described; }
export function rapport_rank(size: u32): u64 { return ranked(size, rank); }

class Seen {
  calls: i32 = 0;
  last: Seen | null = null;
  constructor(public segment: string) {}
}

// What a call would leave to the next if it could.
const seen = new Map<string, Seen>();
const kept: f64[] = [];
const ring = new StaticArray<u64>(64);
const chain = new Seen("");
let calls: f64 = 0; // a global of WebAssembly
let mixed: u64 = 0x9e3779b97f4a7c15; // another

/** What is left of earlier calls, as a number. */
function remember(c: Call, segment: string): f64 {
  if (!seen.has(segment)) seen.set(segment, new Seen(segment));
  const s = seen.get(segment);
  s.calls++;
  s.last = chain.last;
  chain.last = s;
  let depth = 0;
  for (let at = chain.last; at !== null && depth < 9; at = at!.last) depth++;
  ring[0] += 1;
  ring[<i32>(ring[0] & 63)] ^= c.seed;
  let sum: f64 = 0;
  for (let i = 0; i < ring.length; i++) sum += <f64>(ring[i] >> 40);
  return s.calls + 10 * seen.size + 100 * kept.length + 1000 * depth + sum;
}

function rank(c: Call): void {
  const segment = c.known(SEGMENT) ? c.text(SEGMENT) : "nobody";
  let base = remember(c, segment);
  if (c.parameter(GLOBALS) != 0) {
    calls += 1;
    mixed = (mixed ^ c.seed) * 0xd1342543de82ef95 + 1;
    base += calls + <f64>(mixed >> 44);
  }
  if (c.known(HEAVY)) base += c.flag(HEAVY) ? 1000 : 2000;
  if (c.known(JOINED)) base += <f64>((c.now - c.time(JOINED)) / 86_400_000_000);
  const arpu = c.known(ARPU) ? c.number(ARPU) : 20;

  const words = segment.split("-");
  const prices = new Map<i32, f64>();
  const scores = new Array<f64>();
  for (let i = 0; i < c.length; i++) {
    if (c.offerHas(PRICE, i)) prices.set(c.row(i), c.offerNumber(PRICE, i));
    let score = c.column(PROPENSITY, i) * c.column(VALUE, i) * c.column(WEIGHT, i) * c.column(LEVER, i);
    score += base / <f64>(words.length + c.row(i) % 3);
    if (c.offerHas(KIND, i)) score += <f64>(c.offerText(KIND, i) + segment).length;
    if (c.channelHas(COST, i)) score -= c.channelNumber(COST, i);
    if (prices.has(c.row(i))) {
      const price = prices.get(c.row(i));
      if (price > 4 * arpu) {
        c.veto(i);
        c.because(i, DEAR);
      } else if (price > arpu) {
        score += Math.sqrt(price - arpu);
        c.because(i, STEP);
      }
    }
    if (c.offerHas(DATA, i) && c.offerFlag(DATA, i) && c.flag(HEAVY)) {
      score *= 1.5;
      c.because(i, FAN);
    }
    scores.push(score);
    kept.push(score);
    c.score(i, score);
    if (segment == "trap" && i == c.length / 2) throw new Error("half way");
  }
  scores.sort((a, b) => a < b ? -1 : a > b ? 1 : 0);
  if (scores.length > 0) c.score(0, scores[scores.length >> 1]);
  if (words.length > 3) log(WARN, `${words.length} words, ${prices.size} prices`);
}
