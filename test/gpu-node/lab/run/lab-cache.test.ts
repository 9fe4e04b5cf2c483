import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openLabCache } from '../../../../gpu-node/lab/run/lab-cache.ts'
import { createMaskFileWriter } from '../../../../gpu-node/src/model/mask-file/mask-file-writer.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

test('reopening the cache removes the unfinished mask of a killed process and keeps finished ones', async () => {
  const dir = temporaryDir()
  const { masksDir } = await openLabCache(dir)
  const meta = { method: 'magnitude', pattern: '0.5', patterns: {}, scope: 'row' as const, domains: [] }
  const about = { baseSha256: 'ab'.repeat(32), parent: null, created: '2026-01-01T00:00:00.000Z' }
  const shapes = new Map([['w', [8, 8] as const]])
  const killed = await createMaskFileWriter(masksDir, { ...meta, ...about }, shapes, 'mask')
  writeFileSync(join(masksDir, `${'0'.repeat(64)}.safetensors`), '')
  expect(readdirSync(masksDir)).toHaveLength(2)
  await openLabCache(dir)
  expect(readdirSync(masksDir)).toEqual([`${'0'.repeat(64)}.safetensors`])
  await killed.discard()
})
