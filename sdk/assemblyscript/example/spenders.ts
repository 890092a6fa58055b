/**
 * spenders: dear offers to those who spend, and none again that was refused. It reads
 * one of most things.
 */
import {
  Decision, exp, name, number, offerNumber, offerText, parameter, propensity, rank, reason, set, times,
} from "../assembly/rapport";
export { rapport_abi_1, rapport_arena, rapport_configure, rapport_describe, rapport_rank } from "../assembly/rapport";

name("spenders", "1.0.0", "Dear offers to those who spend.");

const arpu = number("value.arpu");
const owned = set("marketing.owned");
const price = offerNumber("price");
const product = offerText("product");
const chance = propensity();
const refused = times("rejected", 30);
const reach = parameter("reach", 0.5, 0, 5);
const SPENDER = reason("SPENDER"), OWNED = reason("OWNED"), REFUSED = reason("REFUSED");

rank((d: Decision): void => {
  const spend = arpu.or(d, 0);
  for (let i = 0; i < d.length; i++) {
    if (product.known(d, i) && owned.has(d, product.or(d, i, ""))) {
      d.veto(i);
      d.because(i, OWNED);
      continue;
    }
    let score = chance.of(d, i) * price.or(d, i, 0);
    const times = refused.of(d, i);
    if (spend > 50) {
      score *= 1 + reach.of(d);
      d.because(i, SPENDER);
    }
    if (times > 0) {
      score *= exp(-times);
      d.because(i, REFUSED);
    }
    d.score(i, score);
  }
});
