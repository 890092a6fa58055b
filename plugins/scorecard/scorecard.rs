//! scorecard: points by bands. A candidate gets points for each of ten things that speak
//! for or against it, and the most points win. All limits and points are parameters, so
//! that a scenario of the catalogue is the whole card.
//!
//! Each thing has three bands, low, mid and high, and where it may be unknown a fourth
//! number of points for that. What is known of the customer counts for marketing only:
//! fewer points for sales put care before them.
#![no_std]

use rapport::{Decision, Parameter, Reason};

rapport::strategy! {
    name: "scorecard",
    version: "1.0.0",
    description: "Points by bands of propensity, value, price, rejections, spend, tenure, satisfaction and churn risk, all set by parameters.",
    profile {
        number SPEND = "value.arpu";
        time SINCE = "general.customer_since";
        number CONTENT = "service.satisfaction";
        number RISK = "marketing.churn_risk";
    }
    offer {
        text CLASS = "class";
        number PRICE_OF = "price";
    }
    candidate {
        CHANCE = "propensity";
        WORTH = "value";
        GROUP_WEIGHT = "weight";
        LEVER = "lever";
        TIMES_REJECTED = "times.rejected.90d";
    }
    parameters {
        PROPENSITY_MID_FROM = "propensity_mid_from", 0.05, 0, 1;
        PROPENSITY_HIGH_FROM = "propensity_high_from", 0.2, 0, 1;
        PROPENSITY_LOW = "propensity_low", 0, -1000, 1000;
        PROPENSITY_MID = "propensity_mid", 20, -1000, 1000;
        PROPENSITY_HIGH = "propensity_high", 40, -1000, 1000;
        VALUE_MID_FROM = "value_mid_from", 20, 0, 1000000;
        VALUE_HIGH_FROM = "value_high_from", 100, 0, 1000000;
        VALUE_LOW = "value_low", 0, -1000, 1000;
        VALUE_MID = "value_mid", 10, -1000, 1000;
        VALUE_HIGH = "value_high", 20, -1000, 1000;
        PRICE_SHARE_MID_FROM = "price_share_mid_from", 0.5, 0, 1000;
        PRICE_SHARE_HIGH_FROM = "price_share_high_from", 1.5, 0, 1000;
        PRICE_SHARE_LOW = "price_share_low", 15, -1000, 1000;
        PRICE_SHARE_MID = "price_share_mid", 5, -1000, 1000;
        PRICE_SHARE_HIGH = "price_share_high", -15, -1000, 1000;
        PRICE_SHARE_UNKNOWN = "price_share_unknown", 0, -1000, 1000;
        REJECTED_MID_FROM = "rejected_mid_from", 1, 0, 1000;
        REJECTED_HIGH_FROM = "rejected_high_from", 3, 0, 1000;
        REJECTED_LOW = "rejected_low", 0, -1000, 1000;
        REJECTED_MID = "rejected_mid", -15, -1000, 1000;
        REJECTED_HIGH = "rejected_high", -40, -1000, 1000;
        ARPU_MID_FROM = "arpu_mid_from", 30, 0, 1000000;
        ARPU_HIGH_FROM = "arpu_high_from", 100, 0, 1000000;
        ARPU_LOW = "arpu_low", -5, -1000, 1000;
        ARPU_MID = "arpu_mid", 0, -1000, 1000;
        ARPU_HIGH = "arpu_high", 10, -1000, 1000;
        ARPU_UNKNOWN = "arpu_unknown", 0, -1000, 1000;
        TENURE_MID_FROM = "tenure_mid_from", 3, 0, 1200;
        TENURE_HIGH_FROM = "tenure_high_from", 24, 0, 1200;
        TENURE_LOW = "tenure_low", -10, -1000, 1000;
        TENURE_MID = "tenure_mid", 0, -1000, 1000;
        TENURE_HIGH = "tenure_high", 5, -1000, 1000;
        TENURE_UNKNOWN = "tenure_unknown", 0, -1000, 1000;
        SATISFACTION_MID_FROM = "satisfaction_mid_from", 5, 0, 100;
        SATISFACTION_HIGH_FROM = "satisfaction_high_from", 8, 0, 100;
        SATISFACTION_LOW = "satisfaction_low", -30, -1000, 1000;
        SATISFACTION_MID = "satisfaction_mid", 0, -1000, 1000;
        SATISFACTION_HIGH = "satisfaction_high", 10, -1000, 1000;
        SATISFACTION_UNKNOWN = "satisfaction_unknown", 0, -1000, 1000;
        CHURN_RISK_MID_FROM = "churn_risk_mid_from", 0.35, 0, 1;
        CHURN_RISK_HIGH_FROM = "churn_risk_high_from", 0.6, 0, 1;
        CHURN_RISK_LOW = "churn_risk_low", 0, -1000, 1000;
        CHURN_RISK_MID = "churn_risk_mid", -20, -1000, 1000;
        CHURN_RISK_HIGH = "churn_risk_high", -40, -1000, 1000;
        CHURN_RISK_UNKNOWN = "churn_risk_unknown", 0, -1000, 1000;
        WEIGHT_POINTS = "weight_points", 10, 0, 1000;
        BOOST_POINTS = "boost_points", 10, 0, 1000;
    }
    reasons { PROPENSITY; VALUE; PRICE; REJECTED; WEIGHT; BOOST; ARPU; TENURE; SATISFACTION; CHURN_RISK; }
    rank: rank,
}

/// Which points a number gets: the limits of the bands, and the points of each.
struct Bands {
    mid_from: f64,
    high_from: f64,
    low: f64,
    mid: f64,
    high: f64,
    unknown: f64,
}

