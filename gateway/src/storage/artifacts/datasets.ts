import type { DatasetRef, TextSample } from '@copal/shared/wire/adaptation-jobs.ts'
import { sha256 } from '@copal/shared/wire/signature.ts'
import type { StoredText } from '../../contracts/reservoir-object.ts'
import { findUnusedDatasets, forgetDatasets, insertDataset } from '../db/queries/dataset-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { datasetKey } from './artifact-keys.ts'

/** Beside the sample its domain, or another's with the same texts would be deleted with it, and the id of its key. */
type DatasetLine = TextSample & { domain: string; key: string }

/** Freezes texts as a dataset: newline-delimited samples in R2, named by their SHA-256. The same texts give the same. */
export async function freezeDataset(
  deps: Pick<Deps, 'db' | 'artifacts' | 'nowMs'>,
  domain: string,
  texts: readonly StoredText[],
): Promise<DatasetRef> {
  const lines = texts.map(({ text, keyId }) => {
    const line: DatasetLine = { domain, key: keyId, text }
    return `${JSON.stringify(line)}\n`
  })
  // Not copied, unlike elsewhere: it may be large, and the encoder's buffer is no shared one.
  const bytes = new TextEncoder().encode(lines.join('')) as Uint8Array<ArrayBuffer>
  const hash = await sha256(bytes)
  await deps.artifacts.put(datasetKey(hash), bytes, { sha256: hash })
  const dataset = { sha256: hash, domain, samples: texts.length }
  await insertDataset(deps.db, { ...dataset, bytes: bytes.byteLength, createdAt: deps.nowMs() })
  return dataset
}

/** The texts of a dataset; of one that was frozen before lines named their key, `keyId` is empty. None once it is deleted. */
export async function readDataset(
  { artifacts }: Pick<Deps, 'artifacts'>,
  hash: string,
): Promise<StoredText[] | undefined> {
  const object = await artifacts.get(datasetKey(hash))
  if (!object) return undefined
  const lines = (await object.text()).split('\n').slice(0, -1)
  return lines.map((line) => {
    const { text, key = '' } = JSON.parse(line) as Pick<DatasetLine, 'text'> & Partial<DatasetLine>
    return { text, keyId: key }
  })
}

/** Deletes the texts of those of some datasets that nothing needs any more. A fault is logged: the texts stay then. */
export async function deleteUnusedDatasets(
  deps: Pick<Deps, 'db' | 'artifacts'>,
  hashes: readonly string[],
): Promise<void> {
  try {
    const unused = await findUnusedDatasets(deps.db, hashes)
    if (unused.length === 0) return
    await deps.artifacts.delete(unused.map(datasetKey))
    await forgetDatasets(deps.db, unused)
  } catch (error) {
    console.error(`The datasets ${hashes.join(', ')} stay, though nothing may need them any more:`, error)
  }
}
