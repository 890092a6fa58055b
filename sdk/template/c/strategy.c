/*
 * my_strategy is a Rapport strategy: it ranks offers by expected value, makes
 * those wait that the customer has rejected lately, and does not offer what is
 * far above what the customer spends.
 */
#define RAPPORT_NAME "my_strategy"
#define RAPPORT_VERSION "0.1.0"
#define RAPPORT_DESCRIPTION "Expected value; waits after a rejection, and offers nothing too dear."

/* What the strategy reads. The server brings exactly that, and refuses a strategy that
 * reads what its profile schema or catalogue does not have. */
#define RAPPORT_PROFILE(X) \
  X(number, arpu, "value.arpu") /* what the customer spends a month */
#define RAPPORT_OFFER(X) \
  X(number, price, "price")
#define RAPPORT_CANDIDATE(X)  \
  X(propensity, "propensity") \
  X(value, "value")           \
  X(weight, "weight")         \
  X(lever, "lever")           \
  X(rejected, "times.rejected.30d") /* how often the offer was rejected in 30 days */

/* What a scenario may set: default, least and greatest. */
#define RAPPORT_PARAMETERS(X) \
  X(reach, 0.5, 0, 10)

/* Why a candidate has its score. */
#define RAPPORT_REASONS(X) \
  X(TOO_DEAR)              \
  X(REJECTED_LATELY)

#include "sdk/rapport.h"

static void rank(struct rapport_decision *d) {
  int spend_known = rapport_known(d, arpu);
  double most = rapport_number_or(d, arpu, 0) * (1 + rapport_parameter(d, reach));
  for (rapport_u32 i = 0; i < d->n; i++) {
    double score = rapport_of(d, propensity, i) * rapport_of(d, value, i) * rapport_of(d, weight, i) * rapport_of(d, lever, i);
    double times = rapport_of(d, rejected, i);
    if (times > 0) {
      score /= 1 + times;
      rapport_because(d, i, REJECTED_LATELY);
    }
    if (spend_known && rapport_offer_number_or(d, price, i, 0) > most) {
      rapport_because(d, i, TOO_DEAR);
      rapport_veto(d, i);
    }
    rapport_score(d, i, score);
  }
}
