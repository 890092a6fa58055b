//! spenders: dear offers to those who spend, and none again that was refused. It reads
//! one of most things.
#![no_std]

use rapport::{exp, Decision};

rapport::strategy! {
    name: "spenders",
    version: "1.0.0",
    description: "Dear offers to those who spend.",
    profile {
        number ARPU = "value.arpu";
        set OWNED_PRODUCTS = "marketing.owned";
    }
    offer {
        number PRICE = "price";
        text PRODUCT = "product";
    }
    candidate {
        CHANCE = "propensity";
        TIMES_REFUSED = "times.rejected.30d";
    }
    parameters {
        REACH = "reach", 0.5, 0, 5;
    }
    reasons { SPENDER; OWNED; REFUSED; }
    rank: rank,
}

fn rank(d: &Decision) {
    let spend = ARPU.or(d, 0.0);
    for i in 0..d.len() {
        if OWNED_PRODUCTS.has(d, PRODUCT.or(d, i, "")) {
            d.veto(i);
            d.because(i, OWNED);
            continue;
        }
        let mut score = CHANCE.of(d, i) * PRICE.or(d, i, 0.0);
        let times = TIMES_REFUSED.of(d, i);
        if spend > 50.0 {
            score *= 1.0 + REACH.of(d);
            d.because(i, SPENDER);
        }
        if times > 0.0 {
            score *= exp(-times);
            d.because(i, REFUSED);
        }
        d.score(i, score);
    }
}
