import { createHash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readDataset } from '../../../../gpu-node/src/pruning/calibration/dataset-text.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

test('a dataset gives its texts in order, and another or a malformed file is an error', async () => {
  const dir = temporaryDir()
  const path = join(dir, 'dataset.ndjson')
  const write = async (content: string | Uint8Array) => {
    await writeFile(path, content)
    return createHash('sha256').update(content).digest('hex')
  }
  const hash = await write('{"text":"one"}\n\n{"text":"two","more":1}\n')
  expect(await readDataset(path, hash)).toEqual(['one', 'two'])
  await expect(readDataset(path, '0'.repeat(64))).rejects.toMatchObject({ code: 'invalid_request' })
  for (const bad of ['{"text":""}', '{"txt":"x"}', 'text', Buffer.from([0xff])]) {
    await expect(readDataset(path, await write(bad))).rejects.toMatchObject({ code: 'invalid_request' })
  }
})
