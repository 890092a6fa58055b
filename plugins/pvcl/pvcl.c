/*
 * pvcl: the standard arbitration, propensity × value × context weight × lever.
 *
 * The parameter value_weight says how much the value matters beside the
 * propensity: at 1 it counts in full, at 0 all offers count as worth 1. The
 * product is taken from left to right, so that with a value_weight of 1 every
 * score has the same bits as that of the server's built-in arbitration.
 */
#include "../../sdk/c/rapport.h"

enum { PROPENSITY, VALUE, WEIGHT, LEVER };
enum { VALUE_WEIGHT };

RAPPORT_MANIFEST(
    "{\"abi\":1,\"name\":\"pvcl\",\"version\":\"1.0.0\","
    "\"description\":\"Propensity × value × context weight × lever: the standard arbitration.\","
    "\"profile\":[],\"offer\":[],\"channel\":[],"
    "\"candidate\":[\"propensity\",\"value\",\"weight\",\"lever\"],"
    "\"parameters\":[{\"name\":\"value_weight\",\"default\":1,\"min\":0,\"max\":1}],"
    "\"reasons\":[]}")

static void rank(const struct rapport_call *c) {
  const double *p = rapport_column(c, PROPENSITY);
  const double *v = rapport_column(c, VALUE);
  const double *w = rapport_column(c, WEIGHT);
  const double *l = rapport_column(c, LEVER);
  double *restrict score = c->score;
  double value_weight = c->parameters[VALUE_WEIGHT];
  if (value_weight == 1) { /* 0 + v is not v where v is −0 */
    for (rapport_u32 i = 0; i < c->n; i++) {
      score[i] = p[i] * v[i] * w[i] * l[i];
    }
    return;
  }
  for (rapport_u32 i = 0; i < c->n; i++) {
    score[i] = p[i] * ((1 - value_weight) + value_weight * v[i]) * w[i] * l[i];
  }
}
