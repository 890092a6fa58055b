/*
 * my_strategy is a Rapport strategy: it ranks offers by expected value, makes
 * those wait that the customer has rejected lately, and does not offer what is
 * far above what the customer spends.
 */
#include "sdk/rapport.h"

/* What the strategy reads, in the order of the manifest. The server brings exactly
 * that, and refuses a strategy that reads what its profile schema or catalogue does
 * not have. */
enum { ARPU };                                            /* profile */
enum { PRICE };                                           /* offer */
enum { PROPENSITY, VALUE, WEIGHT, LEVER, REJECTED };      /* candidate */
enum { REACH };                                           /* parameters */
enum { NO_REASON, TOO_DEAR, REJECTED_LATELY };            /* reasons, from 1 */

RAPPORT_MANIFEST(
    "{\"abi\":1,\"name\":\"my_strategy\",\"version\":\"0.1.0\","
    "\"description\":\"Expected value; waits after a rejection, and offers nothing too dear.\","
    "\"profile\":[{\"name\":\"value.arpu\",\"type\":\"number\"}],"
    "\"offer\":[{\"name\":\"price\",\"type\":\"number\"}],"
    "\"candidate\":[\"propensity\",\"value\",\"weight\",\"lever\",\"times.rejected.30d\"],"
    "\"parameters\":[{\"name\":\"reach\",\"default\":0.5,\"min\":0,\"max\":10}],"
    "\"reasons\":[\"TOO_DEAR\",\"REJECTED_LATELY\"]}")

static void rank(const struct rapport_call *c) {
  const double *propensity = rapport_column(c, PROPENSITY);
  const double *value = rapport_column(c, VALUE);
  const double *weight = rapport_column(c, WEIGHT);
  const double *lever = rapport_column(c, LEVER);
  const double *rejected = rapport_column(c, REJECTED);
  rapport_u64 cell;
  int spend_known = rapport_profile_cell(c, ARPU, &cell);
  double most = rapport_number(cell) * (1 + c->parameters[REACH]);
  for (rapport_u32 i = 0; i < c->n; i++) {
    double score = propensity[i] * value[i] * weight[i] * lever[i];
    if (rejected[i] > 0) {
      score /= 1 + rejected[i];
      c->reason[i] = REJECTED_LATELY;
    }
    if (rapport_offer_cell(c, PRICE, i, &cell) && spend_known && rapport_number(cell) > most) {
      c->reason[i] = TOO_DEAR;
      rapport_set_veto(c, i);
    }
    c->score[i] = score;
  }
}
