import { inRandomOrder } from '../../runtime/random-order.ts'
import { DAY_MS } from '@copal/shared/day.ts'
import { AppError } from '@copal/shared/errors.ts'
import {
  MAX_STATISTICS_MANIFEST_BYTES,
  STATISTICS_MANIFEST,
  STATISTICS_PIECE_BYTES,
  statisticsManifest,
  type StatisticsManifest,
} from '@copal/shared/wire/statistics-manifest.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { listExpired } from '../db/queries/expiry-queries.ts'
import {
  forgetStatistics,
  insertStatistics,
  listContained,
  listOrphanedStatistics,
  listStatisticsOf,
  recordedStatistics,
  type StatisticsRow,
} from '../db/queries/statistics-queries.ts'
import { STATISTICS_PREFIX, statisticsKey } from './artifact-keys.ts'
import { requireSizedBody, storageError } from './mask-files.ts'
import { shardAt } from './shards.ts'

type StatisticsDeps = Pick<Deps, 'db' | 'artifacts'>

/** Artifacts that are looked up one by one at most. */
const MAX_LOOKED_UP = 50
/** How long files are kept until their manifest arrives. */
const UNFINISHED_LIFETIME_MS = DAY_MS
/** A sweep looks through the artifacts whose hash begins with two digits, so 256 sweeps, 21 hours, look through all. */
const SHARD_DIGITS = 2
/** Calls that a page takes: its keys, which of them are recorded, and the deletion of the rest. */
const PAGE_CALLS = 3
/** Calls that the deletion of an artifact of a thousand files takes: its record, its files, and their deletion. */
const DELETION_CALLS = 3
/** Pages of a thousand keys that a sweep reads at most. */
const MAX_SWEPT_PAGES = 20

/**
 * Streams a piece of an artifact into R2, which checks its hash. Sending the same piece again changes nothing.
 *
 * @param piece the SHA-256 of the piece
 * @throws AppError `invalid_request`, `body_too_large`, `mask_invalid`, `service_unavailable`
 */
export async function storeStatisticsPiece(
  artifacts: R2Bucket,
  artifact: string,
  piece: string,
  request: Pick<Request, 'headers' | 'body'>,
): Promise<void> {
  const body = requireSizedBody(request, 'A piece of statistics', STATISTICS_PIECE_BYTES)
  try {
    await artifacts.put(statisticsKey(artifact, piece), body, { sha256: piece })
  } catch (cause) {
    throw storageError('part', piece, cause)
  }
}

/**
 * Completes an artifact whose pieces are in R2: stores its manifest, records it, and deletes the artifacts that it contains.
 *
 * @throws AppError `not_found` when a piece is missing or a dataset was deleted; the artifact is deleted in the second case
 */
export async function completeStatistics(
  deps: StatisticsDeps & Pick<Deps, 'nowMs'>,
  manifest: StatisticsManifest,
  bytes: Uint8Array<ArrayBuffer>,
): Promise<void> {
  const { artifact, model, domain, parts } = manifest
  const sizes = await storedSizes(deps.artifacts, artifact)
  let total = bytes.byteLength
  for (const { sha256, bytes: expected } of manifest.blocks.flatMap(({ pieces }) => pieces)) {
    if (sizes.get(sha256) !== expected)
      throw new AppError(
        'not_found',
        `Piece ${sha256} of the statistics ${artifact} was not sent. Send it first.`,
      )
    total += expected
  }
  await deps.artifacts.put(statisticsKey(artifact, STATISTICS_MANIFEST), bytes)
  const datasets = parts.map(({ datasetSha256 }) => datasetSha256).toSorted()
  const row = { model, artifact, domain, datasets, bytes: total, createdAt: deps.nowMs() }
  if (!(await insertStatistics(deps.db, row))) {
    await deleteStatistics(deps, artifact)
    throw new AppError(
      'not_found',
      `The statistics ${artifact} sum a dataset that is not of the domain '${domain}' or was deleted. They were not stored.`,
    )
  }
  await deleteContained(deps, row, manifest)
}

/**
 * Returns those of some recorded artifacts whose files are there. A few are looked up by their manifests, which are stored last. Of
 * many, a call finds a thousand by their names alone, because an event may not make a call for each.
 */
export async function findStored(
  { artifacts }: Pick<Deps, 'artifacts'>,
  recorded: readonly string[],
): Promise<Set<string>> {
  const stored = new Set<string>()
  if (recorded.length <= MAX_LOOKED_UP) {
    for (const artifact of recorded)
      if (await artifacts.head(statisticsKey(artifact, STATISTICS_MANIFEST))) stored.add(artifact)
    return stored
  }
  let cursor: string | undefined
  do {
    const page = await artifacts.list({
      prefix: STATISTICS_PREFIX,
      delimiter: '/',
      ...(cursor === undefined ? {} : { cursor }),
    })
    for (const name of page.delimitedPrefixes) stored.add(name.slice(STATISTICS_PREFIX.length, -1))
    cursor = page.truncated ? page.cursor : undefined
  } while (cursor !== undefined)
  return new Set(recorded.filter((artifact) => stored.has(artifact)))
}

