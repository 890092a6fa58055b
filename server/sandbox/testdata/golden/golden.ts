/** golden: scoring/scoring.go in AssemblyScript. */
import {
  Decision, budget, channelFlag, channelNumber, channelText, daysSince, exp, flag, lever, name, number, offerFlag,
  offerNumber, offerText, parameter, propensity, rank, reason, saysChances, set, text, time, times, value, weight,
} from "../../../../sdk/assemblyscript/assembly/rapport";
export {
  rapport_abi_1, rapport_arena, rapport_configure, rapport_describe, rapport_rank,
} from "../../../../sdk/assemblyscript/assembly/rapport";

name("golden", "1.0.0", 'Reads "everything", in every language.');
budget(1_000_000, 20_000);
saysChances();

const arpu = number("value.arpu");
const heavy = flag("tag.high_traffic");
const segment = text("general.customer_type");
const joined = time("general.customer_since");
const owned = set("marketing.owned");
const calls = number("usage.calls");
const willing = number("context.willingness");
const role = text("context.role");

const price = offerNumber("price");
const data = offerFlag("data");
const product = offerText("product");
const cost = channelNumber("cost");
const human = channelFlag("human");
const tone = channelText("tone");

const chance = propensity(), worth = value(), context = weight(), lift = lever();
const contacts = times("contact");
const rejected = times("rejected", 30);
const accepted = daysSince("accepted");

const reach = parameter("reach", 0.5, 0, 5);
const floor = parameter("floor", -1.25, -10, 0);

const STEP_UP = reason("STEP_UP"), TIRED = reason("TIRED"), OWNED = reason("OWNED");

const elements: string[] = ["plan_a", "Zürich", ""];

rank((d: Decision): void => {
  const spend = arpu.or(d, 20);
  const isHeavy = heavy.or(d, false);
  let base = floor.of(d);
  if (heavy.known(d)) base += isHeavy ? 1 : -1;
  if (joined.known(d)) base += <f64>(d.now - joined.or(d, 0)) / 31_536_000_000_000;
  base += <f64>owned.len(d) * 0.25;
  base += calls.or(d, 3) * 0.125;
  let will = willing.or(d, 0.5);
  if (will < -20) will = -20;
  base -= exp(-will);
  if (segment.or(d, "nobody") == "Büro") base += 0.75;
  const agent = role.or(d, "") == "agent";
  if (agent) base *= 1.5;
  for (let i = 0; i < elements.length; i++) {
    if (owned.has(d, elements[i])) base += 0.0625;
  }
  for (let i = 0; i < d.length; i++) {
    const noise = d.rand.float64();
    const pick = d.rand.intN(i + 1);
    d.chance(i, d.rand.uint64() >> 63 != 0 ? 0.5 : noise);
    if (owned.has(d, product.or(d, i, "none"))) {
      d.veto(i);
      d.because(i, OWNED);
      continue;
    }
    let p = chance.of(d, i) * exp(-(rejected.of(d, i) * 0.5));
    const days = accepted.of(d, i);
    if (days >= 0) p /= 1 + exp((7 - days) / 3);
    const v = worth.of(d, i);
    const x = Math.sqrt(v * v + 1) * context.of(d, i) * lift.of(d, i);
    let score = p * x + base * noise + <f64>pick * 0.001;
    const above = price.or(d, i, spend) - spend;
    if (above > 0) {
      score -= Math.sqrt(above) * reach.of(d);
      d.because(i, STEP_UP);
    }
    if (data.or(d, i, false) && isHeavy) score *= 1.25;
    score -= cost.or(d, i, 0.01);
    if (human.or(d, i, false) && agent) score += exp(tone.or(d, i, "") == "warm" ? 0.1 : -0.1);
    let shown = contacts.of(d, i);
    if (shown > 8) shown = 8;
    score -= exp(shown / 4 - 3);
    score += 1 / (1 + exp(v * 30));
    score += exp(-700 - noise * 50) * 1e300;
    if (shown > 3) d.because(i, TIRED);
    d.score(i, score);
  }
});
