import { AppError } from '@copal/shared/errors.ts'
import { perplexity } from '@copal/shared/metrics/perplexity.ts'
import type { EvaluateJob, EvaluateResult } from '@copal/shared/wire/adaptation-jobs.ts'
import { listEvaluations, recordEvaluations } from '../../storage/db/queries/evaluation-queries.ts'
import { findMask } from '../../storage/db/queries/mask-queries.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { ensureFrozenHoldouts } from './frozen-holdouts.ts'
import { evaluationWindow } from './evaluation-window.ts'
import {
  queueJob,
  evaluateDenseJobId,
  evaluateJobId,
  invalidResult,
  type FinishedJob,
  type JobStep,
} from './update-jobs.ts'
import { requireModel, requireMaskVersion, type StepDeps, type StepOutcome } from './update-step.ts'

/**
 * The step in which nodes evaluate the mask on every holdout, and the dense model on holdouts without such an
 * evaluation; the gateway then records both.
 */
export const evaluateStep: JobStep = {
  jobIds: (update) => [evaluateJobId(update), evaluateDenseJobId(update)],
  start: queueEvaluations,
  finish: recordResults,
}

async function recordResults(
  deps: StepDeps,
  update: UpdateRow,
  [masked, dense]: FinishedJob[],
): Promise<StepOutcome | undefined> {
  if (!masked) return undefined
  if (dense) await recordEvaluation(deps, update, 0, dense)
  await recordEvaluation(deps, update, requireMaskVersion(update), masked)
  return { event: 'approved', patch: {} }
}

async function queueEvaluations(deps: StepDeps, update: UpdateRow): Promise<void> {
  const windowTokens = evaluationWindow(await requireModel(deps, update))
  const [holdouts, mask, known] = await Promise.all([
    ensureFrozenHoldouts(deps, update.domains, windowTokens),
    findMask(deps.db, update.model, requireMaskVersion(update)),
    listEvaluations(deps.db, update.model),
  ])
  if (!mask)
    throw new AppError(
      'internal_error',
      `Mask m${update.maskVersion} of update ${update.id} is not registered.`,
    )
  const base: Pick<EvaluateJob, 'kind' | 'model' | 'windowTokens'> = {
    kind: 'evaluate',
    model: update.model,
    windowTokens,
  }
  const dense = new Set(
    known.filter(({ version }) => version === 0).map(({ holdoutSha256 }) => holdoutSha256),
  )
  const missing = holdouts.filter(({ sha256 }) => !dense.has(sha256))
  if (missing.length > 0) {
    await queueJob(deps, update, {
      ...base,
      id: evaluateDenseJobId(update),
      mask: null,
      holdouts: missing,
    })
  }
  // Queued last: its presence means that the dense job, if needed, was queued too.
  await queueJob(deps, update, { ...base, id: evaluateJobId(update), mask: mask.sha256, holdouts })
}

async function recordEvaluation(
  deps: StepDeps,
  update: UpdateRow,
  version: number,
  { job, result }: FinishedJob,
): Promise<void> {
  if (result.kind !== 'evaluate' || job.payload.kind !== 'evaluate')
    throw invalidResult(job, `it has the kind '${result.kind}'`)
  const rows = job.payload.holdouts.map(({ sha256, domain }) => {
    const found = result.domains.find(({ holdoutSha256 }) => holdoutSha256 === sha256)
    if (!found) throw invalidResult(job, `domain '${domain}' is missing`)
    return {
      model: update.model,
      version,
      domain,
      holdoutSha256: sha256,
      tokens: found.tokens,
      nllMean: requireFinite(version, found),
      windowNll: null,
      createdAt: deps.nowMs(),
    }
  })
  await recordEvaluations(deps.db, rows)
}

function requireFinite(version: number, evaluation: EvaluateResult['domains'][number]): number {
  const { domain, nllMean, tokens } = evaluation
  if (nllMean !== null && tokens > 0 && Number.isFinite(perplexity(nllMean))) return nllMean
  throw new AppError(
    'mask_invalid',
    `The perplexity of ${version === 0 ? 'the dense model' : `mask m${version}`} on domain '${domain}' is not finite, ` +
      'so the mask is not promoted. Start an update with a lower sparsity or another method.',
  )
}