/** Returns the manifest of an artifact; undefined if it is gone or not one. */
async function readStatisticsManifest(
  artifacts: R2Bucket,
  artifact: string,
): Promise<StatisticsManifest | undefined> {
  const object = await artifacts.get(statisticsKey(artifact, STATISTICS_MANIFEST))
  if (!object || object.size > MAX_STATISTICS_MANIFEST_BYTES) return undefined
  return statisticsManifest.safeParse(await object.json().catch(() => undefined)).data
}

/**
 * Deletes the artifacts that sum one of some datasets: call it after the datasets were deleted, replaced or retired, because
 * a sum cannot be separated. Nodes calibrate again what is still counted.
 */
export async function deleteStatisticsOf(deps: StatisticsDeps, datasets: readonly string[]): Promise<void> {
  if (datasets.length === 0) return
  for (const artifact of await listStatisticsOf(deps.db, datasets)) await deleteStatistics(deps, artifact)
}

/**
 * Deletes artifacts whose datasets do not exist or never count any more, and some of the files that a node sent without completing
 * the artifact within a day: those whose turn it is.
 */
export async function deleteStaleStatistics({
  calls,
  db,
  artifacts,
  nowMs,
}: StatisticsDeps & Pick<Deps, 'calls' | 'nowMs'>): Promise<void> {
  for (const orphan of inRandomOrder(await listOrphanedStatistics(db))) {
    if (calls.left < DELETION_CALLS + PAGE_CALLS) break
    await deleteStatistics({ db, artifacts }, orphan)
  }
  const oldestMs = nowMs() - UNFINISHED_LIFETIME_MS
  const prefix = STATISTICS_PREFIX + shardAt(nowMs(), SHARD_DIGITS)
  let cursor: string | undefined
  for (let page = 0; page < MAX_SWEPT_PAGES && calls.left >= PAGE_CALLS; page++) {
    const listed = await artifacts.list({
      prefix,
      ...(cursor === undefined ? {} : { cursor }),
    })
    const old = listed.objects.filter(({ uploaded }) => uploaded.getTime() < oldestMs)
    const artifactOf = (key: string) => key.slice(STATISTICS_PREFIX.length).split('/')[0] ?? ''
    const recorded = await recordedStatistics(db, [...new Set(old.map(({ key }) => artifactOf(key)))])
    const unrecorded = old.map(({ key }) => key).filter((key) => !recorded.has(artifactOf(key)))
    if (unrecorded.length > 0) await artifacts.delete(unrecorded)
    if (!listed.truncated) return
    cursor = listed.cursor
  }
}

/** Deletes an artifact. Its rows go first, so that no new job names it. */
async function deleteStatistics({ db, artifacts }: StatisticsDeps, artifact: string): Promise<void> {
  await forgetStatistics(db, artifact)
  const keys = [...(await storedSizes(artifacts, artifact)).keys()].map((file) =>
    statisticsKey(artifact, file),
  )
  for (let first = 0; first < keys.length; first += 1000)
    await artifacts.delete(keys.slice(first, first + 1000))
}

/**
 * Deletes the artifacts that another one contains, unless they have sensitivities and that one has none. The largest with a
 * dataset whose texts have expired stays until the next one: it counts if the last update is rolled back.
 */
async function deleteContained(
  deps: StatisticsDeps,
  row: StatisticsRow,
  manifest: StatisticsManifest,
): Promise<void> {
  const others = await listContained(deps.db, row)
  const expired = await listExpired(deps.db, row.datasets)
  const [spare] = others
    .filter(({ datasets }) => datasets.length < row.datasets.length)
    .filter(({ datasets }) => datasets.some((dataset) => expired.has(dataset)))
    .toSorted((a, b) => b.datasets.length - a.datasets.length)
  for (const { artifact } of others) {
    if (artifact === spare?.artifact) continue
    const contained = await readStatisticsManifest(deps.artifacts, artifact)
    if (contained && hasSensitivities(contained) && !hasSensitivities(manifest)) continue
    await deleteStatistics(deps, artifact)
  }
}

function hasSensitivities({ blocks }: StatisticsManifest): boolean {
  return Object.keys(blocks[0]?.tensors ?? {}).some((name) => name.endsWith('.sensitivity'))
}

/** Returns the sizes of the stored files of an artifact, by name. */
async function storedSizes(artifacts: R2Bucket, artifact: string): Promise<Map<string, number>> {
  const prefix = statisticsKey(artifact)
  const sizes = new Map<string, number>()
  let cursor: string | undefined
  for (;;) {
    const listed = await artifacts.list({ prefix, ...(cursor === undefined ? {} : { cursor }) })
    for (const { key, size } of listed.objects) sizes.set(key.slice(prefix.length), size)
    if (!listed.truncated) return sizes
    cursor = listed.cursor
  }
}
