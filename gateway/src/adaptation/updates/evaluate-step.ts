import { AppError } from '@copal/shared/errors.ts'
import { perplexity } from '@copal/shared/metrics/perplexity.ts'
import type { EvaluateJob, EvaluateResult } from '@copal/shared/wire/adaptation-jobs.ts'
import { listEvaluations, recordEvaluations } from '../../storage/db/queries/evaluation-queries.ts'
import { findJob, type JobRow } from '../../storage/db/queries/job-queries.ts'
import { findMask } from '../../storage/db/queries/mask-queries.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { knownHoldouts } from './holdouts.ts'
import { evaluationWindow } from './evaluation-window.ts'
import { createJob, denseJobId, evaluateJobId, resultOf, wrongResult } from './node-jobs.ts'
import { modelOf, versionOf, type StepDeps, type StepOutcome } from './update-step.ts'

/** Has nodes evaluate the mask on every known holdout, and the dense model where that was not done; records both. */
export async function evaluate(deps: StepDeps, update: UpdateRow): Promise<StepOutcome | undefined> {
  const [masked, dense] = await Promise.all([
    findJob(deps.db, evaluateJobId(update.id)),
    findJob(deps.db, denseJobId(update.id)),
  ])
  if (!masked) {
    await createEvaluations(deps, update)
    return undefined
  }
  const maskedResult = resultOf(masked)
  const denseResult = dense ? resultOf(dense) : null
  if (!maskedResult || (dense && !denseResult)) return undefined
  if (dense && denseResult) await record(deps, update, 0, dense, denseResult)
  await record(deps, update, versionOf(update), masked, maskedResult)
  return { event: 'evaluated', patch: {} }
}

async function createEvaluations(deps: StepDeps, update: UpdateRow): Promise<void> {
  const windowTokens = evaluationWindow(await modelOf(deps, update))
  const [holdouts, mask, known] = await Promise.all([
    knownHoldouts(deps, update.domains, windowTokens),
    findMask(deps.db, update.model, versionOf(update)),
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
    await createJob(deps, update, { ...base, id: denseJobId(update.id), mask: null, holdouts: missing })
  }
  // Last: where it is there, the dense one is too if it is needed.
  await createJob(deps, update, { ...base, id: evaluateJobId(update.id), mask: mask.sha256, holdouts })
}

async function record(
  deps: StepDeps,
  update: UpdateRow,
  version: number,
  job: JobRow,
  result: NonNullable<JobRow['result']>,
): Promise<void> {
  if (result.kind !== 'evaluate' || job.payload.kind !== 'evaluate')
    throw wrongResult(job, `it is of kind '${result.kind}'`)
  const rows = job.payload.holdouts.map(({ sha256, domain }) => {
    const found = result.domains.find(({ holdoutSha256 }) => holdoutSha256 === sha256)
    if (!found) throw wrongResult(job, `domain '${domain}' is missing`)
    return {
      model: update.model,
      version,
      domain,
      holdoutSha256: sha256,
      tokens: found.tokens,
      nllMean: requireFinite(version, found),
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
      'so the mask is not promoted. Ask for a lower sparsity or another method.',
  )
}
