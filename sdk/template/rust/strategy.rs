//! my_strategy is a Rapport strategy: it ranks offers by expected value, makes those
//! wait that the customer has rejected lately, and does not offer what is far above
//! what the customer spends.
#![no_std]

use rapport::Decision;

rapport::strategy! {
    name: "my_strategy",
    version: "0.1.0",
    description: "Expected value; waits after a rejection, and offers nothing too dear.",
    // What the strategy reads. The server brings exactly that, and refuses a strategy
    // that reads what its profile schema or catalogue does not have.
    profile {
        number ARPU = "value.arpu"; // what the customer spends a month
    }
    offer {
        number PRICE = "price";
    }
    candidate {
        PROPENSITY = "propensity";
        VALUE = "value";
        WEIGHT = "weight";
        LEVER = "lever";
        REJECTED = "times.rejected.30d"; // how often the offer was rejected in 30 days
    }
    // What a scenario may set: default, least and greatest.
    parameters {
        REACH = "reach", 0.5, 0, 10;
    }
    // Why a candidate has its score.
    reasons { TOO_DEAR; REJECTED_LATELY; }
    rank: rank,
}

fn rank(d: &Decision) {
    let most = ARPU.get(d).map(|spend| spend * (1.0 + REACH.of(d)));
    for i in 0..d.len() {
        let mut score = PROPENSITY.of(d, i) * VALUE.of(d, i) * WEIGHT.of(d, i) * LEVER.of(d, i);
        let times = REJECTED.of(d, i);
        if times > 0.0 {
            score /= 1.0 + times;
            d.because(i, REJECTED_LATELY);
        }
        if let (Some(most), Some(price)) = (most, PRICE.get(d, i)) {
            if price > most {
                d.because(i, TOO_DEAR);
                d.veto(i);
            }
        }
        d.score(i, score);
    }
}
