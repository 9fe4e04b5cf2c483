import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir } from 'node:fs/promises'
import { hostname } from 'node:os'
import { basename, join } from 'node:path'
import { expect, test } from 'vitest'
import { startTicks } from '../../../gpu-node/src/platform/process-identity.ts'
import { createScratch } from '../../../gpu-node/src/platform/scratch.ts'
import { temporaryDir } from '../../support/harness/temporary.ts'

test('directories of ended processes are removed, also of one whose id another process has by now', async () => {
  const cacheDir = temporaryDir()
  const ended = spawn(process.execPath, ['-e', ''])
  await once(ended, 'exit')
  const own = await createScratch(cacheDir)
  const host = hostname()
  const other = `${host}~${process.ppid}~${startTicks(process.ppid) ?? ''}~other`
  // Versions before this one recorded no start.
  const earlier = `${host}~${process.pid}~earlier`
  const restarted = startTicks(process.pid) === undefined ? [] : [`${host}~${process.pid}~1~restarted`]
  const left = [...restarted, `${host}~${ended.pid}~~left`, `${host}~${ended.pid}~earlier`]
  for (const name of [other, earlier, ...left]) await mkdir(join(cacheDir, 'tmp', name))
  const next = await createScratch(cacheDir)
  const kept = [basename(own), other, earlier, basename(next)]
  expect(new Set(await readdir(join(cacheDir, 'tmp')))).toEqual(new Set(kept))
})