fn bands(d: &Decision, p: [Parameter; 6]) -> Bands {
    let [mid_from, high_from, low, mid, high, unknown] = p.map(|p| p.of(d));
    Bands {
        mid_from,
        high_from,
        low,
        mid,
        high,
        unknown,
    }
}

impl Bands {
    fn of(&self, x: f64) -> f64 {
        if x >= self.high_from {
            self.high
        } else if x >= self.mid_from {
            self.mid
        } else {
            self.low
        }
    }

    fn of_known(&self, x: Option<f64>) -> f64 {
        x.map_or(self.unknown, |x| self.of(x))
    }
}

/// The sum of points, and what most of them, for or against, are for.
#[derive(Clone, Copy)]
struct Total {
    points: f64,
    most: f64, // squared
    why: Option<Reason>,
}

impl Total {
    fn add(&mut self, points: f64, why: Reason) {
        self.points += points;
        if points * points > self.most {
            self.most = points * points;
            self.why = Some(why);
        }
    }
}

const MICROSECONDS_A_MONTH: f64 = 365.25 / 12.0 * 86_400e6;

/// What the price is of what the customer spends in a month.
fn share(price: Option<f64>, spend: Option<f64>) -> Option<f64> {
    match (price, spend) {
        (Some(price), _) if price <= 0.0 => Some(0.0),
        (Some(price), Some(spend)) if spend > 0.0 => Some(price / spend),
        _ => None,
    }
}

/// A number from 0 to below 1, in the order of what is expected of a candidate: it decides
/// between candidates of as many points, if points are whole numbers.
fn worth(expected: f64) -> f64 {
    if expected > 0.0 {
        expected / (1.0 + expected)
    } else {
        0.0
    }
}

fn rank(d: &Decision) {
    let propensity = bands(
        d,
        [
            PROPENSITY_MID_FROM,
            PROPENSITY_HIGH_FROM,
            PROPENSITY_LOW,
            PROPENSITY_MID,
            PROPENSITY_HIGH,
            PROPENSITY_LOW,
        ],
    );
    let value = bands(
        d,
        [
            VALUE_MID_FROM,
            VALUE_HIGH_FROM,
            VALUE_LOW,
            VALUE_MID,
            VALUE_HIGH,
            VALUE_LOW,
        ],
    );
    let price = bands(
        d,
        [
            PRICE_SHARE_MID_FROM,
            PRICE_SHARE_HIGH_FROM,
            PRICE_SHARE_LOW,
            PRICE_SHARE_MID,
            PRICE_SHARE_HIGH,
            PRICE_SHARE_UNKNOWN,
        ],
    );
    let rejected = bands(
        d,
        [
            REJECTED_MID_FROM,
            REJECTED_HIGH_FROM,
            REJECTED_LOW,
            REJECTED_MID,
            REJECTED_HIGH,
            REJECTED_LOW,
        ],
    );
    let (weight, boost) = (WEIGHT_POINTS.of(d), BOOST_POINTS.of(d));

    let spend = SPEND.get(d);
    let tenure = SINCE
        .get(d)
        .map(|since| (d.now() - since) as f64 / MICROSECONDS_A_MONTH);
    let nothing = Total {
        points: 0.0,
        most: 0.0,
        why: None,
    };
    let mut customer = nothing;
    customer.add(
        bands(
            d,
            [
                ARPU_MID_FROM,
                ARPU_HIGH_FROM,
                ARPU_LOW,
                ARPU_MID,
                ARPU_HIGH,
                ARPU_UNKNOWN,
            ],
        )
        .of_known(spend),
        ARPU,
    );
    customer.add(
        bands(
            d,
            [
                TENURE_MID_FROM,
                TENURE_HIGH_FROM,
                TENURE_LOW,
                TENURE_MID,
                TENURE_HIGH,
                TENURE_UNKNOWN,
            ],
        )
        .of_known(tenure),
        TENURE,
    );
    customer.add(
        bands(
            d,
            [
                SATISFACTION_MID_FROM,
                SATISFACTION_HIGH_FROM,
                SATISFACTION_LOW,
                SATISFACTION_MID,
                SATISFACTION_HIGH,
                SATISFACTION_UNKNOWN,
            ],
        )
        .of_known(CONTENT.get(d)),
        SATISFACTION,
    );
    customer.add(
        bands(
            d,
            [
                CHURN_RISK_MID_FROM,
                CHURN_RISK_HIGH_FROM,
                CHURN_RISK_LOW,
                CHURN_RISK_MID,
                CHURN_RISK_HIGH,
                CHURN_RISK_UNKNOWN,
            ],
        )
        .of_known(RISK.get(d)),
        CHURN_RISK,
    );

    let (p, v, w, l, r) = (
        CHANCE.all(d),
        WORTH.all(d),
        GROUP_WEIGHT.all(d),
        LEVER.all(d),
        TIMES_REJECTED.all(d),
    );
    for i in 0..d.len() {
        let marketing = CLASS.or(d, i, "marketing") == "marketing";
        let mut total = if marketing { customer } else { nothing };
        total.add(propensity.of(p[i]), PROPENSITY);
        total.add(value.of(v[i]), VALUE);
        total.add(price.of_known(share(PRICE_OF.get(d, i), spend)), PRICE);
        total.add(rejected.of(r[i]), REJECTED);
        total.add(weight * (w[i] - 1.0), WEIGHT);
        total.add(boost * (l[i] - 1.0), BOOST);
        d.score(i, total.points + worth(p[i] * v[i] * w[i] * l[i]));
        if let Some(why) = total.why {
            d.because(i, why);
        }
    }
}
