/**
 * my_strategy is a Rapport strategy: it ranks offers by expected value, makes
 * those wait that the customer has rejected lately, and does not offer what is
 * far above what the customer spends.
 */
import { Call, manifest, ranked } from "./sdk/rapport";
export { rapport_abi_1, rapport_arena, rapport_configure } from "./sdk/rapport";

// What the strategy reads, in the order of the manifest. The server brings exactly
// that, and refuses a strategy that reads what its profile schema or catalogue does
// not have.
const ARPU = 0; // profile
const PRICE = 0; // offer
const PROPENSITY = 0, VALUE = 1, WEIGHT = 2, LEVER = 3, REJECTED = 4; // candidate
const REACH = 0; // parameters
const TOO_DEAR = 1, REJECTED_LATELY = 2; // reasons, from 1

const described = manifest(
  '{"abi":1,"name":"my_strategy","version":"0.1.0",' +
  '"description":"Expected value; waits after a rejection, and offers nothing too dear.",' +
  '"profile":[{"name":"value.arpu","type":"number"}],' +
  '"offer":[{"name":"price","type":"number"}],' +
  '"candidate":["propensity","value","weight","lever","times.rejected.30d"],' +
  '"parameters":[{"name":"reach","default":0.5,"min":0,"max":10}],' +
  '"reasons":["TOO_DEAR","REJECTED_LATELY"]}',
);

export function rapport_describe(): u64 { return described; }
export function rapport_rank(size: u32): u64 { return ranked(size, rank); }

function rank(c: Call): void {
  const spendKnown = c.known(ARPU);
  const most = c.number(ARPU) * (1 + c.parameter(REACH));
  for (let i = 0; i < c.length; i++) {
    let score = c.column(PROPENSITY, i) * c.column(VALUE, i) * c.column(WEIGHT, i) * c.column(LEVER, i);
    const rejected = c.column(REJECTED, i);
    if (rejected > 0) {
      score /= 1 + rejected;
      c.because(i, REJECTED_LATELY);
    }
    if (spendKnown && c.offerHas(PRICE, i) && c.offerNumber(PRICE, i) > most) {
      c.because(i, TOO_DEAR);
      c.veto(i);
    }
    c.score(i, score);
  }
}
