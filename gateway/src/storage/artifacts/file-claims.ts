import { DAY_MS } from '@copal/shared/day.ts'
import { AppError } from '@copal/shared/errors.ts'
import type { Deps } from '../../contracts/bindings.ts'
import {
  claimStoredFile,
  claimUnusedFiles,
  endDeletions,
  forgetOldClaims,
} from '../db/queries/file-claim-queries.ts'

type ClaimDeps = Pick<Deps, 'db' | 'nowMs'>

/** How long a file stays that was claimed: within that time the database names it. */
const CLAIM_MS = DAY_MS
/** How long after its claim a deletion may begin; later the sweep leaves the files to the next one. */
const DECIDE_MS = 60 * 1000
/** After this time a deletion was broken off. Shorter than nodes go on sending a mask that they cannot store, some eight minutes. */
const BROKEN_OFF_MS = 5 * 60 * 1000
/** The pauses before each try to claim a file. In them a deletion ends, which is one call of R2. */
const PAUSES_MS = [0, 100, 400, 1_000, 2_000]
/** Calls of {@link deleteUnclaimed}, without those of its options. */
export const DELETION_CALLS = 3

/**
 * Claims a file before it is stored, or before something is recorded that needs it: no sweep deletes it for a day.
 *
 * R2 cannot delete a file under a condition. So D1, which executes one statement at a time, decides: a file is deleted by a sweep only
 * after a claim of its own, which is refused if the file was claimed here within a day; and this one is refused until a deletion has
 * ended.
 *
 * @throws AppError `service_unavailable` if a sweep is deleting the file and does not end soon
 */
export async function claimFile({ db, nowMs }: ClaimDeps, key: string): Promise<void> {
  for (const pauseMs of PAUSES_MS) {
    if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs))
    if (await claimStoredFile(db, key, { brokenOffMs: nowMs() - BROKEN_OFF_MS, nowMs: nowMs() })) return
  }
  const message = `The file ${key} is being deleted, because nothing needed it. Try again in 5 s.`
  throw new AppError('service_unavailable', message, { retryAfterS: 5 })
}

/** What decides about files that nobody has claimed. No other call can claim them meanwhile. */
export interface DeletionOptions {
  /** Returns which of some files are kept after all. */
  readonly keptOf: (keys: readonly string[]) => Promise<ReadonlySet<string>>
  /** Forgets the records of files, which are deleted by then. */
  readonly forget?: (keys: readonly string[]) => Promise<void>
}

/**
 * Deletes those of up to a thousand files that are not kept and that nobody has claimed within a day. If R2 fails meanwhile, they cannot
 * be claimed for five minutes, because R2 may still delete them.
 *
 * @returns the number of deleted files
 */
export async function deleteUnclaimed(
  { db, artifacts, nowMs }: ClaimDeps & Pick<Deps, 'artifacts'>,
  keys: readonly string[],
  { keptOf, forget }: DeletionOptions,
): Promise<number> {
  if (keys.length === 0) return 0
  const claimedMs = nowMs()
  const claimed = await claimUnusedFiles(db, keys, { beforeMs: claimedMs - CLAIM_MS, nowMs: claimedMs })
  if (claimed.length === 0) return 0
  let isDeleting = false
  try {
    const kept = await keptOf(claimed)
    const garbage = claimed.filter((key) => !kept.has(key))
    if (garbage.length === 0 || nowMs() - claimedMs > DECIDE_MS) return 0
    isDeleting = true
    await artifacts.delete(garbage)
    isDeleting = false
    await forget?.(garbage)
    return garbage.length
  } finally {
    if (!isDeleting) await endDeletions(db, claimed)
  }
}

/** Forgets the claims that keep no file any more, and those of deletions that were broken off. */
export async function forgetClaims({ db, nowMs }: ClaimDeps): Promise<void> {
  await forgetOldClaims(db, { storedMs: nowMs() - CLAIM_MS, deletedMs: nowMs() - BROKEN_OFF_MS })
}
