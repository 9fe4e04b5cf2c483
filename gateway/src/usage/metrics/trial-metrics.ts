import type { Database } from '../../contracts/database.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import type { MetricFamily } from '../../telemetry/exposition.ts'
import { sumTrialScores } from '../../storage/db/queries/shadow-score-queries.ts'
import { trialsInForce } from '../../storage/db/trials-in-force.ts'

/** Returns the shares of trials. The traffic of a canary is in `copal_requests_total`, its loss in `copal_drift_gap_nats`. */
export function trialFamilies(models: readonly ModelRow[]): MetricFamily[] {
  const kinds = [
    { kind: 'canary', subjects: 'conversations' },
    { kind: 'shadow', subjects: 'requests' },
  ] as const
  return kinds.map(({ kind, subjects }) => ({
    name: `copal_model_${kind}_share`,
    help: `Share of the ${subjects} on which a mask is tested beside the active one.`,
    type: 'gauge',
    samples: models.flatMap((model) => {
      const trial = trialsInForce(model)[kind]
      return trial ? [{ labels: { model: model.id, mask_version: trial.version }, value: trial.share }] : []
    }),
  }))
}

/** Returns what the canaries of updates and the watches showed when they were judged last. */
export function verdictFamilies(models: readonly ModelRow[]): MetricFamily[] {
  const judged = models.flatMap((model) => {
    const { canary } = trialsInForce(model)
    const watch = model.watch?.version === model.activeVersion ? model.watch : undefined
    return [
      { kind: 'canary', trial: canary },
      { kind: 'watch', trial: watch },
    ].flatMap(({ kind, trial }) =>
      trial?.evidence
        ? [
            {
              labels: { model: model.id, mask_version: trial.version, trial: kind },
              evidence: trial.evidence,
            },
          ]
        : [],
    )
  })
  return [
    {
      name: 'copal_trial_gap_nats',
      help: 'Loss by the mask that an update tests or that is watched, beside the other mask: mean and confidence bounds, nats per prompt token.',
      type: 'gauge',
      samples: judged.flatMap(({ labels, evidence }) =>
        [
          { bound: 'mean', value: evidence.gap },
          { bound: 'lower', value: evidence.lower },
          { bound: 'upper', value: evidence.upper },
        ].flatMap(({ bound, value }) => (value === null ? [] : [{ labels: { ...labels, bound }, value }])),
      ),
    },
    {
      name: 'copal_trial_scored_requests',
      help: 'Requests that both masks of a canary or a watch have scored.',
      type: 'gauge',
      samples: judged.map(({ labels, evidence }) => ({ labels, value: evidence.requests })),
    },
  ]
}

/** Returns the scores of outputs of the active masks under the masks of shadows. */
export async function shadowFamilies(db: Database, models: readonly ModelRow[]): Promise<MetricFamily[]> {
  const parts = (await Promise.all(models.map((model) => partsOf(db, model)))).flat()
  return [
    {
      name: 'copal_shadow_gap_nats',
      help: 'Loss by the mask under test: its negative log-likelihood minus that of the active one, nats per token.',
      type: 'gauge',
      samples: parts
        .filter(({ tokens }) => tokens > 0)
        .map(({ labels, tokens, gap }) => ({ labels, value: gap / tokens })),
    },
    {
      name: 'copal_shadow_tokens_total',
      help: 'Tokens scored under the active mask and the mask under test.',
      type: 'counter',
      samples: parts.map(({ labels, tokens }) => ({ labels, value: tokens })),
    },
  ]
}

async function partsOf(db: Database, model: ModelRow) {
  const { shadow } = trialsInForce(model)
  if (!shadow) return []
  return (await sumTrialScores(db, model, shadow)).flatMap((sum) => {
    const labels = { model: model.id, domain: sum.domain, mask_version: shadow.version }
    return [
      {
        labels: { ...labels, text: 'prompt' },
        tokens: sum.promptTokens,
        gap: sum.promptNllShadow - sum.promptNll,
      },
      {
        labels: { ...labels, text: 'answer' },
        tokens: sum.answerTokens,
        gap: sum.answerNllShadow - sum.answerNll,
      },
    ]
  })
}
