import type { DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { findModel, listModels, type ModelRow } from '../../storage/db/queries/model-queries.ts'
import { clearOwnMasks } from '../../storage/db/queries/own-mask-queries.ts'

type OwnMaskDeps = Pick<Deps, 'db' | 'nowMs'>

/** Why a domain loses its own mask. */
export interface OwnMaskRemoval {
  domain: string
  reason: string
  figures?: DecisionFigure[]
  /** The update whose shared mask it was compared with; left out if it was not compared. */
  updateId?: string
}

/**
 * Lets the shared mask serve domains again; those without a mask of their own are ignored. Nodes drop the masks with their
 * next heartbeat.
 *
 * @param removalsOf called with the model, again after it has changed meanwhile
 * @param actor the id of an admin key, or `copal`
 * @returns the domains that lost their mask, with its version
 */
export async function removeOwnMasks(
  deps: OwnMaskDeps,
  modelId: string,
  removalsOf: (model: ModelRow) => readonly OwnMaskRemoval[],
  actor: string,
): Promise<Map<string, number>> {
  for (;;) {
    const model = await findModel(deps.db, modelId)
    if (!model) return new Map()
    const removals = removalsOf(model).filter(({ domain }) => model.domainVersions.has(domain))
    const versions = new Map(removals.map(({ domain }) => [domain, model.domainVersions.get(domain) ?? 0]))
    if (removals.length === 0) return versions
    const decisions = removals.map((removal) => removalDecision(model, removal, actor, deps.nowMs()))
    if (await clearOwnMasks(deps.db, model, [...versions.keys()], decisions)) return versions
  }
}

/** Removes every own mask of a model. */
export async function removeAllOwnMasks(
  deps: OwnMaskDeps,
  modelId: string,
  reason: string,
  actor: string,
): Promise<void> {
  const removalsOf = ({ domainVersions }: ModelRow) =>
    [...domainVersions.keys()].map((domain) => ({ domain, reason }))
  await removeOwnMasks(deps, modelId, removalsOf, actor)
}

/** Removes the masks that a domain has for itself, of every model. */
export async function removeOwnMasksOf(
  deps: OwnMaskDeps,
  domain: string,
  reason: string,
  actor: string,
): Promise<void> {
  for (const { id, domainVersions } of await listModels(deps.db)) {
    if (domainVersions.has(domain)) await removeOwnMasks(deps, id, () => [{ domain, reason }], actor)
  }
}

/** Returns the decision that a domain's own mask no longer serves it. */
export function removalDecision(
  { domainVersions }: Pick<ModelRow, 'domainVersions'>,
  { domain, reason, figures = [], updateId }: OwnMaskRemoval,
  actor: string,
  createdAt: number,
) {
  return {
    updateId: updateId ?? null,
    maskVersion: domainVersions.get(domain) ?? null,
    kind: 'own_mask' as const,
    verdict: 'done' as const,
    reason: `The shared mask serves '${domain}' again: ${reason}`,
    figures,
    actor,
    createdAt,
  }
}
