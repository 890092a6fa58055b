/**
 * my_strategy is a Rapport strategy: it ranks offers by expected value, makes
 * those wait that the customer has rejected lately, and does not offer what is
 * far above what the customer spends.
 */
import {
  Decision, lever, name, number, offerNumber, parameter, propensity, rank, reason, times, value, weight,
} from "./sdk/rapport";
export { rapport_abi_1, rapport_arena, rapport_configure, rapport_describe, rapport_rank } from "./sdk/rapport";

name("my_strategy", "0.1.0", "Expected value; waits after a rejection, and offers nothing too dear.");

// What the strategy reads. The server brings exactly that, and refuses a strategy
// that reads what its profile schema or catalogue does not have.
const arpu = number("value.arpu"); // what the customer spends a month
const price = offerNumber("price"); // an attribute of the offer
const rejected = times("rejected", 30); // how often the offer was rejected in 30 days
const chance = propensity(), worth = value(), emphasis = weight(), boost = lever();

// What a scenario may set, with default, least and greatest.
const reach = parameter("reach", 0.5, 0, 10);

// Why a candidate has its score.
const TOO_DEAR = reason("TOO_DEAR"), REJECTED_LATELY = reason("REJECTED_LATELY");

rank((d: Decision): void => {
  const spendKnown = arpu.known(d);
  const most = arpu.or(d, 0) * (1 + reach.of(d));
  for (let i = 0; i < d.length; i++) {
    let score = chance.of(d, i) * worth.of(d, i) * emphasis.of(d, i) * boost.of(d, i);
    const n = rejected.of(d, i);
    if (n > 0) {
      score /= 1 + n;
      d.because(i, REJECTED_LATELY);
    }
    if (spendKnown && price.known(d, i) && price.or(d, i, 0) > most) {
      d.because(i, TOO_DEAR);
      d.veto(i);
    }
    d.score(i, score);
  }
});
