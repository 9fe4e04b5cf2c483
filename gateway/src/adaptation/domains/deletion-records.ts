import { recordAudit, type AuditEntry } from '../../audit/record-audit.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { SourceFilter } from '../../contracts/reservoir-object.ts'
import { SERVICE_ACTOR } from '../../storage/db/queries/decision-queries.ts'

type RecordDeps = Pick<Deps, 'db' | 'nowMs'>

/** Counts the samples and the frozen texts (of datasets and holdouts) that a deletion deleted in a domain. */
export interface DeletedNumbers {
  deleted: number
  deleted_frozen: number
  /** The updates and masks that were made of datasets with such texts, where they were looked for. */
  updates?: string[]
  masks?: string[]
}

/** Returns the numbers of a deletion that begins. They are counted up while it deletes, so that they are right also if it fails. */
export function nothingDeleted(): DeletedNumbers {
  return { deleted: 0, deleted_frozen: 0 }
}

/**
 * Records deleted texts in the audit log. Where that fails, their number is in the server log.
 *
 * @throws what failed
 */
export async function recordDeleted(deps: RecordDeps, deleted: number, entry: AuditEntry): Promise<void> {
  try {
    await recordAudit(deps, entry)
  } catch (error) {
    console.error(`The deletion of ${deleted} text(s) of '${entry.target}' is missing in the audit log.`)
    throw error
  }
}

/**
 * Records what a deletion had deleted when it failed. It throws nothing, so that the caller throws what had failed.
 *
 * @param target for the audit log
 * @param numbers by domain
 */
export async function recordFailedDeletion(
  deps: RecordDeps,
  target: string,
  filter: Pick<SourceFilter, 'keyId' | 'tenant' | 'requestId'>,
  numbers: ReadonlyMap<string, DeletedNumbers>,
): Promise<void> {
  const domains = [...numbers].flatMap(([domain, of]) =>
    of.deleted + of.deleted_frozen > 0 ? [{ domain, ...of }] : [],
  )
  if (domains.length === 0) return
  const total = domains.reduce((sum, of) => sum + of.deleted + of.deleted_frozen, 0)
  const entry = {
    actor: SERVICE_ACTOR,
    action: 'samples.deletion_failed',
    target,
    before: filter,
    after: { domains },
    reason: 'These texts were deleted before the deletion failed.',
  }
  await recordDeleted(deps, total, entry).catch((error: unknown) =>
    console.error('The audit log could not be written:', error),
  )
}
