import { DAY_MS } from '@copal/shared/day.ts'
import type { DeletedSamples } from '@copal/shared/wire/admin-samples.ts'
import { recordAudit } from '../../audit/record-audit.ts'
import { createCallBudget, isCallsUsedUp, keepCalls } from '../../calls/call-budget.ts'
import { meterDeps } from '../../calls/metered-deps.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { SourceFilter } from '../../contracts/reservoir-object.ts'
import { SERVICE_ACTOR } from '../../storage/db/queries/decision-queries.ts'
import { listDomains } from '../../storage/db/queries/domain-queries.ts'
import { countExpired } from '../../storage/db/queries/expiry-queries.ts'
import { listKeyIds } from '../../storage/db/queries/key-queries.ts'
import { listMadeOf } from '../../storage/db/queries/made-of-queries.ts'
import {
  FROZEN_BEGUN,
  forgetPendingDeletion,
  insertPendingDeletions,
  listDomainDeletions,
  listPendingDeletions,
  listUnbegunDeletions,
  REQUEST_RUNNING,
  SAMPLES_BEGUN,
  SAMPLES_LEFT,
  setDoneUntil,
  setSamplesDeleted,
  settlePendingDeletions,
  type PendingDeletion,
} from '../../storage/db/queries/pending-deletion-queries.ts'
import { insertTombstone } from '../../storage/db/queries/tombstone-queries.ts'
import { findUpdate, listRunningUpdates, type UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { UNASSIGNED } from '../../storage/db/schema/domains.ts'
import { cancelUpdate } from '../updates/update-requests.ts'
import {
  nothingDeleted,
  recordDeleted,
  recordFailedDeletion,
  type DeletedNumbers,
} from './deletion-records.ts'
import { deleteStored } from './domain-deletion.ts'
import { deleteFrozenTexts, findAffectedDatasets, LAST_CALLS } from './frozen-texts.ts'

type SampleDeletionDeps = Pick<Deps, 'calls' | 'db' | 'reservoir' | 'nowMs'>

/** How long a deletion waits for an update. None takes so long, unless no node is there for it. */
const MAX_WAIT_MS = 7 * DAY_MS
/** How long a deletion waits for updates that follow each other. */
const MAX_TOTAL_WAIT_MS = 2 * MAX_WAIT_MS

/** The reason in the audit log where an earlier attempt may have deleted texts that no row counts. */
const AFTER_FAILURE =
  'An earlier attempt failed. Each text that it deleted is counted in an earlier row or in the server log, unless the attempt was ' +
  'stopped before it could write there.'

/** Deletions that a run of the cron task continues at most. */
const MAX_CONTINUED = 100
/** Calls that the samples of a domain take: the record that they are begun, keys of a tenant, the reservoir, the audit log. */
const SAMPLE_CALLS = 4
/** Calls with which the frozen texts of a domain are begun: which updates run, its datasets, and what was made of them. */
const DOMAIN_CALLS = 10
/** Calls with which a pending deletion is continued: keys of a tenant, one dataset that is replaced, the audit log, its record twice. */
const PENDING_CALLS = 37
/** Calls after a cancellation: whether it took place, and the audit log. */
const CANCELLED_CALLS = 2
/** Calls after a domain is forgotten: the audit log. */
const AUDIT_CALLS = 1
/** Calls after the samples: the record that they are deleted, and which deletions are pending. */
const BEGUN_CALLS = 2

/**
 * Deletes the texts of a request, a key or a tenant in all domains, and among the texts that have no domain yet.
 *
 * Samples are deleted at once, and queued ones are not stored. Frozen texts are deleted unless an update may read them, and
 * only in as many datasets as one request can look through: otherwise the domain is pending, and {@link finishDeletions}
 * deletes them, when the update has ended. It also deletes the samples of domains beyond what one request can call, and what a
 * request leaves that fails.
 *
 * @param filter at least one field; texts that match all of them are deleted
 */
export async function deleteSamplesOf(
  unmetered: Deps,
  filter: Pick<SourceFilter, 'keyId' | 'tenant' | 'requestId'>,
  calls = createCallBudget(),
): Promise<DeletedSamples> {
  const deps = meterDeps(unmetered, calls)
  const { db } = deps
  await insertTombstone(db, { ...filter, createdAt: deps.nowMs() })
  const sources = await sourcesOf(deps, filter)
  const kept = await countExpired(db)
  const names = [...(await listDomains(db)).map(({ name }) => name), UNASSIGNED]
  // Whatever is left of the budget, and before anything is deleted, so that a failure loses nothing.
  const ids = await insertPendingDeletions(
    unmetered.db,
    names.map((domain) => ({ ...filter, domain, doneUntil: REQUEST_RUNNING, createdAt: deps.nowMs() })),
  )
  const numbers = new Map<string, DeletedNumbers>()
  try {
    const { left, ...result } = await deleteEverywhere(deps, names, sources, numbers)
    await settlePendingDeletions(unmetered.db, ids, left, deps.nowMs())
    return { ...result, kept }
  } catch (error) {
    await recordFailedDeletion(unmetered, 'all domains', filter, numbers)
    throw error
  }
}

/**
 * Deletes texts in some domains, as far as the budget of calls goes.
 *
 * @param numbers counts what was deleted by domain, also if this throws
 * @returns what a response says, and `doneUntil` of what is left, by domain
 */
async function deleteEverywhere(
  deps: Deps,
  names: readonly string[],
  sources: SourceFilter,
  numbers: Map<string, DeletedNumbers>,
): Promise<Pick<DeletedSamples, 'domains' | 'pending'> & { left: Map<string, string> }> {
  const { calls } = deps
  // First everywhere, so that no update that begins freezes them.
  for (const domain of names) {
    if (calls.left === 0) break
    const deleted = await deps.reservoir(domain).deleteTexts(sources)
    numbers.set(domain, { ...nothingDeleted(), deleted })
  }
  const left = new Map<string, string>()
  const result: Pick<DeletedSamples, 'domains' | 'pending'> = { domains: [], pending: [] }
  for (const domain of names) {
    const number = numbers.get(domain)
    if (number === undefined) {
      left.set(domain, SAMPLES_LEFT)
      result.pending.push({ domain, update: null })
      continue
    }
    const { deleted } = number
    if (calls.left < DOMAIN_CALLS) {
      left.set(domain, '')
      result.pending.push({ domain, update: null })
      if (deleted > 0) result.domains.push({ domain, deleted, deleted_frozen: 0, updates: [], masks: [] })
      continue
    }
    const walk = { after: '', mayHold: () => deleted > 0 }
    const { hashes, reader, made, doneUntil } = await deleteUnread(deps, domain, sources, walk, number)
    if (doneUntil !== undefined) {
      left.set(domain, doneUntil)
      result.pending.push({ domain, update: reader?.id ?? null })
    }
    const { deleted_frozen } = number
    if (deleted + hashes.length > 0) result.domains.push({ domain, deleted, deleted_frozen, ...made })
  }
  return { ...result, left }
}

/**
 * Continues the deletions that were left to later calls, or to updates that have ended since: of texts, then of whole domains. An
 * update for which a deletion has waited for a week is cancelled, and after two weeks any for which it waits.
 */
export async function finishDeletions(deps: Deps): Promise<void> {
  await finishTexts(deps)
  await finishDomains(deps)
}

async function finishDomains(deps: Deps): Promise<void> {
  for (const { domain, createdAt } of await listDomainDeletions(deps.db, MAX_CONTINUED, deps.nowMs())) {
    try {
      const running = await listRunningUpdates(deps.db)
      const [reader] = readersAmong(running)
      if (!reader) await finishDomain(deps, domain, { createdAt, running })
      else if (hasWaitedTooLong(deps.nowMs(), createdAt, reader)) await cancelReader(deps, reader, domain)
    } catch (error) {
      if (isCallsUsedUp(error)) throw error
      console.error(`The deletion of the domain '${domain}' failed and is tried again:`, error)
    }
  }
}

async function finishDomain(
  deps: Deps,
  domain: string,
  { createdAt, running }: { createdAt: number; running: readonly UpdateRow[] },
): Promise<void> {
  const known = new Set(running.map(({ id }) => id))
  const kept = meterDeps(deps, keepCalls(deps.calls, AUDIT_CALLS))
  if (!(await deleteStored(kept, domain, SERVICE_ACTOR, known))) return
  await recordAudit(deps, {
    actor: SERVICE_ACTOR,
    action: 'domain.deletion_finished',
    target: domain,
    before: { since: new Date(createdAt).toISOString() },
  })
}

async function finishTexts(deps: Deps): Promise<void> {
  await deleteLeftSamples(deps)
  for (const deletion of await listPendingDeletions(deps.db, MAX_CONTINUED)) {
    if (!deps.calls.reserve(PENDING_CALLS)) return
    try {
      await continueDeletion(deps, deletion)
    } catch (error) {
      if (isCallsUsedUp(error)) throw error
      console.error(`The deletion of frozen texts of '${deletion.domain}' failed and is tried again:`, error)
    }
  }
}

/** Deletes samples in domains that a request could not call, and leaves calls for the frozen texts of one domain. */
async function deleteLeftSamples(deps: SampleDeletionDeps): Promise<void> {
  const begun: number[] = []
  for (const deletion of await listUnbegunDeletions(deps.db, MAX_CONTINUED, deps.nowMs())) {
    if (!deps.calls.reserve(SAMPLE_CALLS + BEGUN_CALLS + PENDING_CALLS)) break
    const { id, domain, createdAt, doneUntil } = deletion
    const filter = filterOf(deletion)
    const isRetry = doneUntil !== SAMPLES_LEFT
    try {
      if (!isRetry) await setDoneUntil(deps.db, id, SAMPLES_BEGUN)
      const deleted = await deps.reservoir(domain).deleteTexts(await sourcesOf(deps, filter))
      if (deleted > 0 || isRetry) {
        await recordDeleted(deps, deleted, {
          actor: SERVICE_ACTOR,
          action: 'samples.deletion_continued',
          target: domain,
          before: { ...filter, since: new Date(createdAt).toISOString() },
          after: { deleted },
          reason: isRetry ? AFTER_FAILURE : '',
        })
      }
      begun.push(id)
    } catch (error) {
      if (isCallsUsedUp(error)) throw error
      console.error(`The deletion of samples of '${domain}' failed and is tried again:`, error)
    }
  }
  // An update that has begun until now may have read them, so only now do they count as begun.
  if (begun.length > 0) await setSamplesDeleted(deps.db, begun, deps.nowMs())
}

function filterOf({
  keyId,
  tenant,
  requestId,
}: PendingDeletion): Pick<SourceFilter, 'keyId' | 'tenant' | 'requestId'> {
  return { keyId: keyId ?? undefined, tenant: tenant ?? undefined, requestId: requestId ?? undefined }
}

async function continueDeletion(deps: Deps, deletion: PendingDeletion): Promise<void> {
  const { db } = deps
  const { id, domain, createdAt, doneUntil: before } = deletion
  const filter = filterOf(deletion)
  const isRetry = before === FROZEN_BEGUN
  const after = isRetry ? '' : before
  let stored = before
  const walk = {
    after,
    // One that has been running since the deletion may still freeze what it had read before, unless a walk began without it.
    mayHold: (update: UpdateRow) => after === '' && update.createdAt <= createdAt,
    async begin() {
      stored = FROZEN_BEGUN
      await setDoneUntil(db, id, stored)
    },
  }
  const numbers = nothingDeleted()
  const sources = await sourcesOf(deps, filter)
  const { made, reader, doneUntil } = await deleteUnread(deps, domain, sources, walk, numbers).catch(
    async (error: unknown) => {
      await recordFailedDeletion(deps, domain, filter, new Map([[domain, numbers]]))
      throw error
    },
  )
  const { deleted_frozen } = numbers
  const isFinished = doneUntil === undefined
  if (isFinished || isRetry || deleted_frozen > 0) {
    await recordDeleted(deps, deleted_frozen, {
      actor: SERVICE_ACTOR,
      action: isFinished ? 'samples.deletion_finished' : 'samples.deletion_continued',
      target: domain,
      before: { ...filter, since: new Date(createdAt).toISOString() },
      after: { deleted_frozen, ...made },
      reason: isRetry ? AFTER_FAILURE : '',
    })
  }
  if (isFinished) await forgetPendingDeletion(db, id)
  else if (doneUntil !== stored) await setDoneUntil(db, id, doneUntil)
  // Last, because it fails where it is too late.
  if (reader && hasWaitedTooLong(deps.nowMs(), createdAt, reader)) await cancelReader(deps, reader, domain)
}

function hasWaitedTooLong(nowMs: number, sinceMs: number, reader: UpdateRow): boolean {
  return nowMs - Math.max(sinceMs, reader.createdAt) >= MAX_WAIT_MS || nowMs - sinceMs >= MAX_TOTAL_WAIT_MS
}

async function cancelReader(deps: Deps, { id }: UpdateRow, domain: string): Promise<void> {
  try {
    await cancelUpdate(meterDeps(deps, keepCalls(deps.calls, CANCELLED_CALLS)), id)
  } catch (error) {
    // The calls may be used up after it was cancelled, while it gives its texts back.
    if (!isCallsUsedUp(error) || (await findUpdate(deps.db, id))?.state !== 'cancelled') throw error
  }
  await recordAudit(deps, {
    actor: SERVICE_ACTOR,
    action: 'update.cancelled',
    target: id,
    reason: `A deletion of texts of '${domain}' has waited too long for it, or for it and others before it.`,
  })
}

/**
 * Deletes matching frozen texts of a domain, as far as the budget of calls goes, unless an update may read them.
 *
 * @param walk.after the last dataset that was looked through before
 * @param walk.mayHold whether an update may hold out matching samples at this moment that it had read before they were deleted
 * @param walk.begin called before texts are deleted
 * @param numbers counts what was deleted, also if this throws
 * @returns the datasets that had such texts and what was made of them, the update that may have read or frozen some, and the last
 * dataset that need not be looked through again; undefined if nothing is left to do
 */
async function deleteUnread(
  deps: Deps,
  domain: string,
  sources: SourceFilter,
  walk: { after: string; mayHold: (update: UpdateRow) => boolean; begin?: () => Promise<void> },
  numbers: DeletedNumbers,
) {
  const { after, mayHold } = walk
  const found =
    domain === UNASSIGNED
      ? { hashes: [], doneUntil: undefined }
      : await findAffectedDatasets(deps, domain, sources, after)
  const { hashes } = found
  const made = await listMadeOf(deps.db, domain, hashes)
  const mayFreeze = (update: UpdateRow) =>
    domain !== UNASSIGNED && (mayHold(update) || update.domains.includes(domain))
  const before = (await readers(deps)).find((update) => hashes.length > 0 || mayFreeze(update))
  if (before) return { hashes, reader: before, made, doneUntil: mayFreeze(before) ? '' : after }
  if (hashes.length > 0) await walk.begin?.()
  Object.assign(numbers, made)
  // Calls are kept for recording the deletion, in case they run out within a dataset.
  const kept = meterDeps(deps, keepCalls(deps.calls, LAST_CALLS))
  const isFinished = await deleteFrozenTexts(kept, domain, sources, hashes, numbers)
  // The next walk looks for updates before it goes on.
  if (!isFinished) return { hashes, reader: undefined, made, doneUntil: after }
  // One that began meanwhile may have frozen texts after they were looked for.
  const late = (await readers(deps)).find(mayFreeze)
  return { hashes, reader: late, made, doneUntil: late ? '' : found.doneUntil }
}

/** Returns the updates that may read frozen texts, oldest first. */
async function readers({ db }: Pick<Deps, 'db'>): Promise<UpdateRow[]> {
  return readersAmong(await listRunningUpdates(db))
}

function readersAmong(running: readonly UpdateRow[]): UpdateRow[] {
  return running.filter(({ state }) => state !== 'canary').toSorted((a, b) => a.createdAt - b.createdAt)
}

async function sourcesOf(
  { db }: Pick<Deps, 'db'>,
  filter: Pick<SourceFilter, 'keyId' | 'tenant' | 'requestId'>,
): Promise<SourceFilter> {
  return { ...filter, tenantKeyIds: filter.tenant === undefined ? [] : await listKeyIds(db, filter.tenant) }
}
