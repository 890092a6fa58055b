//! golden: scoring/scoring.go in Rust.
#![no_std]

use rapport::{exp, sqrt, Decision};

rapport::strategy! {
    name: "golden",
    version: "1.0.0",
    description: "Reads \"everything\", in every language.",
    budget: 1000000, 20000,
    says_chances: true,
    profile {
        number ARPU = "value.arpu";
        flag HEAVY = "tag.high_traffic";
        text SEGMENT = "general.customer_type";
        time JOINED = "general.customer_since";
        set HAS = "marketing.owned";
        number CALLS = "usage.calls";
        number WILLING = "context.willingness";
        text ROLE = "context.role";
    }
    offer {
        number PRICE = "price";
        flag DATA = "data";
        text PRODUCT = "product";
    }
    channel {
        number COST = "cost";
        flag HUMAN = "human";
        text TONE = "tone";
    }
    candidate {
        PROPENSITY = "propensity";
        VALUE = "value";
        WEIGHT = "weight";
        LEVER = "lever";
        CONTACTS = "times.contact";
        REJECTED = "times.rejected.30d";
        ACCEPTED = "days_since.accepted";
    }
    parameters {
        REACH = "reach", 0.5, 0, 5;
        FLOOR = "floor", -1.25, -10, 0;
    }
    reasons { STEP_UP; TIRED; OWNED; }
    rank: rank,
}

fn rank(d: &Decision) {
    let spend = ARPU.or(d, 20.0);
    let heavy = HEAVY.or(d, false);
    let mut base = FLOOR.of(d);
    if let Some(heavy) = HEAVY.get(d) {
        base += if heavy { 1.0 } else { -1.0 };
    }
    if let Some(joined) = JOINED.get(d) {
        base += (d.now() - joined) as f64 / 31_536_000_000_000.0;
    }
    base += HAS.len(d) as f64 * 0.25;
    base += CALLS.or(d, 3.0) * 0.125;
    let mut will = WILLING.or(d, 0.5);
    if will < -20.0 {
        will = -20.0;
    }
    base -= exp(-will);
    if SEGMENT.or(d, "nobody") == "Büro" {
        base += 0.75;
    }
    let agent = ROLE.or(d, "") == "agent";
    if agent {
        base *= 1.5;
    }
    for element in ["plan_a", "Zürich", ""] {
        if HAS.has(d, element) {
            base += 0.0625;
        }
    }
    for i in 0..d.len() {
        let noise = d.rand().float64();
        let pick = d.rand().int_n(i as u32 + 1);
        d.chance(i, if d.rand().uint64() >> 63 != 0 { 0.5 } else { noise });
        if HAS.has(d, PRODUCT.or(d, i, "none")) {
            d.veto(i);
            d.because(i, OWNED);
            continue;
        }
        let mut p = PROPENSITY.of(d, i) * exp(-(REJECTED.of(d, i) * 0.5));
        let days = ACCEPTED.of(d, i);
        if days >= 0.0 {
            p /= 1.0 + exp((7.0 - days) / 3.0);
        }
        let v = VALUE.of(d, i);
        let x = sqrt(v * v + 1.0) * WEIGHT.of(d, i) * LEVER.of(d, i);
        let mut score = p * x + base * noise + f64::from(pick) * 0.001;
        let above = PRICE.or(d, i, spend) - spend;
        if above > 0.0 {
            score -= sqrt(above) * REACH.of(d);
            d.because(i, STEP_UP);
        }
        if DATA.or(d, i, false) && heavy {
            score *= 1.25;
        }
        score -= COST.or(d, i, 0.01);
        if HUMAN.or(d, i, false) && agent {
            score += exp(if TONE.or(d, i, "") == "warm" { 0.1 } else { -0.1 });
        }
        let mut shown = CONTACTS.of(d, i);
        if shown > 8.0 {
            shown = 8.0;
        }
        score -= exp(shown / 4.0 - 3.0);
        score += 1.0 / (1.0 + exp(v * 30.0));
        score += exp(-700.0 - noise * 50.0) * 1e300;
        if shown > 3.0 {
            d.because(i, TIRED);
        }
        d.score(i, score);
    }
}
