import type { Sample } from '@copal/shared/telemetry/family.ts'
import type { TrialKind } from '../../contracts/trial.ts'
import type { Database } from '../../contracts/database.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import { sumShadowScores } from '../../storage/db/queries/shadow-score-queries.ts'
import { trialsInForce } from '../../storage/db/trials-in-force.ts'
import { MAX_DOMAINS } from './label-bounds.ts'
import type { MetricSamples } from './metric-samples.ts'

/** Returns the shares of trials, and what the canaries of updates and the watches showed when they were judged last. */
export function trialSamples(models: readonly ModelRow[]) {
  const shares = (kind: TrialKind) =>
    models.flatMap((model): Sample[] => {
      const trial = trialsInForce(model)[kind]
      return trial ? [{ labels: [model.id, trial.version], value: trial.share }] : []
    })
  const judged = models.flatMap((model) => {
    const { canary } = trialsInForce(model)
    const watch = model.watch?.version === model.activeVersion ? model.watch : undefined
    return [
      { kind: 'canary', trial: canary },
      { kind: 'watch', trial: watch },
    ].flatMap(({ kind, trial }) =>
      trial?.evidence ? [{ labels: [model.id, trial.version, kind], evidence: trial.evidence }] : [],
    )
  })
  return {
    modelCanaryShare: shares('canary'),
    modelShadowShare: shares('shadow'),
    trialGap: judged.flatMap(({ labels, evidence }) =>
      [
        { bound: 'mean', value: evidence.gap },
        { bound: 'lower', value: evidence.lower },
        { bound: 'upper', value: evidence.upper },
      ].flatMap(({ bound, value }): Sample[] =>
        value === null ? [] : [{ labels: [...labels, bound], value }],
      ),
    ),
    trialScoredRequests: judged.map(({ labels, evidence }) => ({ labels, value: evidence.requests })),
  } satisfies Partial<MetricSamples>
}

/** Returns the scores of outputs of the active masks under the masks of shadows. */
export async function shadowSamples(
  db: Database,
  models: readonly ModelRow[],
): Promise<MetricSamples<'shadowGap' | 'shadowTokens'>> {
  const shadowOf = new Map(models.map((model) => [model.id, trialsInForce(model).shadow]))
  const byModel = Map.groupBy(await sumShadowScores(db, models), ({ model }) => model)
  // Scores are stored of registered domains only.
  const parts = [...byModel.values()].flatMap((sums) =>
    sums.slice(0, MAX_DOMAINS).flatMap((sum) => {
      const labels = [sum.model, sum.domain, shadowOf.get(sum.model)?.version ?? 0]
      return [
        { labels: [...labels, 'prompt'], tokens: sum.promptTokens, gap: sum.promptNllShadow - sum.promptNll },
        { labels: [...labels, 'answer'], tokens: sum.answerTokens, gap: sum.answerNllShadow - sum.answerNll },
      ]
    }),
  )
  return {
    shadowGap: parts
      .filter(({ tokens }) => tokens > 0)
      .map(({ labels, tokens, gap }) => ({ labels, value: gap / tokens })),
    shadowTokens: parts.map(({ labels, tokens }) => ({ labels, value: tokens })),
  }
}
