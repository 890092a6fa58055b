/**
 * epsilon: explores. Of so many decisions in a hundred, it ranks at random; the others are
 * ranked as pvcl does. It says with which probability each candidate got the score that it
 * has, so that what comes of its decisions can be reckoned back to what would have come of
 * others.
 *
 * An order at random is one of the scores: each candidate gets the score of a candidate
 * that is drawn for it, none drawn twice. So a scenario's minimum score lets as many
 * through as before. In such an order a candidate has a score that m of n candidates have
 * with the probability m/n; the probability of its own score is 1−ε more. Candidates that
 * score the same are ordered by the server, which counts that in.
 */
import {
  Decision, lever, name, parameter, propensity, rank, reason, saysChances, value, weight,
} from "../../sdk/assemblyscript/assembly/rapport";
export { rapport_abi_1, rapport_arena, rapport_configure, rapport_describe, rapport_rank } from "../../sdk/assemblyscript/assembly/rapport";

name("epsilon", "1.0.0", "Propensity × value × context weight × lever, but with the probability epsilon in random order; says each candidate's probability.");
saysChances();

const p = propensity(), v = value(), w = weight(), l = lever();
const epsilon = parameter("epsilon", 0.1, 0, 1);
const valueWeight = parameter("value_weight", 1, 0, 1);
const EXPLORED = reason("EXPLORED");

/** The scores of pvcl, to the bit. */
function arbitrate(d: Decision): StaticArray<f64> {
  const n = d.length, scores = new StaticArray<f64>(n), much = valueWeight.of(d);
  if (much == 1) { // 0 + v is not v where v is −0
    for (let i = 0; i < n; i++) unchecked(scores[i] = p.of(d, i) * v.of(d, i) * w.of(d, i) * l.of(d, i));
  } else {
    for (let i = 0; i < n; i++) unchecked(scores[i] = p.of(d, i) * ((1 - much) + much * v.of(d, i)) * w.of(d, i) * l.of(d, i));
  }
  return scores;
}

/**
 * Finds those that score the same. It returns a level for each candidate, the same for the
 * same score, and puts how many have a level into alike, which has as many zeros as a power
 * of two that is at least twice the number of candidates: it is a hash table, in which a
 * level is a place. Sorting would take three times as much fuel for 100 candidates, and
 * more for more.
 */
function levels(scores: StaticArray<f64>, alike: StaticArray<i32>): StaticArray<i32> {
  const n = scores.length, last = alike.length - 1;
  const known = new StaticArray<f64>(alike.length), found = new StaticArray<i32>(n);
  for (let i = 0; i < n; i++) {
    const score = unchecked(scores[i]);
    const hash = reinterpret<u64>(score + 0) * 0x9e3779b97f4a7c15; // −0 + 0 is 0
    let at = <i32>(hash >> 32) & last;
    while (unchecked(alike[at]) != 0 && unchecked(known[at]) != score) at = (at + 1) & last;
    unchecked(known[at] = score);
    unchecked(alike[at] += 1);
    unchecked(found[i] = at);
  }
  return found;
}

rank((d: Decision): void => {
  const n = d.length;
  const scores = arbitrate(d);
  const alike = new StaticArray<i32>(2 << (32 - clz(n)));
  const level = levels(scores, alike);
  const whose = new StaticArray<i32>(n); // which candidate's score each gets
  for (let i = 0; i < n; i++) unchecked(whose[i] = i);
  const share = epsilon.of(d);
  const explore = d.rand.float64() < share;
  if (explore) {
    for (let i = n - 1; i > 0; i--) { // Fisher and Yates
      const k = d.rand.intN(i + 1), other = unchecked(whose[i]);
      unchecked(whose[i] = whose[k]);
      unchecked(whose[k] = other);
    }
  }
  for (let i = 0; i < n; i++) {
    const from = unchecked(whose[i]), to = unchecked(level[from]);
    const kept = <f64>i32(to == unchecked(level[i])); // 1 or 0
    d.score(i, unchecked(scores[from]));
    d.chance(i, kept * (1 - share) + share * (<f64>unchecked(alike[to]) / <f64>n));
    if (explore) d.because(i, EXPLORED);
  }
});
