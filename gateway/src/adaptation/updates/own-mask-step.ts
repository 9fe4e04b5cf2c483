import { AppError } from '@copal/shared/errors.ts'
import { sameNumerics } from '@copal/shared/metrics/numerics.ts'
import { SERVICE_ACTOR } from '../../storage/db/queries/decision-queries.ts'
import { listCellsOn } from '../../storage/db/queries/gate-queries.ts'
import { findJob } from '../../storage/db/queries/job-queries.ts'
import { findModel } from '../../storage/db/queries/model-queries.ts'
import { setOwnMask } from '../../storage/db/queries/own-mask-queries.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import type { GateVerdict } from '../gate/gate-verdict.ts'
import { gainFigure } from '../gate/own-mask-verdict.ts'
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
  { verdict, reason, figures }: GateVerdict,
): Promise<StepOutcome> {
  const decision = { kind: 'own_mask', verdict, reason, figures, actor: SERVICE_ACTOR } as const
  if (verdict === 'failed') return rejection(update, decision)
  const policy = await findPolicy(deps, update.model)
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
 * the policy demands.
 */
export async function rejudgeOwnMasks(deps: StepDeps, update: UpdateRow): Promise<void> {
  const model = await findModel(deps.db, update.model)
  const own = [...(model?.domainVersions ?? [])]
  if (!model || model.activeVersion !== update.maskVersion || own.length === 0) return
  const [{ gate, discovery }, job] = await Promise.all([
    findPolicy(deps, model.id),
    findJob(deps.db, evaluateJobId(update)),
  ])
  const result = job?.result?.kind === 'evaluate' ? job.result : undefined
  const shared = result?.domains ?? []
  const numerics = result?.numerics ?? null
  const cells = await listCellsOn(
    deps.db,
    model.id,
    shared.map(({ holdoutSha256 }) => holdoutSha256),
  )
  const removals = own.flatMap(([domain, version]): OwnMaskRemoval[] => {
    const parent = shared.find((each) => each.domain === domain)
    const cell = cells.find(
      (each) => each.version === version && each.holdoutSha256 === parent?.holdoutSha256,
    )
    const windows = parent?.windowTokens?.length
    if (cell && !sameNumerics(cell.numerics, numerics)) {
      const reason = `m${version} was measured in another precision or form than the new shared ${nameOf(model.activeVersion)}.`
      return [{ domain, reason }]
    }
    if (!parent?.windowTokens || !cell?.windowNll || cell.windowNll.length !== windows) {
      const reason = `m${version} was not measured on the same held-out text as the new shared ${nameOf(model.activeVersion)}.`
      return [{ domain, reason }]
    }
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
      gate.confidence,
      discovery.own_mask_gain,
    )
    if (figure.passed) return []
    const reason = `beside the new shared ${nameOf(model.activeVersion)}, m${version} no longer gains what discovery.own_mask_gain demands.`
    return [{ domain, reason, figures: [figure] }]
  })
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
