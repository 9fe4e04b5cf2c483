import type { DatasetRef, TextSample } from '@copal/shared/wire/adaptation-jobs.ts'
import { sha256 } from '@copal/shared/wire/signature.ts'
import { isCallsUsedUp } from '../../calls/call-budget.ts'
import type { SampleSource, StoredText } from '../../contracts/reservoir-object.ts'
import { findUnusedDatasets, forgetDatasets, insertDataset } from '../db/queries/dataset-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { datasetKey } from './artifact-keys.ts'
import { claimFile } from './file-claims.ts'
import { deleteStatisticsOf } from './statistics-files.ts'

/** R2's maximum of objects that a call deletes. */
const MAX_DELETED_AT_ONCE = 1_000

/** A line of a dataset. The domain makes equal texts of two domains two files, so that deleting one keeps the other. */
type DatasetLine = TextSample & { domain: string; sources: SampleSource[] }

/** A line as earlier versions wrote it: with the key of one request, or without even that. */
type OldDatasetLine = TextSample & { key?: string }

/**
 * Freezes texts as a dataset: newline-delimited JSON in R2, named by its SHA-256. Equal texts give the same dataset.
 *
 * @param createdAt the age that it counts as; the current time unless it replaces an older dataset
 */
export async function freezeDataset(
  deps: Pick<Deps, 'db' | 'artifacts' | 'nowMs'>,
  domain: string,
  texts: readonly StoredText[],
  createdAt = deps.nowMs(),
): Promise<DatasetRef> {
  const lines = texts.map(({ text, sources }) => {
    const line: DatasetLine = { domain, sources: sources.map(copySource), text }
    return `${JSON.stringify(line)}\n`
  })
  // A cast instead of a copy, because it may be large; the encoder's buffer is never shared.
  const bytes = new TextEncoder().encode(lines.join('')) as Uint8Array<ArrayBuffer>
  const hash = await sha256(bytes)
  await claimFile(deps, datasetKey(hash))
  await deps.artifacts.put(datasetKey(hash), bytes, { sha256: hash })
  const dataset = { sha256: hash, domain, samples: texts.length, bytes: bytes.byteLength }
  await insertDataset(deps.db, { ...dataset, createdAt })
  return dataset
}

/** Copies a source with its fields in one order, so that equal sources give equal lines. */
function copySource({ requestId, keyId, tenant, conversation, consentVersion }: SampleSource): SampleSource {
  return { requestId, keyId, tenant, conversation, consentVersion }
}

/**
 * Returns the texts of a dataset, undefined if it is deleted. Texts of old datasets name only a key as their source, or no
 * source at all.
 */
export async function readDataset(
  { artifacts }: Pick<Deps, 'artifacts'>,
  hash: string,
): Promise<StoredText[] | undefined> {
  const object = await artifacts.get(datasetKey(hash))
  if (!object) return undefined
  const lines = (await object.text()).split('\n').slice(0, -1)
  return lines.map((line) => {
    const parsed = JSON.parse(line) as DatasetLine | OldDatasetLine
    const { text } = parsed
    return { text, sources: 'sources' in parsed ? parsed.sources : oldSources(parsed) }
  })
}

function oldSources({ key }: OldDatasetLine): SampleSource[] {
  if (key === undefined) return []
  return [{ requestId: '', keyId: key, tenant: '', conversation: '', consentVersion: 0 }]
}

/** Deletes the files of any number of datasets. */
export async function deleteDatasetFiles(
  { artifacts }: Pick<Deps, 'artifacts'>,
  hashes: readonly string[],
): Promise<void> {
  for (let first = 0; first < hashes.length; first += MAX_DELETED_AT_ONCE)
    await artifacts.delete(hashes.slice(first, first + MAX_DELETED_AT_ONCE).map(datasetKey))
}

/**
 * Deletes those of some datasets that nothing needs any more. If that fails, it is logged and the texts stay.
 *
 * @throws CallsUsedUp if the event may make no more calls
 */
export async function deleteUnusedDatasets(
  deps: Pick<Deps, 'db' | 'artifacts' | 'nowMs'>,
  hashes: readonly string[],
): Promise<void> {
  try {
    const unused = await findUnusedDatasets(deps.db, hashes, deps.nowMs())
    if (unused.length === 0) return
    await deleteDatasetFiles(deps, unused)
    await forgetDatasets(deps.db, unused)
    await deleteStatisticsOf(deps, unused)
  } catch (error) {
    if (isCallsUsedUp(error)) throw error
    console.error(`Cannot delete unused ones of the datasets ${hashes.join(', ')}; their texts stay:`, error)
  }
}
