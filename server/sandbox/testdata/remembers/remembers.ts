/**
 * remembers: a strategy that reads one of everything, allocates, and tries to
 * carry something from call to call: in objects, in static memory, in what it
 * has freed, and, if the parameter says so, in globals of WebAssembly. Its
 * scores depend on all of it. The tests of server/sandbox say what must come of
 * that; remembers.c is the same in C.
 */
import {
  Decision, WARN, channelNumber, flag, lever, log, name, number, offerFlag, offerNumber, offerText, parameter, propensity,
  rank, reason, text, time, value, weight,
} from "../../../../sdk/assemblyscript/assembly/rapport";
export {
  rapport_abi_1, rapport_arena, rapport_configure, rapport_describe, rapport_rank,
} from "../../../../sdk/assemblyscript/assembly/rapport";

name("remembers", "1", "");
const arpu = number("value.arpu");
const heavy = flag("tag.high_traffic");
const customerType = text("general.customer_type");
const joined = time("general.customer_since");
const price = offerNumber("price");
const data = offerFlag("data");
const kind = offerText("kind");
const cost = channelNumber("cost");
const chance = propensity(), worth = value(), context = weight(), lift = lever();
const globals = parameter("globals", 0, 0, 1);
const STEP = reason("STEP_UP"), FAN = reason("DATA_FAN"), DEAR = reason("TOO_DEAR");

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
function remember(d: Decision, segment: string): f64 {
  if (!seen.has(segment)) seen.set(segment, new Seen(segment));
  const s = seen.get(segment);
  s.calls++;
  s.last = chain.last;
  chain.last = s;
  let depth = 0;
  for (let at = chain.last; at !== null && depth < 9; at = at!.last) depth++;
  ring[0] += 1;
  ring[<i32>(ring[0] & 63)] ^= d.frame.seed;
  let sum: f64 = 0;
  for (let i = 0; i < ring.length; i++) sum += <f64>(ring[i] >> 40);
  return s.calls + 10 * seen.size + 100 * kept.length + 1000 * depth + sum;
}

rank((d: Decision): void => {
  const segment = customerType.or(d, "nobody");
  let base = remember(d, segment);
  if (globals.of(d) != 0) {
    calls += 1;
    mixed = (mixed ^ d.frame.seed) * 0xd1342543de82ef95 + 1;
    base += calls + <f64>(mixed >> 44);
  }
  if (heavy.known(d)) base += heavy.or(d, false) ? 1000 : 2000;
  if (joined.known(d)) base += <f64>((d.now - joined.or(d, 0)) / 86_400_000_000);
  const spend = arpu.or(d, 20);

  const words = segment.split("-");
  const prices = new Map<i32, f64>();
  const scores = new Array<f64>();
  for (let i = 0; i < d.length; i++) {
    if (price.known(d, i)) prices.set(d.row(i), price.or(d, i, 0));
    let score = chance.of(d, i) * worth.of(d, i) * context.of(d, i) * lift.of(d, i);
    score += base / <f64>(words.length + d.row(i) % 3);
    if (kind.known(d, i)) score += <f64>(kind.or(d, i, "") + segment).length;
    score -= cost.or(d, i, 0);
    if (prices.has(d.row(i))) {
      const dear = prices.get(d.row(i));
      if (dear > 4 * spend) {
        d.veto(i);
        d.because(i, DEAR);
      } else if (dear > spend) {
        score += Math.sqrt(dear - spend);
        d.because(i, STEP);
      }
    }
    if (data.or(d, i, false) && heavy.or(d, false)) {
      score *= 1.5;
      d.because(i, FAN);
    }
    scores.push(score);
    kept.push(score);
    d.score(i, score);
    if (segment == "trap" && i == d.length / 2) throw new Error("half way");
  }
  scores.sort((a, b) => a < b ? -1 : a > b ? 1 : 0);
  if (scores.length > 0) d.score(0, scores[scores.length >> 1]);
  if (words.length > 3) log(WARN, `${words.length} words, ${prices.size} prices`);
});
