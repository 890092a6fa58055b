/*
 * pvcl: the standard arbitration, propensity × value × context weight × lever.
 *
 * The parameter value_weight says how much the value matters beside the
 * propensity: at 1 it counts in full, at 0 all offers count as worth 1. The
 * product is taken from left to right, so that with a value_weight of 1 every
 * score has the same bits as that of the server's built-in arbitration.
 */
#define RAPPORT_NAME "pvcl"
#define RAPPORT_VERSION "1.0.0"
#define RAPPORT_DESCRIPTION "Propensity × value × context weight × lever: the standard arbitration."
#define RAPPORT_CANDIDATE(X)  \
  X(propensity, "propensity") \
  X(value, "value")           \
  X(weight, "weight")         \
  X(lever, "lever")
#define RAPPORT_PARAMETERS(X) X(value_weight, 1, 0, 1)
#define RAPPORT_MANIFEST                                                                       \
  "{\"abi\":1,\"name\":\"" RAPPORT_NAME "\",\"version\":\"" RAPPORT_VERSION "\","                 \
  "\"description\":\"" RAPPORT_DESCRIPTION "\",\"profile\":[],\"offer\":[],\"channel\":[],"       \
  "\"candidate\":[\"propensity\",\"value\",\"weight\",\"lever\"],"                             \
  "\"parameters\":[{\"name\":\"value_weight\",\"default\":1,\"min\":0,\"max\":1}],\"reasons\":[]}"
#include "../../sdk/c/rapport.h"

static void rank(struct rapport_decision *d) {
  const double *p = rapport_column(d, propensity);
  const double *v = rapport_column(d, value);
  const double *w = rapport_column(d, weight);
  const double *l = rapport_column(d, lever);
  double *restrict score = d->score;
  double much = rapport_parameter(d, value_weight);
  if (much == 1) { /* 0 + v is not v where v is −0 */
    for (rapport_u32 i = 0; i < d->n; i++) {
      score[i] = p[i] * v[i] * w[i] * l[i];
    }
    return;
  }
  for (rapport_u32 i = 0; i < d->n; i++) {
    score[i] = p[i] * ((1 - much) + much * v[i]) * w[i] * l[i];
  }
}
