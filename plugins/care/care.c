/*
 * care: service before sales, when something is wrong between us and the customer.
 *
 * It is wrong where a complaint is open, the last survey's answer was low, or the
 * hotline was called often. Then all that is no sale comes first, whatever the scores;
 * sales come behind, or not at all. Otherwise the scores are those of pvcl, to the bit.
 */
#define RAPPORT_NAME "care"
#define RAPPORT_VERSION "1.0.0"
#define RAPPORT_DESCRIPTION "Service and care before sales where a complaint is open, the last survey was bad or the hotline was called often; else propensity × value × context weight × lever."
#define RAPPORT_PROFILE(X)                            \
  X(flag, complaint_open, "service.complaint_open")   \
  X(number, satisfaction, "service.satisfaction")     \
  X(number, hotline_calls, "service.hotline_calls")
#define RAPPORT_OFFER(X) X(text, class, "class")
#define RAPPORT_CANDIDATE(X)  \
  X(propensity, "propensity") \
  X(value, "value")           \
  X(weight, "weight")         \
  X(lever, "lever")           \
  X(since_rejected, "days_since.rejected")
#define RAPPORT_PARAMETERS(X)     \
  X(value_weight, 1, 0, 1)        \
  X(unhappy_at_most, 4, 0, 100)   \
  X(calls_at_least, 5, 1, 100000) \
  X(hold_sales, 1, 0, 1)          \
  X(rest_days, 30, 0, 400)
#define RAPPORT_REASONS(X) X(CARE_FIRST) X(SALES_WAIT) X(COMPLAINT_OPEN) X(REJECTED_LATELY)
#include "../../sdk/c/rapport.h"

/* The scores of pvcl. */
static void arbitrate(struct rapport_decision *d) {
  const double *p = rapport_column(d, propensity);
  const double *v = rapport_column(d, value);
  const double *w = rapport_column(d, weight);
  const double *l = rapport_column(d, lever);
  double *restrict score = d->score;
  double much = rapport_parameter(d, value_weight);
  if (much == 1) { /* 0 + v is not v where v is −0 */
    for (rapport_u32 i = 0; i < d->n; i++) score[i] = p[i] * v[i] * w[i] * l[i];
    return;
  }
  for (rapport_u32 i = 0; i < d->n; i++) score[i] = p[i] * ((1 - much) + much * v[i]) * w[i] * l[i];
}

/* A sale's score when it has to wait: below 0, and in the same order as before. */
static double behind(double score) { return score < 0 ? score - 1 : -1 / (1 + score); }

static void rank(struct rapport_decision *d) {
  arbitrate(d);
  int complaint = rapport_flag_or(d, complaint_open, 0);
  int unhappy = rapport_known(d, satisfaction) && rapport_number_or(d, satisfaction, 0) <= rapport_parameter(d, unhappy_at_most);
  int calling = rapport_number_or(d, hotline_calls, 0) >= rapport_parameter(d, calls_at_least);
  if (!complaint && !unhappy && !calling) return;

  int hold = complaint && rapport_parameter(d, hold_sales) >= 0.5;
  double rest = rapport_parameter(d, rest_days);
  const double *since = rapport_column(d, since_rejected);
  for (rapport_u32 i = 0; i < d->n; i++) {
    struct rapport_text what = rapport_offer_text_or(d, class, i, RAPPORT_TEXT("marketing"));
    int service = rapport_equal(what, RAPPORT_TEXT("service"));
    int sale = !service && !rapport_equal(what, RAPPORT_TEXT("care"));
    if (sale && hold) {
      rapport_veto(d, i);
      rapport_because(d, i, COMPLAINT_OPEN);
    } else if (!service && since[i] >= 0 && since[i] < rest) { /* a notice is owed, whatever was said to it */
      rapport_veto(d, i);
      rapport_because(d, i, REJECTED_LATELY);
    } else if (sale) {
      rapport_score(d, i, behind(d->score[i]));
      rapport_because(d, i, SALES_WAIT);
    } else {
      if (d->score[i] < 0) rapport_score(d, i, 0);
      rapport_because(d, i, CARE_FIRST);
    }
  }
}
