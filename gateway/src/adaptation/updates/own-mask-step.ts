import { AppError } from '@copal/shared/errors.ts'
import type { DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import type { EvaluateResult } from '@copal/shared/wire/adaptation-jobs.ts'
import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import { sameNumerics } from '@copal/shared/metrics/numerics.ts'
import { insertDecision, listDecisionsOf, SERVICE_ACTOR } from '../../storage/db/queries/decision-queries.ts'
import { countCandidates, listCellsOn, type GateCell } from '../../storage/db/queries/gate-queries.ts'
import { findJob } from '../../storage/db/queries/job-queries.ts'
import { findModel, type ModelRow } from '../../storage/db/queries/model-queries.ts'
import { setOwnMask } from '../../storage/db/queries/own-mask-queries.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { candidateConfidence } from '../gate/candidate-confidence.ts'
import type { GateVerdict } from '../gate/gate-verdict.ts'
import { describeGain, gainFigure } from '../gate/own-mask-verdict.ts'
import { removeOwnMasks, type OwnMaskRemoval } from '../own-masks/remove-own-masks.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { mustConfirm, rejection } from './gate-outcome.ts'
import { nameOf } from './trial-check.ts'
import { evaluateJobId } from './update-jobs.ts'
import { requireModel, type StepDeps, type StepOutcome } from './update-step.ts'

/** Returns what follows from the verdict on a mask of a single domain: it serves that domain, without a canary, or fails. */
export async function ownMaskOutcome(
  deps: StepDeps,
  update: UpdateRow,
  policy: AdaptationPolicy,
  { verdict, reason, figures }: GateVerdict,
): Promise<StepOutcome> {
  const decision = { kind: 'own_mask', verdict, reason, figures, actor: SERVICE_ACTOR } as const
  if (verdict === 'failed') return rejection(update, decision)
  const event = (await mustConfirm(deps, update, policy)) ? 'unconfirmed' : 'approved'
  return { event, patch: {}, decision }
}

/**
 * Makes a mask serve its domain. Nodes are not waited for: until one holds the mask, the shared one serves.
 *
 * @throws AppError `conflict` when another mask is active than it was compared with, or the policy no longer allows it
 */
export async function promoteOwnMask(
  deps: StepDeps,
  update: UpdateRow,
  version: number,
): Promise<StepOutcome | undefined> {
  const domain = update.ownDomain ?? ''
  const parent = update.parentVersion ?? 0
  const { activeVersion } = await requireModel(deps, update)
  if (activeVersion !== parent) {
    throw new AppError(
      'conflict',
      `m${version} was compared with ${nameOf(parent)}, but ${nameOf(activeVersion)} became active meanwhile. Start the ` +
        'update again.',
    )
  }
  await requireOwnMasks(deps, update, version)
  await setOwnMask(deps.db, update, version)
  // What turns the policy off removes the masks that it finds; the update then fails, which removes this one.
  await requireOwnMasks(deps, update, version)
  const { domainVersions } = await requireModel(deps, update)
  if (domainVersions.get(domain) !== version) return undefined
  const reason = `Serves '${domain}' beside the shared ${nameOf(parent)}.`
  const decision = { kind: 'promote', verdict: 'done', reason, actor: SERVICE_ACTOR } as const
  return { event: 'promoted', patch: {}, decision }
}

/** @throws AppError `conflict` when the policy allows no own masks */
async function requireOwnMasks(deps: StepDeps, update: UpdateRow, version: number): Promise<void> {
  if ((await findPolicy(deps, update.model)).discovery.own_masks) return
  throw new AppError(
    'conflict',
    `m${version} does not serve '${update.ownDomain}': discovery.own_masks was turned off.`,
  )
}

/**
 * Judges the masks of single domains anew beside a shared mask that has just become active, by the losses that its update
 * measured. A domain keeps its mask only if the shared one was measured on the same held-out text and is still worse by what
 * the policy demands. Each is the first candidate for its domain beside the new shared mask, and is judged once: both outcomes
 * are decisions of the update.
 */
export async function rejudgeOwnMasks(deps: StepDeps, update: UpdateRow): Promise<void> {
  const model = await findModel(deps.db, update.model)
  if (!model || model.activeVersion !== update.maskVersion || model.domainVersions.size === 0) return
  const judged = (await listDecisionsOf(deps.db, update.id)).filter(({ kind }) => kind === 'own_mask')
  const own = [...model.domainVersions].filter(
    ([, version]) => !judged.some(({ maskVersion }) => maskVersion === version),
  )
  if (own.length === 0) return
  const job = await findJob(deps.db, evaluateJobId(update))
  const shared = job?.result?.kind === 'evaluate' ? job.result : undefined
  const hashes = shared?.domains.map(({ holdoutSha256 }) => holdoutSha256) ?? []
  const [policy, cells] = await Promise.all([
    findPolicy(deps, model.id),
    listCellsOn(deps.db, model.id, hashes),
  ])
  const removals: OwnMaskRemoval[] = []
  for (const [domain, version] of own) {
    const asked = { model: model.id, parentVersion: model.activeVersion, ownDomain: domain }
    const candidate = (await countCandidates(deps.db, asked, version)) + 1
    const review = reviewOwnMask({ model, policy, shared, cells }, { domain, version, candidate })
    if (review.isKept) await recordKept(deps, update, version, review)
    else removals.push({ domain, updateId: update.id, reason: review.reason, figures: review.figures })
  }
  const isCurrent = (now: { activeVersion: number }) => now.activeVersion === update.maskVersion
  await removeOwnMasks(
    deps,
    model.id,
    (now) =>
      isCurrent(now)
        ? removals.filter(({ domain }) => now.domainVersions.get(domain) === model.domainVersions.get(domain))
        : [],
    SERVICE_ACTOR,
  )
}

/** Whether a domain keeps its own mask beside a new shared one, and why. */
interface OwnMaskReview {
  isKept: boolean
  reason: string
  figures: DecisionFigure[]
}

/** Judges the own mask of a domain beside the active shared one, of which `shared` are the losses. A pure function. */
function reviewOwnMask(
  {
    model: { activeVersion },
    policy: { gate, discovery },
    shared,
    cells,
  }: {
    model: ModelRow
    policy: AdaptationPolicy
    shared: EvaluateResult | undefined
    cells: readonly GateCell[]
  },
  { domain, version, candidate }: { domain: string; version: number; candidate: number },
): OwnMaskReview {
  const ends = (reason: string, figures: DecisionFigure[] = []) => ({ isKept: false, reason, figures })
  const name = `the new shared ${nameOf(activeVersion)}`
  const parent = shared?.domains.find((each) => each.domain === domain)
  const cell = cells.find((each) => each.version === version && each.holdoutSha256 === parent?.holdoutSha256)
  if (cell && !sameNumerics(cell.numerics, shared?.numerics ?? null))
    return ends(`m${version} was measured in another precision or form than ${name}.`)
  if (!parent?.windowTokens || !cell?.windowNll || cell.windowNll.length !== parent.windowTokens.length)
    return ends(`m${version} was not measured on the same held-out text as ${name}.`)
  const confidence = candidateConfidence(gate.confidence, candidate)
  const demand = { domain, minGain: discovery.own_mask_gain }
  const figure = gainFigure(
    {
      domain,
      sha256: parent.holdoutSha256,
      windowTokens: parent.windowTokens,
      isNew: false,
      weight: 1,
      candidate: cell,
      parent: { nllMean: parent.nllMean, windowNll: parent.windowNll ?? null },
    },
    confidence,
    demand.minGain,
  )
  const gain = describeGain(figure, demand, confidence)
  if (figure.passed) {
    return {
      isKept: true,
      reason: `m${version} still serves '${domain}' beside ${name}. ${gain}`,
      figures: [figure],
    }
  }
  const lost = `beside ${name}, m${version} no longer gains what discovery.own_mask_gain demands.`
  return ends(`${lost} ${gain}`, [figure])
}

/** Stores that a domain keeps its mask, so that later candidates for the domain count it. */
async function recordKept(
  deps: StepDeps,
  { id: updateId, model }: UpdateRow,
  maskVersion: number,
  { reason, figures }: OwnMaskReview,
): Promise<void> {
  const decision = { kind: 'own_mask', verdict: 'passed', actor: SERVICE_ACTOR } as const
  await insertDecision(deps.db, {
    ...decision,
    model,
    updateId,
    maskVersion,
    reason,
    figures,
    createdAt: deps.nowMs(),
  })
}
