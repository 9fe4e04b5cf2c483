import type { Database } from '../../contracts/database.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import type { MetricFamily } from '../../telemetry/exposition.ts'
import { sumShadow } from '../../storage/db/queries/shadow-score-queries.ts'
import { trialsInForce } from '../../storage/db/trials-in-force.ts'

/** Which masks are tried. What a canary answers is in `copal_requests_total`, what it costs in `copal_drift_gap_nats`. */
export function trialFamilies(models: readonly ModelRow[]): MetricFamily[] {
  const kinds = [
    { kind: 'canary', of: 'API keys' },
    { kind: 'shadow', of: 'requests' },
  ] as const
  return kinds.map(({ kind, of }) => ({
    name: `copal_model_${kind}_share`,
    help: `Share of the ${of} that a mask is tried on beside the active one.`,
    type: 'gauge',
    samples: models.flatMap((model) => {
      const trial = trialsInForce(model)[kind]
      return trial ? [{ labels: { model: model.id, mask_version: trial.version }, value: trial.share }] : []
    }),
  }))
}

/** What answers of the active masks are worth under those that score them. */
export async function shadowFamilies(db: Database, models: readonly ModelRow[]): Promise<MetricFamily[]> {
  const parts = (await Promise.all(models.map((model) => partsOf(db, model)))).flat()
  return [
    {
      name: 'copal_shadow_gap_nats',
      help: 'What the mask on trial would cost: its negative log-likelihood minus that of the active one, nats a token.',
      type: 'gauge',
      samples: parts
        .filter(({ tokens }) => tokens > 0)
        .map(({ labels, tokens, gap }) => ({ labels, value: gap / tokens })),
    },
    {
      name: 'copal_shadow_tokens_total',
      help: 'Tokens scored under the active mask and the one on trial.',
      type: 'counter',
      samples: parts.map(({ labels, tokens }) => ({ labels, value: tokens })),
    },
  ]
}

async function partsOf(db: Database, model: ModelRow) {
  const { shadow } = trialsInForce(model)
  if (!shadow) return []
  return (await sumShadow(db, model, shadow)).flatMap((sum) => {
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
