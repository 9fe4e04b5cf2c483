import { findDatasets } from '../db/queries/datasets.ts'
import { findMask, promoteMask } from '../db/queries/masks.ts'
import type { UpdateRow } from '../db/queries/updates.ts'
import { versionOf, type StepDeps, type StepOutcome } from './step.ts'

/** After this time a mask counts as promoted even where a live node does not serve it yet; it converges when it can. */
const CONVERGE_MS = 120_000

/** Makes the mask active, once, and waits until the live nodes serve it. */
export async function promote(deps: StepDeps, update: UpdateRow): Promise<StepOutcome | undefined> {
  const version = versionOf(update)
  let mask = await findMask(deps.db, update.model, version)
  if (mask && mask.promotedAt === null) {
    await promoteMask(
      deps.db,
      update,
      version,
      await findDatasets(deps.db, update.datasets ?? []),
      deps.nowMs(),
    )
    mask = await findMask(deps.db, update.model, version)
  }
  // Not promoted even so: the update is not promoting any more, as its row tells who reads it again.
  if (!mask?.promotedAt) return undefined
  const late = deps.nowMs() - mask.promotedAt >= CONVERGE_MS
  return late || (await everyNodeServes(deps, update.model, version))
    ? { event: 'converged', patch: {} }
    : undefined
}

async function everyNodeServes(deps: StepDeps, model: string, version: number): Promise<boolean> {
  const { nodes } = await deps.fleet.snapshot()
  const alive = nodes.filter((node) => node.model === model && node.alive && !node.draining)
  return alive.length > 0 && alive.every((node) => node.activeVersion === version)
}
