import { randomUUID } from 'node:crypto'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openNodeFiles } from '../../../gpu-node/src/node/node-home.ts'
import type { GatewayClient } from '../../../gpu-node/src/serving/control/gateway-client.ts'
import { memoryLog } from '../../support/doubles/memory-log.ts'
import { temporaryDir } from '../../support/harness/temporary.ts'
import { tinyConfig } from '../../support/models/tiny-llama.ts'

test('what a killed node left of files that it was writing is removed at the next start, and nothing else', async () => {
  const home = temporaryDir()
  await mkdir(join(home, 'jobs'))
  const unfinished = () => `${randomUUID()}.partial`
  for (const name of ['notes.partial', `receipts.jsonl.${unfinished()}`, `node-state.json.${unfinished()}`])
    await writeFile(join(home, name), '{')
  for (const name of ['job-1.json', `job-1.json.${unfinished()}`])
    await writeFile(join(home, 'jobs', name), '{')
  await openNodeFiles(home, tinyConfig(), {} as GatewayClient, memoryLog())
  expect((await readdir(home)).toSorted()).toEqual(['jobs', 'node-state.json', 'notes.partial'])
  expect(await readdir(join(home, 'jobs'))).toEqual(['job-1.json'])
})
