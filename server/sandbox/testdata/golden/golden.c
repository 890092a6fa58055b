/* golden: scoring/scoring.go in C. */
#define RAPPORT_NAME "golden"
#define RAPPORT_VERSION "1.0.0"
#define RAPPORT_DESCRIPTION "Reads \"everything\", in every language."
#define RAPPORT_BUDGET 1000000, 20000
#define RAPPORT_SAYS_CHANCES 1
#define RAPPORT_PROFILE(X)                  \
  X(number, arpu, "value.arpu")             \
  X(flag, heavy, "tag.high_traffic")        \
  X(text, segment, "general.customer_type") \
  X(time, joined, "general.customer_since") \
  X(set, owned, "marketing.owned")          \
  X(number, calls, "usage.calls")           \
  X(number, willing, "context.willingness") \
  X(text, role, "context.role")
#define RAPPORT_OFFER(X)    \
  X(number, price, "price") \
  X(flag, data, "data")     \
  X(text, product, "product")
#define RAPPORT_CHANNEL(X) \
  X(number, cost, "cost")  \
  X(flag, human, "human")  \
  X(text, tone, "tone")
#define RAPPORT_CANDIDATE(X)         \
  X(propensity, "propensity")        \
  X(value, "value")                  \
  X(weight, "weight")                \
  X(lever, "lever")                  \
  X(contacts, "times.contact")       \
  X(rejected, "times.rejected.30d")  \
  X(accepted, "days_since.accepted")
#define RAPPORT_PARAMETERS(X)   \
  X(reach, 0.5, 0, 5)           \
  X(floor, -1.25, -10, 0)
#define RAPPORT_REASONS(X) X(STEP_UP) X(TIRED) X(OWNED)
#include "../../../../sdk/c/rapport.h"

static void rank(struct rapport_decision *d) {
  const struct rapport_text none = RAPPORT_TEXT("");
  const struct rapport_text elements[] = {RAPPORT_TEXT("plan_a"), RAPPORT_TEXT("Zürich"), none};
  double spend = rapport_number_or(d, arpu, 20);
  int is_heavy = rapport_flag_or(d, heavy, 0);
  double base = rapport_parameter(d, floor);
  if (rapport_known(d, heavy)) base += is_heavy ? 1 : -1;
  if (rapport_known(d, joined)) base += (double)(d->now - rapport_time_or(d, joined, 0)) / 31536000000000;
  base += rapport_len(d, owned) * 0.25;
  base += rapport_number_or(d, calls, 3) * 0.125;
  double will = rapport_number_or(d, willing, 0.5);
  if (will < -20) will = -20;
  base -= rapport_exp(-will);
  if (rapport_equal(rapport_text_or(d, segment, RAPPORT_TEXT("nobody")), RAPPORT_TEXT("Büro"))) base += 0.75;
  int agent = rapport_equal(rapport_text_or(d, role, none), RAPPORT_TEXT("agent"));
  if (agent) base *= 1.5;
  for (int i = 0; i < 3; i++)
    if (rapport_has(d, owned, elements[i])) base += 0.0625;
  for (rapport_u32 i = 0; i < d->n; i++) {
    double noise = rapport_rand_float64(d);
    rapport_u32 pick = rapport_rand_int_n(d, i + 1);
    rapport_chance(d, i, rapport_rand_uint64(d) >> 63 ? 0.5 : noise);
    if (rapport_has(d, owned, rapport_offer_text_or(d, product, i, RAPPORT_TEXT("none")))) {
      rapport_veto(d, i);
      rapport_because(d, i, OWNED);
      continue;
    }
    double p = rapport_of(d, propensity, i) * rapport_exp(-(rapport_of(d, rejected, i) * 0.5));
    double days = rapport_of(d, accepted, i);
    if (days >= 0) p /= 1 + rapport_exp((7 - days) / 3);
    double v = rapport_of(d, value, i);
    double x = __builtin_sqrt(v * v + 1) * rapport_of(d, weight, i) * rapport_of(d, lever, i);
    double score = p * x + base * noise + pick * 0.001;
    double above = rapport_offer_number_or(d, price, i, spend) - spend;
    if (above > 0) {
      score -= __builtin_sqrt(above) * rapport_parameter(d, reach);
      rapport_because(d, i, STEP_UP);
    }
    if (rapport_offer_flag_or(d, data, i, 0) && is_heavy) score *= 1.25;
    score -= rapport_channel_number_or(d, cost, i, 0.01);
    if (rapport_channel_flag_or(d, human, i, 0) && agent)
      score += rapport_exp(rapport_equal(rapport_channel_text_or(d, tone, i, none), RAPPORT_TEXT("warm")) ? 0.1 : -0.1);
    double shown = rapport_of(d, contacts, i);
    if (shown > 8) shown = 8;
    score -= rapport_exp(shown / 4 - 3);
    score += 1 / (1 + rapport_exp(v * 30));
    score += rapport_exp(-700 - noise * 50) * 1e300;
    if (shown > 3) rapport_because(d, i, TIRED);
    rapport_score(d, i, score);
  }
}
