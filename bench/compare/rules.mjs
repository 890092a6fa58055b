// json-rules-engine, asked by the command compare: the first line has the offers and the
// customers; each line after it is [first, count], and the answer is the slate of the last
// of these customers.
import {createInterface} from "node:readline";
import {Engine} from "json-rules-engine";

const lines = createInterface({input: process.stdin})[Symbol.asyncIterator]();
const {offers, customers} = JSON.parse((await lines.next()).value);

const engine = new Engine([], {replaceFactsInEventParams: false});
offers.forEach((offer, index) => {
  const all = [
    {fact: "arpu", operator: "greaterThan", value: offer.min_arpu},
    {fact: "data_mb", operator: "greaterThan", value: offer.min_mb},
  ];
  if (offer.heavy) all.push({fact: "heavy", operator: "equal", value: true});
  engine.addRule({conditions: {all}, event: {type: "eligible", params: {index}}});
});

async function decide(customer) {
  const {events} = await engine.run({arpu: customer.arpu, data_mb: customer.data_mb, heavy: customer.heavy});
  const scored = events.map(({params: {index}}) => {
    const o = offers[index];
    return {index, score: (o.propensity || customer.propensity) * o.value * (1 + o.boost / 100)};
  });
  scored.sort((a, b) => b.score - a.score || a.index - b.index);
  return scored.slice(0, 3).map(({index}) => offers[index].id);
}

for await (const line of lines) {
  const [first, count] = JSON.parse(line);
  let slate;
  for (let i = 0; i < count; i++) slate = await decide(customers[(first + i) % customers.length]);
  process.stdout.write(JSON.stringify(slate) + "\n");
}
