/*
 * reads: reads one of everything through rapport.h. The tests of server/sandbox
 * build it and check what it makes of it.
 */
#define RAPPORT_NAME "reads"
#define RAPPORT_VERSION "1"
#define RAPPORT_PROFILE(X)                \
  X(number, arpu, "value.arpu")           \
  X(flag, heavy, "tag.high_traffic")      \
  X(text, segment, "general.customer_type") \
  X(time, joined, "general.customer_since")
#define RAPPORT_OFFER(X)    \
  X(number, price, "price") \
  X(flag, data, "data")     \
  X(text, kind, "kind")
#define RAPPORT_CHANNEL(X) X(number, cost, "cost")
#define RAPPORT_CANDIDATE(X) X(lever, "lever") X(value, "value")
#define RAPPORT_PARAMETERS(X) X(offset, 0, -1000, 1000)
#define RAPPORT_REASONS(X) X(READ)
#include "../../../../sdk/c/rapport.h"

/* The sum of a text's bytes. */
static double sum(struct rapport_text t) {
  double s = 0;
  for (rapport_u32 i = 0; i < t.size; i++) s += (unsigned char)t.data[i];
  return s;
}

static void rank(struct rapport_decision *d) {
  const struct rapport_text none = RAPPORT_TEXT("");
  double of_customer = rapport_parameter(d, offset) + rapport_number_or(d, arpu, 0);
  if (rapport_known(d, heavy)) of_customer += rapport_flag_or(d, heavy, 0) ? 1000 : 2000;
  of_customer += sum(rapport_text_or(d, segment, none));
  if (rapport_known(d, joined)) of_customer += (double)(d->now - rapport_time_or(d, joined, 0));
  for (rapport_u32 i = 0; i < d->n; i++) {
    double score = of_customer + rapport_of(d, lever, i) * rapport_of(d, value, i);
    score += rapport_offer_number_or(d, price, i, 0);
    if (rapport_offer_known(d, data, i)) score += rapport_offer_flag_or(d, data, i, 0) ? 10000 : 20000;
    score += sum(rapport_offer_text_or(d, kind, i, none));
    score -= rapport_channel_number_or(d, cost, i, 0);
    rapport_score(d, i, score);
    rapport_because(d, i, READ);
    if (i % 3 == 1) rapport_veto(d, i);
  }
  rapport_log(RAPPORT_LOG_WARN, RAPPORT_TEXT("all is read"));
}
