/*
 * spenders: dear offers to those who spend, and none again that was refused. It reads
 * one of most things.
 */
#define RAPPORT_NAME "spenders"
#define RAPPORT_VERSION "1.0.0"
#define RAPPORT_DESCRIPTION "Dear offers to those who spend."
#define RAPPORT_PROFILE(X)       \
  X(number, arpu, "value.arpu")  \
  X(set, owned, "marketing.owned")
#define RAPPORT_OFFER(X)    \
  X(number, price, "price") \
  X(text, product, "product")
#define RAPPORT_CANDIDATE(X)  \
  X(propensity, "propensity") \
  X(refused, "times.rejected.30d")
#define RAPPORT_PARAMETERS(X) X(reach, 0.5, 0, 5)
#define RAPPORT_REASONS(X) X(SPENDER) X(OWNED) X(REFUSED)
#include "../rapport.h"

static void rank(struct rapport_decision *d) {
  double spend = rapport_number_or(d, arpu, 0);
  for (rapport_u32 i = 0; i < d->n; i++) {
    if (rapport_has(d, owned, rapport_offer_text_or(d, product, i, RAPPORT_TEXT("")))) {
      rapport_veto(d, i);
      rapport_because(d, i, OWNED);
      continue;
    }
    double score = rapport_of(d, propensity, i) * rapport_offer_number_or(d, price, i, 0);
    double times = rapport_of(d, refused, i);
    if (spend > 50) {
      score *= 1 + rapport_parameter(d, reach);
      rapport_because(d, i, SPENDER);
    }
    if (times > 0) {
      score *= rapport_exp(-times);
      rapport_because(d, i, REFUSED);
    }
    rapport_score(d, i, score);
  }
}
