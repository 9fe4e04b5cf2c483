import { createHash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { DatasetFile } from '../../../gpu-node/src/pruning/runs/calibration-task.ts'
import { WORDS } from '../../../gpu-node/bench/models/words.ts'
import { createRandom } from '../harness/random.ts'

/** Writes a dataset file of seeded texts, 40 words each. */
export function writeWordsDataset(
  dir: string,
  domain: string,
  seed: number,
  texts = 6,
): Promise<DatasetFile & { path: string }> {
  const random = createRandom(seed)
  const text = () => Array.from({ length: 40 }, () => WORDS[Math.floor(random() * WORDS.length)]).join(' ')
  return writeDataset(dir, domain, Array.from({ length: texts }, text))
}

/** Writes a dataset file of these texts. */
export async function writeDataset(
  dir: string,
  domain: string,
  texts: readonly string[],
): Promise<DatasetFile & { path: string }> {
  const bytes = Buffer.from(texts.map((text) => `${JSON.stringify({ text })}\n`).join(''))
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  const path = join(dir, `${sha256}.ndjson`)
  await writeFile(path, bytes)
  return { path, sha256, domain }
}
